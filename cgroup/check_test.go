package cgroup

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

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

func TestWithin(t *testing.T) {
	const all = "0-3,8"
	for list, want := range map[string]bool{"0": true, "1-3,8,0": true, "0-3": true, "3-4": false, "0-8": false, "5": false, "3-1": false} {
		if got := within(list, all); got != want {
			t.Errorf("%s within %s: %v", list, all, got)
		}
	}
}
