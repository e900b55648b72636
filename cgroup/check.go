package cgroup

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/cpulist"
)

// Check finds what no kernel would take. Its errors begin with the member's name.
func Check(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.Memory != nil {
		errs = append(errs, checkMemory(r.Memory))
	}
	if r.CPU != nil {
		errs = append(errs, checkCPU(r.CPU))
	}
	if r.Pids != nil && value(r.Pids.Limit) < -1 {
		errs = append(errs, fmt.Errorf("pids.limit: %d is neither a number of processes nor -1", *r.Pids.Limit))
	}
	if r.BlockIO != nil {
		errs = append(errs, checkBlockIO(r.BlockIO))
	}
	return cmp.Or(errs...)
}

func checkMemory(m *specs.LinuxMemory) error {
	for _, f := range []struct {
		name  string
		value *int64
	}{{"limit", m.Limit}, {"swap", m.Swap}, {"reservation", m.Reservation}} {
		if n := value(f.value); n < -1 {
			return fmt.Errorf("memory.%s: %d is neither a size in bytes nor -1", f.name, n)
		}
	}
	limit, swap := value(m.Limit), value(m.Swap)
	if limit > 0 && swap > 0 && swap < limit {
		return fmt.Errorf("memory.swap: %d is memory and swap together, and must not be less than memory.limit %d", swap, limit)
	}
	if m.Swappiness != nil && *m.Swappiness > 100 && int64(*m.Swappiness) != -1 {
		return fmt.Errorf("memory.swappiness: %d is not between 0 and 100", *m.Swappiness)
	}
	return nil
}

// Limits of the kernel, in microseconds and in shares.
const (
	minQuota  = 1000
	minPeriod = 1000
	maxPeriod = 1000000
	minShares = 2
	maxShares = 262144
)

func checkCPU(c *specs.LinuxCPU) error {
	quota, period, shares := value(c.Quota), value(c.Period), value(c.Shares)
	switch {
	case quota < -1 || quota > 0 && quota < minQuota:
		return fmt.Errorf("cpu.quota: %d is neither at least %d microseconds nor -1", quota, minQuota)
	case period != 0 && (period < minPeriod || period > maxPeriod):
		return fmt.Errorf("cpu.period: %d is not between %d and %d microseconds", period, minPeriod, maxPeriod)
	case shares != 0 && (shares < minShares || shares > maxShares):
		return fmt.Errorf("cpu.shares: %d is not between %d and %d", shares, minShares, maxShares)
	case quota > 0 && value(c.Burst) > uint64(quota):
		return fmt.Errorf("cpu.burst: %d is more than cpu.quota %d", *c.Burst, quota)
	case c.Idle != nil && *c.Idle != 0 && *c.Idle != 1:
		return fmt.Errorf("cpu.idle: %d is neither 0 nor 1", *c.Idle)
	}
	return checkPlacement(c)
}

// checkPlacement refuses CPUs and memory nodes that the host's kernel would refuse: with
// them it takes none of the limits.
func checkPlacement(c *specs.LinuxCPU) error {
	// v2 takes what may be plugged in later.
	cpus, nodes := "online", "has_memory"
	if cgroups.IsCgroup2UnifiedMode() {
		cpus, nodes = "possible", "possible"
	}
	for _, f := range []struct{ name, list, kind, example, file string }{
		{"cpu.cpus", c.Cpus, "CPUs", "0-2,7", "cpu/" + cpus},
		{"cpu.mems", c.Mems, "memory nodes", "0-1", "node/" + nodes},
	} {
		if f.list == "" {
			continue
		}
		list, err := cpulist.Parse(f.list)
		if err != nil {
			return fmt.Errorf("%s: %q is no list of %s such as %s", f.name, f.list, f.kind, f.example)
		}
		text, err := os.ReadFile("/sys/devices/system/" + f.file)
		if err != nil {
			// A kernel without NUMA has no nodes.
			continue
		}
		host := strings.TrimSpace(string(text))
		if all, err := cpulist.Parse(host); err != nil || !list.Within(all) {
			return fmt.Errorf("%s: %q: this host has %s %s", f.name, f.list, f.kind, host)
		}
	}
	return nil
}

const (
	minWeight = 10
	maxWeight = 1000
)

func checkBlockIO(b *specs.LinuxBlockIO) error {
	for _, weight := range []*uint16{b.Weight, b.LeafWeight} {
		if n := value(weight); n != 0 && (n < minWeight || n > maxWeight) {
			return fmt.Errorf("blockIO.weight: %d is not between %d and %d", n, minWeight, maxWeight)
		}
	}
	return nil
}
