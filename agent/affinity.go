package agent

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/cpulist"
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
func parseCPUs(text string) (*unix.CPUSet, error) {
	list, err := cpulist.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("no list of CPUs: %w", err)
	}
	cpus := &unix.CPUSet{}
	most := uint64(len(cpus) * strconv.IntSize)
	for _, r := range list {
		if r.Last >= most {
			return nil, fmt.Errorf("%q: there are %d CPUs at most", text, most)
		}
		for cpu := r.First; cpu <= r.Last; cpu++ {
			cpus.Set(int(cpu))
		}
	}
	return cpus, nil
}
