package shim

import (
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/vm"
)

func memoryOf(limit int64) *specs.LinuxResources {
	return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
}

func TestGrows(t *testing.T) {
	for _, c := range []struct {
		old, next *specs.LinuxResources
		want      bool
	}{
		{memoryOf(100), memoryOf(200), true},
		{memoryOf(200), memoryOf(100), false},
		{memoryOf(100), memoryOf(100), false},
		{memoryOf(100), memoryOf(-1), true},
		{memoryOf(-1), memoryOf(100), false},
		{nil, memoryOf(100), false},
		{memoryOf(100), &specs.LinuxResources{}, true},
	} {
		if got := grows(c.old, c.next); got != c.want {
			t.Errorf("grows(%v, %v) is %v", c.old, c.next, got)
		}
	}
}

func TestFits(t *testing.T) {
	machine := vm.Config{Memory: 1 << 30, VCPUs: 1}
	quota := func(n int64) *specs.LinuxResources {
		return &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &n}}
	}
	refused := map[string]*specs.LinuxResources{"memory.limit": memoryOf(1<<30 + 1)}
	if runtime.NumCPU() > 1 {
		refused["cpu.quota"] = quota(100001)
	}
	for name, r := range refused {
		if err := fits(r, r, machine); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		// What stays is nobody's wish.
		if err := fits(r, &specs.LinuxResources{}, machine); err != nil {
			t.Errorf("unchanged %s: %v", name, err)
		}
	}
	for _, r := range []*specs.LinuxResources{memoryOf(1 << 30), memoryOf(-1), quota(100000), quota(-1), {}} {
		if err := fits(r, r, machine); err != nil {
			t.Error(err)
		}
	}
}
