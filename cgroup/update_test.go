package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func memory(limit, swap int64) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if limit != 0 {
		m.Limit = &limit
	}
	if swap != 0 {
		m.Swap = &swap
	}
	return m
}

func TestMerge(t *testing.T) {
	old := &specs.LinuxResources{
		Memory: memory(100, 200),
		CPU:    &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000)), Shares: new(uint64(512)), Cpus: "0"},
		Pids:   &specs.LinuxPids{Limit: new(int64(10))},
	}
	for name, c := range map[string]struct{ changes, want specs.LinuxResources }{
		// Docker sends all of them, 0 for what stays.
		"zeros": {
			specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: new(int64(0)), Swap: new(int64(0))},
				CPU:    &specs.LinuxCPU{Quota: new(int64(0)), Period: new(uint64(0)), Shares: new(uint64(0))},
				Pids:   &specs.LinuxPids{Limit: new(int64(0))}, BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(0))},
			},
			specs.LinuxResources{Memory: old.Memory, CPU: old.CPU, Pids: old.Pids, BlockIO: &specs.LinuxBlockIO{}},
		},
		"memory": {
			specs.LinuxResources{Memory: memory(150, 0)},
			specs.LinuxResources{Memory: memory(150, 200), CPU: old.CPU, Pids: old.Pids},
		},
		"no memory limit": {
			specs.LinuxResources{Memory: memory(-1, 0)},
			specs.LinuxResources{Memory: memory(-1, -1), CPU: old.CPU, Pids: old.Pids},
		},
		"period and idle": {
			specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(50000)), Idle: new(int64(1))}},
			specs.LinuxResources{Memory: old.Memory, Pids: old.Pids, CPU: &specs.LinuxCPU{
				Quota: old.CPU.Quota, Period: new(uint64(50000)), Cpus: "0", Idle: new(int64(1)),
			}},
		},
		"pids": {
			specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(-1))}},
			specs.LinuxResources{Memory: old.Memory, CPU: old.CPU, Pids: &specs.LinuxPids{Limit: new(int64(-1))}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(&c.want, Merge(old, &c.changes)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := *old.Memory.Limit; got != 100 {
		t.Errorf("the old limit became %d", got)
	}
}

func TestTouched(t *testing.T) {
	r := &specs.LinuxResources{Memory: memory(1, 2), CPU: &specs.LinuxCPU{}, Pids: &specs.LinuxPids{}}
	want := &specs.LinuxResources{Memory: r.Memory}
	if diff := cmp.Diff(want, Touched(r, &specs.LinuxResources{Memory: memory(1, 0)})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What was not limited before is not limited again.
func TestUndo(t *testing.T) {
	old := &specs.LinuxResources{Memory: memory(100, 0)}
	next := &specs.LinuxResources{
		Memory: memory(50, 60), Pids: &specs.LinuxPids{Limit: new(int64(5))},
		CPU: &specs.LinuxCPU{Quota: new(int64(1000)), Idle: new(int64(1))},
	}
	want := &specs.LinuxResources{
		Memory: memory(100, -1), Pids: &specs.LinuxPids{Limit: new(int64(-1))},
		CPU: &specs.LinuxCPU{Quota: new(int64(-1)), Idle: new(int64(0))},
	}
	if diff := cmp.Diff(want, Undo(old, next)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
