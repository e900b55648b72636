package shim

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// update changes the container's limits in the guest and on the host, in both or in
// none.
func (c *container) update(ctx context.Context, changes *specs.LinuxResources) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.state() == StatePaused {
		return errors.New("cannot update a paused container: resume it first")
	}
	old := c.plan.Resources
	next := cgroup.Merge(old, changes)
	if err := fits(next, changes, c.plan.Machine); err != nil {
		return err
	}
	if err := cgroup.Check(next); err != nil {
		return err
	}
	steps := []func(*specs.LinuxResources) error{
		func(r *specs.LinuxResources) error { return c.limitGuest(ctx, r) },
		func(r *specs.LinuxResources) error {
			return c.cgroup.Limit(c.plan.onHost(r), c.state() == specs.StateCreated)
		},
	}
	if grows(old, next) {
		// What the host grants comes before what the guest takes.
		steps[0], steps[1] = steps[1], steps[0]
	}
	undo := cgroup.Touched(cgroup.Undo(old, next), changes)
	for i, step := range steps {
		if err := step(cgroup.Touched(next, changes)); err != nil {
			for _, back := range steps[:i+1] {
				_ = back(undo)
			}
			return err
		}
	}
	c.plan.Resources = next
	return nil
}

// limitGuest sets limits inside, where the numbers of the host's CPUs and memory
// nodes mean nothing.
func (c *container) limitGuest(ctx context.Context, r *specs.LinuxResources) error {
	inside := specs.LinuxResources{Memory: r.Memory, Pids: r.Pids, Unified: r.Unified}
	if r.CPU != nil {
		cpu := *r.CPU
		cpu.Cpus, cpu.Mems = "", ""
		inside.CPU = &cpu
	}
	_, err := c.guest.ask(ctx, protocol.Request{Update: &protocol.Update{Container: c.plan.ID, Resources: &inside}})
	return err
}

// grows tells that the container may take more memory than before.
func grows(old, next *specs.LinuxResources) bool {
	limit := func(r *specs.LinuxResources) uint64 {
		if r == nil || r.Memory == nil || r.Memory.Limit == nil {
			return 0
		}
		return uint64(*r.Memory.Limit)
	}
	// 0 is no limit, and so is -1.
	return limit(next)-1 > limit(old)-1
}

// fits refuses what the machine, which cannot grow, has not got.
func fits(next, changes *specs.LinuxResources, m vm.Config) error {
	if changes.Memory != nil && next.Memory.Limit != nil {
		if limit := *next.Memory.Limit; limit > 0 && uint64(limit) > m.Memory {
			return fmt.Errorf("memory.limit: %d bytes are more than the %d of the VM, which cannot grow: create the container with that limit", limit, m.Memory)
		}
	}
	if changes.CPU == nil || next.CPU.Quota == nil || *next.CPU.Quota <= 0 {
		return nil
	}
	period := int64(100000)
	if p := next.CPU.Period; p != nil && *p > 0 {
		period = int64(*p)
	}
	needs := uint((*next.CPU.Quota + period - 1) / period)
	if needs > m.VCPUs && m.VCPUs < uint(runtime.NumCPU()) {
		return fmt.Errorf("cpu.quota: it keeps %d CPUs busy, the VM has %d and cannot grow: create the container with that quota", needs, m.VCPUs)
	}
	return nil
}
