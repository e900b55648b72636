package cgroup

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Merge is what old becomes with changes, in which what is missing or 0 leaves the
// old value. It shares nothing with old that it changes.
func Merge(old, changes *specs.LinuxResources) *specs.LinuxResources {
	next := specs.LinuxResources{}
	if old != nil {
		next = *old
	}
	if changes.Memory != nil {
		next.Memory = mergeMemory(value(next.Memory), *changes.Memory)
	}
	if changes.CPU != nil {
		next.CPU = mergeCPU(value(next.CPU), *changes.CPU)
	}
	if changes.Pids != nil && value(changes.Pids.Limit) != 0 {
		next.Pids = changes.Pids
	}
	if changes.BlockIO != nil {
		next.BlockIO = mergeBlockIO(value(next.BlockIO), *changes.BlockIO)
	}
	if len(changes.Unified) > 0 {
		next.Unified = changes.Unified
	}
	return &next
}

func mergeMemory(m, changes specs.LinuxMemory) *specs.LinuxMemory {
	m.Limit = pick(m.Limit, changes.Limit)
	m.Swap = pick(m.Swap, changes.Swap)
	m.Reservation = pick(m.Reservation, changes.Reservation)
	m.CheckBeforeUpdate = changes.CheckBeforeUpdate
	if value(changes.Limit) < 0 && value(changes.Swap) == 0 {
		// Swap cannot be limited where memory is not.
		m.Swap = new(int64(-1))
	}
	return &m
}

func mergeCPU(c, changes specs.LinuxCPU) *specs.LinuxCPU {
	c.Quota = pick(c.Quota, changes.Quota)
	c.Period = pick(c.Period, changes.Period)
	c.Shares = pick(c.Shares, changes.Shares)
	// 0 is a value of these.
	if changes.Burst != nil {
		c.Burst = changes.Burst
	}
	if changes.Idle != nil {
		c.Idle = changes.Idle
	}
	if changes.Cpus != "" {
		c.Cpus = changes.Cpus
	}
	if changes.Mems != "" {
		c.Mems = changes.Mems
	}
	if value(c.Idle) == 1 {
		// An idle cgroup takes no shares.
		c.Shares = nil
	}
	return &c
}

func mergeBlockIO(b, changes specs.LinuxBlockIO) *specs.LinuxBlockIO {
	b.Weight = pick(b.Weight, changes.Weight)
	b.LeafWeight = pick(b.LeafWeight, changes.LeafWeight)
	// A later entry for a device counts.
	b.WeightDevice = slices.Concat(b.WeightDevice, changes.WeightDevice)
	b.ThrottleReadBpsDevice = slices.Concat(b.ThrottleReadBpsDevice, changes.ThrottleReadBpsDevice)
	b.ThrottleWriteBpsDevice = slices.Concat(b.ThrottleWriteBpsDevice, changes.ThrottleWriteBpsDevice)
	b.ThrottleReadIOPSDevice = slices.Concat(b.ThrottleReadIOPSDevice, changes.ThrottleReadIOPSDevice)
	b.ThrottleWriteIOPSDevice = slices.Concat(b.ThrottleWriteIOPSDevice, changes.ThrottleWriteIOPSDevice)
	return &b
}

// Touched is what of r has to be set for changes: all of a group that they touch,
// because its members depend on each other.
func Touched(r, changes *specs.LinuxResources) *specs.LinuxResources {
	step := &specs.LinuxResources{}
	if changes.Memory != nil {
		step.Memory = r.Memory
	}
	if changes.CPU != nil {
		step.CPU = r.CPU
	}
	if changes.Pids != nil {
		step.Pids = r.Pids
	}
	if changes.BlockIO != nil {
		step.BlockIO = r.BlockIO
	}
	if len(changes.Unified) > 0 {
		step.Unified = r.Unified
	}
	return step
}

// Undo is old with what takes next back where old has no limit.
func Undo(old, next *specs.LinuxResources) *specs.LinuxResources {
	undo := specs.LinuxResources{}
	if old != nil {
		undo = *old
	}
	if next.Memory != nil {
		m := value(undo.Memory)
		m.Limit = orElse(m.Limit, next.Memory.Limit, -1)
		m.Swap = orElse(m.Swap, next.Memory.Swap, -1)
		undo.Memory = &m
	}
	if next.CPU != nil {
		c := value(undo.CPU)
		c.Quota = orElse(c.Quota, next.CPU.Quota, -1)
		c.Shares = orElse(c.Shares, next.CPU.Shares, 1024)
		c.Burst = orElse(c.Burst, next.CPU.Burst, 0)
		c.Idle = orElse(c.Idle, next.CPU.Idle, 0)
		undo.CPU = &c
	}
	if next.Pids != nil && undo.Pids == nil {
		undo.Pids = &specs.LinuxPids{Limit: new(int64(-1))}
	}
	return &undo
}

// orElse is old, or none where only next has a value.
func orElse[T comparable](old, next *T, none T) *T {
	if old == nil && next != nil {
		return &none
	}
	return old
}

// pick is change unless it leaves old alone.
func pick[T comparable](old, change *T) *T {
	var zero T
	if change == nil || *change == zero {
		return old
	}
	return change
}
