package runtime

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The kernel's own character devices, which a guest has as well as the host:
// by major number all minors, or those listed.
var guestDevices = map[int64][]int64{
	1:   nil,                  // mem: null, zero, full, random, urandom
	5:   nil,                  // tty, console, ptmx
	10:  {183, 200, 229, 237}, // hwrng, net/tun, fuse, loop-control
	136: nil,                  // pts
}

func inGuest(d specs.LinuxDevice) bool {
	if d.Type == "p" {
		return true
	}
	minors, ok := guestDevices[d.Major]
	return ok && (d.Type == "c" || d.Type == "u") && (minors == nil || slices.Contains(minors, d.Minor))
}

// checkDevices refuses a device node that would mean nothing inside, or worse,
// something else. A privileged container is given every node of the host
// without having asked for one: Translate leaves them out.
func checkDevices(s *specs.Spec) error {
	for i, d := range s.Linux.Devices {
		name := fmt.Sprintf("linux.devices[%d]", i)
		switch {
		case d.Path == "" || d.Path[0] != '/':
			return fmt.Errorf("%s.path: %q must be absolute", name, d.Path)
		case !slices.Contains([]string{"b", "c", "u", "p"}, d.Type):
			return fmt.Errorf("%s.type: %q must be b, c, u or p", name, d.Type)
		case !inGuest(d) && !privileged(s):
			return fmt.Errorf("%s: device %s (%s %d:%d) of the host cannot cross into a VM: remove --device", name, d.Path, d.Type, d.Major, d.Minor)
		}
	}
	return nil
}

// privileged tells a container that may use every device.
func privileged(s *specs.Spec) bool {
	if s.Linux.Resources == nil {
		return false
	}
	return slices.ContainsFunc(s.Linux.Resources.Devices, func(d specs.LinuxDeviceCgroup) bool {
		all := d.Type == "" || d.Type == "a"
		return d.Allow && all && unset(d.Major) && unset(d.Minor) && d.Access == "rwm"
	})
}

// unset tells "any number": none, or the -1 of older engines.
func unset(n *int64) bool { return n == nil || *n == -1 }
