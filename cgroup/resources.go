package cgroup

import (
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// MemoryOverhead is what a machine takes beside its container's memory, in
	// bytes: the shim, QEMU with the code it has translated, the guest's kernel and
	// agent.
	MemoryOverhead = 256 << 20
	// PidsOverhead is how many threads shim and QEMU may have beside as many as the
	// container has processes: 9p alone has 64.
	PidsOverhead = 1024
)

// resources are the limits of the host's cgroup for a container with these. What is
// about devices, huge pages and real-time CPU is the guest's.
func resources(r *specs.LinuxResources, booting bool) *cgroups.Resources {
	// systemd's driver would freeze the cgroup for its devices, and with it the
	// shim that asks for it.
	host := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true}
	if r == nil {
		return host
	}
	if r.Memory != nil {
		setMemory(host, r.Memory)
	}
	if r.CPU != nil {
		setCPU(host, r.CPU, booting)
	}
	if r.Pids != nil && value(r.Pids.Limit) != 0 {
		limit := more(value(r.Pids.Limit), PidsOverhead)
		host.PidsLimit = &limit
	}
	if r.BlockIO != nil {
		setBlockIO(host, r.BlockIO)
	}
	return host
}

func setMemory(host *cgroups.Resources, m *specs.LinuxMemory) {
	host.Memory = more(value(m.Limit), MemoryOverhead)
	host.MemorySwap = more(value(m.Swap), MemoryOverhead)
	host.MemoryReservation = more(value(m.Reservation), MemoryOverhead)
	host.MemorySwappiness = m.Swappiness
	// Under v2 the kernel would kill QEMU for a limit below its memory.
	host.MemoryCheckBeforeUpdate = true
}

func setCPU(host *cgroups.Resources, c *specs.LinuxCPU, booting bool) {
	host.CpuShares = value(c.Shares)
	host.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(host.CpuShares)
	host.CpusetCpus, host.CpusetMems = c.Cpus, c.Mems
	host.CPUIdle = c.Idle
	if booting {
		return
	}
	host.CpuQuota, host.CpuPeriod, host.CpuBurst = value(c.Quota), value(c.Period), c.Burst
}

// setBlockIO holds for what QEMU reads and writes for the container.
func setBlockIO(host *cgroups.Resources, b *specs.LinuxBlockIO) {
	host.BlkioWeight, host.BlkioLeafWeight = value(b.Weight), value(b.LeafWeight)
	for _, d := range b.WeightDevice {
		host.BlkioWeightDevice = append(host.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, value(d.Weight), value(d.LeafWeight)))
	}
	host.BlkioThrottleReadBpsDevice = throttle(b.ThrottleReadBpsDevice)
	host.BlkioThrottleWriteBpsDevice = throttle(b.ThrottleWriteBpsDevice)
	host.BlkioThrottleReadIOPSDevice = throttle(b.ThrottleReadIOPSDevice)
	host.BlkioThrottleWriteIOPSDevice = throttle(b.ThrottleWriteIOPSDevice)
}

func throttle(devices []specs.LinuxThrottleDevice) []*cgroups.ThrottleDevice {
	var list []*cgroups.ThrottleDevice
	for _, d := range devices {
		list = append(list, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
	}
	return list
}

// more adds to a limit; 0 is none, and a negative one is no limit at all.
func more(limit, overhead int64) int64 {
	const most = 1<<63 - 1
	switch {
	case limit <= 0:
		return limit
	case limit > most-overhead:
		return most
	}
	return limit + overhead
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
