package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestParsePlace(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		systemd bool
		want    Place
	}{
		"none":         {"", false, Place{Path: "vmruntime-c"}},
		"absolute":     {"/docker/x", false, Place{Path: "/docker/x", Chosen: true}},
		"none, scope":  {"", true, Place{Systemd: true, Prefix: "vmruntime", Name: "c"}},
		"scope":        {"user.slice:docker:x", true, Place{Systemd: true, Slice: "user.slice", Prefix: "docker", Name: "x", Chosen: true}},
		"empty slice":  {":docker:x", true, Place{Systemd: true, Prefix: "docker", Name: "x", Chosen: true}},
		"colons, path": {"a:b:c", false, Place{Path: "a:b:c", Chosen: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePlace(c.path, "c", c.systemd)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, path := range []string{"/docker/x", "a:b", "a:b:c:d", "a:b:"} {
		if _, err := ParsePlace(path, "c", true); err == nil || !strings.Contains(err.Error(), "slice:prefix:name") {
			t.Errorf("%q: error %v", path, err)
		}
	}
}

func TestResources(t *testing.T) {
	in := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(1 << 30)), Swap: new(int64(2 << 30)), Reservation: new(int64(-1)), DisableOOMKiller: new(true)},
		CPU:    &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000)), Cpus: "0"},
		Pids:   &specs.LinuxPids{Limit: new(int64(10))},
	}
	want := &cgroups.Resources{
		SkipDevices: true, SkipFreezeOnSet: true,
		Memory: 1<<30 + MemoryOverhead, MemorySwap: 2<<30 + MemoryOverhead, MemoryReservation: -1, MemoryCheckBeforeUpdate: true,
		CpuShares: 512, CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(512), CpusetCpus: "0",
		PidsLimit: new(int64(10 + PidsOverhead)),
	}
	if diff := cmp.Diff(want, resources(in, true)); diff != "" {
		t.Errorf("booting (-want +got):\n%s", diff)
	}
	want.CpuQuota, want.CpuPeriod = 50000, 100000
	if diff := cmp.Diff(want, resources(in, false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What limits nothing stays so.
func TestMore(t *testing.T) {
	for in, want := range map[int64]int64{-1: -1, 0: 0, 1: 11, math.MaxInt64: math.MaxInt64, math.MaxInt64 - 3: math.MaxInt64} {
		if got := more(in, 10); got != want {
			t.Errorf("more(%d, 10) is %d, not %d", in, got, want)
		}
	}
}

// A container without a cgroup has nothing to be done to.
func TestNoGroup(t *testing.T) {
	g, err := Open(filepath.Join(t.TempDir(), "none"))
	if g != nil || err != nil {
		t.Fatal(g, err)
	}
	for name, err := range map[string]error{"add": g.Add(1), "limit": g.Limit(nil, true), "thaw": g.Thaw(), "remove": g.Remove()} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A record that names no cgroup of its own stands for none: the hierarchies' roots least of all.
func TestOpenDamaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cgroup.json")
	for _, text := range []string{
		"", "{", "{}", `{"place":{"path":"c"}}`, `{"paths":{"":"/sys/fs/cgroup"}}`,
		`{"place":{"path":"/"},"paths":{"":"/"}}`, `{"place":{"path":"c"},"paths":{"":"/sys/fs/cgroup"}}`,
		`{"place":{"path":"c"},"paths":{"":"/sys/fs/cgroup/c/.."}}`, `{"place":{"path":"c"},"paths":{"":"c"}}`,
		`{"place":{"path":".."},"paths":{"":"/sys/fs/cgroup/.."}}`,
		`{"place":{"path":"c"},"paths":{"cpu":"/sys/fs/cgroup/cpu/c","memory":"/sys/fs/cgroup/memory/other"}}`,
		`{"place":{"systemd":true},"paths":{"":"/sys/fs/cgroup/system.slice"}}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := Open(file); err == nil {
			t.Errorf("%s: opened as %v", text, g.saved.Paths)
		}
	}
}
