package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/cpulist"
	"github.com/vmruntime/vmruntime/vm"
)

const (
	// minMemory is the smallest machine in which the guest boots.
	minMemory = 128 << 20
	// overhead is what the guest's kernel and agent need beside a container at
	// its limit.
	overhead = 64 << 20
	// page is what a machine's memory is a multiple of.
	page = 1 << 20
	// minBaseImageMemory is the smallest machine for a system with systemd and
	// cloud-init.
	minBaseImageMemory = vm.BaseImageMemory + minMemory
)

// ram is the machine's memory in bytes: one of few sizes, so that machines are
// alike. The container's own limit holds inside.
func ram(s *specs.Spec, c Config, host uint64) uint64 {
	limit := memoryLimit(s)
	if limit == 0 {
		return uint64(c.Memory) << 20
	}
	// A limit above what the host has limits nothing, and QEMU would be refused more than
	// that in one piece.
	return min(sizeClass(min(limit, host)+overhead), host/page*page)
}

// baseImageRAM is the machine's memory in bytes where its guest is a whole system, which
// has no sizes in common with others.
func baseImageRAM(s *specs.Spec, c Config, host uint64) uint64 {
	limit := memoryLimit(s)
	if limit == 0 {
		return max(uint64(c.Memory)<<20, minBaseImageMemory)
	}
	size := (min(limit, host) + vm.BaseImageMemory + page - 1) / page * page
	return max(min(size, host/page*page), minBaseImageMemory)
}

func memoryLimit(s *specs.Spec) uint64 {
	r := s.Linux.Resources
	if r == nil || r.Memory == nil || r.Memory.Limit == nil || *r.Memory.Limit <= 0 {
		return 0
	}
	return uint64(*r.Memory.Limit)
}

// sizeClass rounds up to 128, 192, 256, 384, 512, 768, ... MiB.
func sizeClass(bytes uint64) uint64 {
	for class := uint64(minMemory); ; class *= 2 {
		switch {
		case bytes <= class:
			return class
		case bytes <= class/2*3:
			return class / 2 * 3
		}
	}
}

// vcpus are as many as the quota can keep busy.
func vcpus(s *specs.Spec, c Config, host uint) uint {
	n := uint(c.VCPUs)
	most := host
	if r := s.Linux.Resources; r != nil && r.CPU != nil {
		if quota := r.CPU.Quota; quota != nil && *quota > 0 {
			n = ceil(uint64(*quota), period(r.CPU))
		}
		if set, err := cpulist.Parse(r.CPU.Cpus); err == nil {
			most = uint(min(uint64(most), set.Count()))
		}
	}
	return max(1, min(n, most))
}

func period(cpu *specs.LinuxCPU) uint64 {
	if cpu.Period == nil || *cpu.Period == 0 {
		return 100000
	}
	return *cpu.Period
}

func ceil(a, b uint64) uint { return uint((a + b - 1) / b) }
