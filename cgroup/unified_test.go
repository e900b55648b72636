package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A cgroup on a host with cgroup v2 alone, from its making to its end. Integration
// tests run it in a guest, whose kernel has no other.
func TestUnified(t *testing.T) {
	if !cgroups.IsCgroup2UnifiedMode() || os.Geteuid() != 0 {
		t.Skip("needs root on a host with cgroup v2 alone")
	}
	file := filepath.Join(t.TempDir(), "cgroup.json")
	place := Place{Path: "/vmruntime-test-" + strconv.Itoa(os.Getpid()), Chosen: true}
	dir := filepath.Join("/sys/fs/cgroup", place.Path)
	if _, err := Make(place, file); err != nil {
		t.Fatal(err)
	}
	g, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	cat := exec.Command("cat")
	if _, err := cat.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cat.Process.Kill() }()
	if err := g.Enter(cat.Process.Pid); err != nil {
		t.Fatal(err)
	}
	limits := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000))},
		Pids:   &specs.LinuxPids{Limit: new(int64(5))},
	}
	if err := g.Limit(limits, false); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, dir, map[string]string{
		"memory.max": strconv.Itoa(64<<20 + MemoryOverhead), "pids.max": strconv.Itoa(5 + PidsOverhead),
		"cpu.max": "50000 100000", "cgroup.procs": strconv.Itoa(cat.Process.Pid),
	})
	if _, err := Make(place, file); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second container: %v", err)
	}
	if s, err := g.Stats(); err != nil || s.Pids.Current != 1 {
		t.Errorf("stats %+v, %v", s.Pids, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := g.Thaw(); err != nil {
		t.Error(err)
	}
	expectFiles(t, dir, map[string]string{"cgroup.freeze": "0"})
	if err := g.Squeeze(); err != nil {
		t.Error(err)
	}
	expectFiles(t, dir, map[string]string{"memory.swap.max": "0"})
	if limit, err := readNumber(dir, "memory.max"); err != nil || limit > 64<<20 {
		t.Errorf("squeezed to %d: %v", limit, err)
	}
	testKill(t, g)
	_ = cat.Process.Kill()
	_ = cat.Wait()
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the cgroup is still there")
	}
}

// testKill has who takes too much killed, and nobody else.
func testKill(t *testing.T, g *Group) {
	t.Helper()
	hungry := exec.Command("sh", "-c", "read line; exec tail /dev/zero")
	in, err := hungry.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hungry.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(hungry.Process.Pid); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := hungry.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("who takes too much: %v", err)
	}
	if n := g.OOMKills(); n != 1 {
		t.Errorf("%d were killed", n)
	}
}

func expectFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for file, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(got)) != text {
			t.Errorf("%s is %q, not %q: %v", file, got, text, err)
		}
	}
}
