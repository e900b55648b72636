package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

func rule(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access}
}

func TestDeviceAccess(t *testing.T) {
	disk := specs.LinuxDevice{Path: "/dev/d", Type: "b", Major: 8, Minor: 16}
	none := specs.LinuxDeviceCgroup{Access: "rwm"}
	for name, test := range map[string]struct {
		rules []specs.LinuxDeviceCgroup
		want  string
	}{
		"no rules":       {nil, ""},
		"nothing":        {[]specs.LinuxDeviceCgroup{none}, ""},
		"all of it":      {[]specs.LinuxDeviceCgroup{none, rule(true, "b", 8, 16, "rwm")}, "rwm"},
		"read-only":      {[]specs.LinuxDeviceCgroup{none, rule(true, "b", 8, 16, "rm")}, "rm"},
		"in two rules":   {[]specs.LinuxDeviceCgroup{none, rule(true, "b", 8, -1, "r"), rule(true, "a", -1, 16, "w")}, "rw"},
		"of others":      {[]specs.LinuxDeviceCgroup{none, rule(true, "c", 8, 16, "rwm"), rule(true, "b", 8, 17, "rwm"), rule(true, "b", 9, 16, "rwm")}, ""},
		"denied at last": {[]specs.LinuxDeviceCgroup{rule(true, "b", 8, 16, "rwm"), none}, ""},
	} {
		if got := deviceAccess(&specs.LinuxResources{Devices: test.rules}, disk); got != test.want {
			t.Errorf("%s: %q, not %q", name, got, test.want)
		}
	}
}

// In the guest the numbers of the host's disks are others'.
func TestTranslateDisks(t *testing.T) {
	b := Bundle{
		Spec: &specs.Spec{Linux: &specs.Linux{
			Devices: []specs.LinuxDevice{
				{Path: "/dev/first", Type: "b", Major: 8, Minor: 16}, {Path: "/dev/tun", Type: "c", Major: 10, Minor: 200}, {Path: "/dev/second", Type: "b", Major: 8, Minor: 32},
			},
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Access: "rwm"}, rule(true, "b", 8, 16, "rwm"), rule(true, "b", 8, 32, "r"), rule(true, "c", 10, 200, "rwm"),
			}},
		}},
		Disks: map[int]vm.Disk{0: {Path: "/dev/sdb"}, 2: {Path: "/dev/sdc", ReadOnly: true}},
	}
	if diff := cmp.Diff([]vm.Disk{
		{Path: "/dev/sdb", Serial: "vmruntime-disk-0"}, {Path: "/dev/sdc", Serial: "vmruntime-disk-1", ReadOnly: true},
	}, machineDisks(b)); diff != "" {
		t.Errorf("the machine's (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]protocol.Disk{{Path: "/dev/first", Access: "rwm"}, {Path: "/dev/second", Access: "r"}}, insideDisks(b)); diff != "" {
		t.Errorf("the container's (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]specs.LinuxDeviceCgroup{{Access: "rwm"}, rule(true, "c", 10, 200, "rwm")}, insideLinux(b).Resources.Devices); diff != "" {
		t.Errorf("rules (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(b.Spec.Linux.Devices, insideLinux(b).Devices); diff != "" {
		t.Errorf("devices (-want +got)\n%s", diff)
	}
}
