package agent

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setAffinity sets process.execCPUAffinity for the calling thread. An exec is born
// in the container's cgroup, so that both come at once: final counts, or initial
// where there is no final.
func setAffinity(a *specs.CPUAffinity) error {
	if a == nil {
		return nil
	}
	list := a.Final
	if list == "" {
		list = a.Initial
	}
	if list == "" {
		return nil
	}
	cpus, err := parseCPUs(list)
	if err != nil {
		return fmt.Errorf("process.execCPUAffinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, cpus); err != nil {
		return fmt.Errorf("process.execCPUAffinity: the CPUs %s of this VM: %w", list, err)
	}
	return nil
}

// parseCPUs reads a list as of cpuset(7): 0-2,5.
func parseCPUs(list string) (*unix.CPUSet, error) {
	cpus := &unix.CPUSet{}
	most := len(cpus) * strconv.IntSize
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no list of CPUs", list)
		}
		to, err := strconv.ParseUint(last, 10, 32)
		if err != nil || to < from || to >= uint64(most) {
			return nil, fmt.Errorf("%q is no list of CPUs", list)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus.Set(int(cpu))
		}
	}
	return cpus, nil
}
