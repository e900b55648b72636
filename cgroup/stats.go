package cgroup

import (
	"fmt"

	"github.com/opencontainers/cgroups"
)

// Stats is what `events` prints of a container, with runc's names
// (https://github.com/opencontainers/runc/blob/main/types/events.go).
type Stats struct {
	CPU               CPU                      `json:"cpu"`
	CPUSet            cgroups.CPUSetStats      `json:"cpuset"`
	Memory            Memory                   `json:"memory"`
	Pids              Pids                     `json:"pids"`
	Blkio             Blkio                    `json:"blkio"`
	Hugetlb           map[string]MemoryCounter `json:"hugetlb"`
	IntelRdt          struct{}                 `json:"intel_rdt"`
	NetworkInterfaces []Interface              `json:"network_interfaces"`
}

// CPU is in nanoseconds.
type CPU struct {
	Usage      CPUUsage          `json:"usage,omitzero"`
	Throttling Throttling        `json:"throttling,omitzero"`
	PSI        *cgroups.PSIStats `json:"psi,omitempty"`
}

// CPUUsage is the time that was used, in all and by CPU.
type CPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	Percpu       []uint64 `json:"percpu,omitempty"`
	PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
	PercpuUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// Throttling is what the quota has cost.
type Throttling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// Memory is in bytes. Raw is memory.stat.
type Memory struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryEntry       `json:"usage,omitzero"`
	Swap      MemoryEntry       `json:"swap,omitzero"`
	Kernel    MemoryEntry       `json:"kernel,omitzero"`
	KernelTCP MemoryEntry       `json:"kernelTCP,omitzero"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *cgroups.PSIStats `json:"psi,omitempty"`
}

// MemoryEntry is one kind of memory.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// MemoryCounter is one size of huge pages.
type MemoryCounter struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// Pids counts processes and threads.
type Pids struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// Blkio is by block device.
type Blkio struct {
	IoServiceBytesRecursive []BlkioEntry      `json:"ioServiceBytesRecursive,omitempty"`
	IoServicedRecursive     []BlkioEntry      `json:"ioServicedRecursive,omitempty"`
	IoQueuedRecursive       []BlkioEntry      `json:"ioQueueRecursive,omitempty"`
	IoServiceTimeRecursive  []BlkioEntry      `json:"ioServiceTimeRecursive,omitempty"`
	IoWaitTimeRecursive     []BlkioEntry      `json:"ioWaitTimeRecursive,omitempty"`
	IoMergedRecursive       []BlkioEntry      `json:"ioMergedRecursive,omitempty"`
	IoTimeRecursive         []BlkioEntry      `json:"ioTimeRecursive,omitempty"`
	SectorsRecursive        []BlkioEntry      `json:"sectorsRecursive,omitempty"`
	PSI                     *cgroups.PSIStats `json:"psi,omitempty"`
}

// BlkioEntry is one figure of one device.
type BlkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// Interface is a network interface of the container's; its counters have no names
// of their own in JSON, as runc's.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Stats is what the host's kernel says of the cgroup: the whole machine.
func (g *Group) Stats() (Stats, error) {
	if g == nil {
		return Stats{Hugetlb: map[string]MemoryCounter{}}, nil
	}
	s, err := g.manager.GetStats()
	if err != nil {
		return Stats{}, fmt.Errorf("cgroup: %w", err)
	}
	return convert(s), nil
}

func convert(s *cgroups.Stats) Stats {
	usage, throttling := s.CpuStats.CpuUsage, s.CpuStats.ThrottlingData
	out := Stats{
		CPU: CPU{
			Usage: CPUUsage{
				Total: usage.TotalUsage, Kernel: usage.UsageInKernelmode, User: usage.UsageInUsermode,
				Percpu: usage.PercpuUsage, PercpuKernel: usage.PercpuUsageInKernelmode, PercpuUser: usage.PercpuUsageInUsermode,
			},
			Throttling: Throttling(throttling),
			PSI:        s.CpuStats.PSI,
		},
		CPUSet: s.CPUSetStats,
		Memory: Memory{
			Cache: s.MemoryStats.Cache, Raw: s.MemoryStats.Stats, PSI: s.MemoryStats.PSI,
			Usage: entry(s.MemoryStats.Usage), Swap: entry(s.MemoryStats.SwapUsage),
			Kernel: entry(s.MemoryStats.KernelUsage), KernelTCP: entry(s.MemoryStats.KernelTCPUsage),
		},
		Pids:    Pids(s.PidsStats),
		Blkio:   convertBlkio(s.BlkioStats),
		Hugetlb: map[string]MemoryCounter{},
	}
	for size, h := range s.HugetlbStats {
		out.Hugetlb[size] = MemoryCounter{Usage: h.Usage, Max: h.MaxUsage, Failcnt: h.Failcnt}
	}
	return out
}

func entry(d cgroups.MemoryData) MemoryEntry {
	return MemoryEntry{Limit: d.Limit, Usage: d.Usage, Max: d.MaxUsage, Failcnt: d.Failcnt}
}

func convertBlkio(s cgroups.BlkioStats) Blkio {
	return Blkio{
		IoServiceBytesRecursive: entries(s.IoServiceBytesRecursive),
		IoServicedRecursive:     entries(s.IoServicedRecursive),
		IoQueuedRecursive:       entries(s.IoQueuedRecursive),
		IoServiceTimeRecursive:  entries(s.IoServiceTimeRecursive),
		IoWaitTimeRecursive:     entries(s.IoWaitTimeRecursive),
		IoMergedRecursive:       entries(s.IoMergedRecursive),
		IoTimeRecursive:         entries(s.IoTimeRecursive),
		SectorsRecursive:        entries(s.SectorsRecursive),
		PSI:                     s.PSI,
	}
}

func entries(list []cgroups.BlkioStatEntry) []BlkioEntry {
	var out []BlkioEntry
	for _, e := range list {
		out = append(out, BlkioEntry(e))
	}
	return out
}
