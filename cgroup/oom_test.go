package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSqueeze(t *testing.T) {
	for name, c := range map[string]struct {
		files memoryFiles
		swap  string
	}{"v1": {memoryV1, "9388608"}, "v2": {memoryV2, "0"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range []string{c.files.limit, c.files.swap, c.files.reclaim} {
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, c.files.usage), []byte("1000000\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "memory.stat"), []byte("anon 5\nactive_file 10\ninactive_file 20\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.files.squeeze(dir); err != nil {
				t.Fatal(err)
			}
			// What is in the cache is known by memory.stat.
			for file, want := range map[string]string{c.files.limit: "9388608", c.files.swap: c.swap, c.files.reclaim: "30"} {
				if got, _ := os.ReadFile(filepath.Join(dir, file)); string(got) != want {
					t.Errorf("%s is %q, not %q", file, got, want)
				}
			}
			// The host may count no swap.
			if err := os.Remove(filepath.Join(dir, c.files.swap)); err != nil {
				t.Fatal(err)
			}
			if err := c.files.squeeze(dir); err != nil {
				t.Error(err)
			}
		})
	}
}
