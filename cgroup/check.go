package cgroup

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
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

var cpuListPattern = regexp.MustCompile(`^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`)

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
	case c.Cpus != "" && !cpuListPattern.MatchString(c.Cpus):
		return fmt.Errorf("cpu.cpus: %q is no list of CPUs such as 0-2,7", c.Cpus)
	case c.Mems != "" && !cpuListPattern.MatchString(c.Mems):
		return fmt.Errorf("cpu.mems: %q is no list of memory nodes such as 0-1", c.Mems)
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
	for _, f := range []struct{ name, list, kind, file string }{
		{"cpu.cpus", c.Cpus, "CPUs", "cpu/" + cpus},
		{"cpu.mems", c.Mems, "memory nodes", "node/" + nodes},
	} {
		if f.list == "" {
			continue
		}
		text, err := os.ReadFile("/sys/devices/system/" + f.file)
		if err != nil {
			// A kernel without NUMA has no nodes.
			continue
		}
		if host := strings.TrimSpace(string(text)); !within(f.list, host) {
			return fmt.Errorf("%s: %q: this host has %s %s", f.name, f.list, f.kind, host)
		}
	}
	return nil
}

// within tells whether all of a list is in another one, whose ranges do not touch.
func within(list, all string) bool {
	for part := range strings.SplitSeq(list, ",") {
		first, last, err := bounds(part)
		if err != nil || first > last {
			return false
		}
		inside := func(r string) bool {
			from, to, err := bounds(r)
			return err == nil && from <= first && last <= to
		}
		if !slices.ContainsFunc(strings.Split(all, ","), inside) {
			return false
		}
	}
	return true
}

// bounds are those of a range such as 0-2, or of a single number.
func bounds(r string) (first, last uint64, err error) {
	a, b, isRange := strings.Cut(r, "-")
	if !isRange {
		b = a
	}
	first, err = strconv.ParseUint(a, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	last, err = strconv.ParseUint(b, 10, 32)
	return first, last, err
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
