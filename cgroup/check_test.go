package cgroup

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCheck(t *testing.T) {
	for want, r := range map[string]specs.LinuxResources{
		"memory.limit: -5 is neither":          {Memory: &specs.LinuxMemory{Limit: new(int64(-5))}},
		"memory.swap: 5 is memory and swap":    {Memory: memory(6, 5)},
		"memory.swappiness: 101 is not":        {Memory: &specs.LinuxMemory{Swappiness: new(uint64(101))}},
		"cpu.quota: 999 is neither":            {CPU: &specs.LinuxCPU{Quota: new(int64(999))}},
		"cpu.period: 1 is not between":         {CPU: &specs.LinuxCPU{Period: new(uint64(1))}},
		"cpu.shares: 1 is not between":         {CPU: &specs.LinuxCPU{Shares: new(uint64(1))}},
		"cpu.burst: 2000 is more":              {CPU: &specs.LinuxCPU{Quota: new(int64(1000)), Burst: new(uint64(2000))}},
		"cpu.idle: 2 is neither":               {CPU: &specs.LinuxCPU{Idle: new(int64(2))}},
		`cpu.cpus: "1-" is no list of CPUs`:    {CPU: &specs.LinuxCPU{Cpus: "1-"}},
		`cpu.mems: "x" is no list of memory`:   {CPU: &specs.LinuxCPU{Mems: "x"}},
		"pids.limit: -2 is neither":            {Pids: &specs.LinuxPids{Limit: new(int64(-2))}},
		"blockIO.weight: 1001 is not between":  {BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(1001))}},
		"blockIO.weight: 9 is not between 10 ": {BlockIO: &specs.LinuxBlockIO{LeafWeight: new(uint16(9))}},
	} {
		if err := Check(&r); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error is %v", want, err)
		}
	}
	for _, r := range []*specs.LinuxResources{
		nil, {},
		{Memory: memory(-1, -1), CPU: &specs.LinuxCPU{Quota: new(int64(-1)), Cpus: "0-0,0"}, Pids: &specs.LinuxPids{Limit: new(int64(-1))}},
		// As engines fill in what nobody asked for.
		{Memory: &specs.LinuxMemory{Limit: new(int64(0))}, CPU: &specs.LinuxCPU{Shares: new(uint64(0)), Period: new(uint64(0))}, BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(0))}},
	} {
		if err := Check(r); err != nil {
			t.Error(err)
		}
	}
}

// The kernel would refuse all limits for one CPU that is not there.
func TestCheckPlacement(t *testing.T) {
	for want, cpu := range map[string]specs.LinuxCPU{
		`cpu.cpus: "0-65535": this host has CPUs 0`:       {Cpus: "0-65535"},
		`cpu.cpus: "0,4294967296": this host has CPUs 0`:  {Cpus: "0,4294967296"},
		`cpu.mems: "65535": this host has memory nodes 0`: {Mems: "65535"},
	} {
		if err := Check(&specs.LinuxResources{CPU: &cpu}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	if err := Check(&specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0", Mems: "0"}}); err != nil {
		t.Error(err)
	}
}
