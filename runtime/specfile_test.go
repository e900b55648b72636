package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Only a file of reasonable size is read: anything else would hold the command
// up for ever, or fill the memory.
func TestSpecMustBeAFile(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"pipe":      {func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is not a file"},
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "it is not a file"},
		"device":    {func(path string) error { return os.Symlink("/dev/zero", path) }, "it is not a file"},
		"loop":      {func(path string) error { return os.Symlink(specFile, path) }, "too many levels of symbolic links"},
		"huge": {func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "1099511627776 bytes are more than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.make(filepath.Join(dir, specFile)); err != nil {
				t.Fatal(err)
			}
			_, err := LoadBundle(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
}
