package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

func testResources() *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr[int64](64 << 20), Swap: ptr[int64](96 << 20)},
		CPU:     &specs.LinuxCPU{Quota: ptr[int64](50000), Period: ptr[uint64](100000), Shares: ptr[uint64](1024)},
		Pids:    &specs.LinuxPids{Limit: ptr[int64](32)},
		Unified: map[string]string{"memory.high": "61440000"},
	}
}

func TestLimits(t *testing.T) {
	got := map[string]string{}
	for _, s := range limits(testResources()) {
		got[s.file] = s.value
	}
	want := map[string]string{
		"memory.max": "67108864", "memory.swap.max": "33554432", "memory.high": "61440000",
		"cpu.max": "50000 100000", "cpu.weight": "39", "pids.max": "32",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for shares, weight := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := cpuWeight(shares); got != weight {
			t.Errorf("weight of %d shares is %d, want %d", shares, got, weight)
		}
	}
	unlimited := limits(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr[int64](-1), Swap: ptr[int64](-1)},
		CPU:    &specs.LinuxCPU{Quota: ptr[int64](-1)},
		Pids:   &specs.LinuxPids{Limit: ptr[int64](-1)},
	})
	for _, s := range unlimited {
		if s.value != "max" {
			t.Errorf("%s is %q", s.file, s.value)
		}
	}
}

func TestCgroupFiles(t *testing.T) {
	dir := t.TempDir()
	c := newCgroup(dir, "c")
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr[int64](1)}}
	must(t, os.Mkdir(c.path, 0o755))
	// A controller that is not there is no error, a key that was named is.
	must(t, c.create(&specs.Linux{Resources: r}))
	must(t, os.WriteFile(filepath.Join(c.path, "memory.max"), nil, 0o644))
	must(t, c.create(&specs.Linux{Resources: r}))
	if text, _ := os.ReadFile(filepath.Join(c.path, "memory.max")); string(text) != "1" {
		t.Errorf("memory.max is %q", text)
	}
	for _, key := range []string{"no.such", "../escape"} {
		r.Unified = map[string]string{key: "1"}
		if err := c.create(&specs.Linux{Resources: r}); err == nil {
			t.Errorf("unified key %q is accepted", key)
		}
	}
}

func TestCgroupBelow(t *testing.T) {
	c := newCgroup("/sys/fs/cgroup", "c")
	for text, want := range map[string]string{
		"":                                 c.path,
		"0::/c\n":                          c.path,
		"0::/c/init\n":                     c.path + "/init",
		"1:name=systemd:/c/x\n0::/c/a/b\n": c.path + "/a/b",
		"0::/cc\n":                         c.path,
		"0::/other/init\n":                 c.path,
		"0::/c/../other\n":                 c.path,
		"0::/../c\n":                       c.path,
	} {
		if got := c.below("/sys/fs/cgroup", text); got.path != want {
			t.Errorf("%q: %s, want %s", text, got.path, want)
		}
	}
}
