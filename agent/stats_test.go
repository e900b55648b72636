package agent

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

// fakeCgroup is a directory with these files.
func fakeCgroup(t *testing.T, files map[string]string) cgroup {
	t.Helper()
	c := cgroup{path: t.TempDir()}
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(c.path, name), []byte(text), 0o600))
	}
	return c
}

func TestStats(t *testing.T) {
	c := fakeCgroup(t, map[string]string{
		"memory.current": "10\n", "memory.max": "max\n", "memory.stat": "anon 4\nfile 5\n",
		"memory.events": "oom 2\noom_kill 1\n", "pids.current": "3\n", "pids.max": "9\n", "cpu.stat": "usage_usec 7\n",
	})
	got, err := c.stats()
	must(t, err)
	want := protocol.Stats{
		Memory: protocol.Memory{Usage: 10, Limit: math.MaxUint64, Stat: map[string]uint64{"anon": 4, "file": 5}},
		Pids:   protocol.Pids{Current: 3, Limit: 9}, CPU: map[string]uint64{"usage_usec": 7}, OOMKills: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A limit below what nobody can free is refused at once, and nothing is written.
func TestUpdateKillsNobody(t *testing.T) {
	c := fakeCgroup(t, map[string]string{
		"memory.current": "1000\n", "memory.peak": "2000\n", "memory.max": "5000", "memory.stat": "active_file 100\n", "memory.reclaim": "",
	})
	update := func(limit int64) error {
		return c.update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	}
	err := update(800)
	if err == nil || !strings.Contains(err.Error(), "unable to set memory limit to 800 (current usage: 1000, peak usage: 2000)") {
		t.Errorf("error is %v", err)
	}
	for file, want := range map[string]string{"memory.max": "5000", "memory.reclaim": ""} {
		if text, _ := os.ReadFile(filepath.Join(c.path, file)); string(text) != want {
			t.Errorf("%s is %q", file, text)
		}
	}
	must(t, update(3000))
	if text, _ := os.ReadFile(filepath.Join(c.path, "memory.max")); string(text) != "3000" {
		t.Errorf("memory.max is %q", text)
	}
}
