package runtime

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

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

// The kernel has 12 bits for a major and 20 for a minor number.
const majors, minors = 1 << 12, 1 << 20

func inGuest(d specs.LinuxDevice) bool {
	if d.Type == "p" {
		return true
	}
	list, ok := guestDevices[d.Major]
	return ok && (d.Type == "c" || d.Type == "u") && (list == nil || slices.Contains(list, d.Minor))
}

// onHost tells whether a device of this number is there.
func onHost(d specs.LinuxDevice) bool {
	class := "char"
	if d.Type == "b" {
		class = "block"
	}
	_, err := os.Stat(fmt.Sprintf("/sys/dev/%s/%d:%d", class, d.Major, d.Minor))
	return err == nil
}

// checkDevices refuses the host's devices: inside, a node of one would mean
// nothing, or worse, something else. Of a number that nobody has, a node is made;
// the agent refuses it where it is one of the machine's own. A privileged container
// is given every node of the host without having asked for one: Translate leaves
// them out.
func checkDevices(s *specs.Spec) error {
	for i, d := range s.Linux.Devices {
		name := fmt.Sprintf("linux.devices[%d]", i)
		switch {
		case d.Path == "" || d.Path[0] != '/':
			return fmt.Errorf("%s.path: %q must be absolute", name, d.Path)
		case !slices.Contains([]string{"b", "c", "u", "p"}, d.Type):
			return fmt.Errorf("%s.type: %q must be b, c, u or p", name, d.Type)
		case d.Type != "p" && (d.Major < 0 || d.Major >= majors):
			return fmt.Errorf("%s.major: %d must be 0 to %d", name, d.Major, majors-1)
		case d.Type != "p" && (d.Minor < 0 || d.Minor >= minors):
			return fmt.Errorf("%s.minor: %d must be 0 to %d", name, d.Minor, minors-1)
		case !inGuest(d) && d.Type != "b" && !privileged(s.Linux) && onHost(d):
			return fmt.Errorf("%s: device %s (%s %d:%d) of the host cannot cross into a VM: remove --device", name, d.Path, d.Type, d.Major, d.Minor)
		}
	}
	return nil
}

// checkDeviceRules is about the devices cgroup; the guest's agent applies it.
func checkDeviceRules(s *specs.Spec) error {
	if s.Linux.Resources == nil {
		return nil
	}
	for i, d := range s.Linux.Resources.Devices {
		name := fmt.Sprintf("linux.resources.devices[%d]", i)
		switch {
		case !slices.Contains([]string{"", "a", "b", "c"}, d.Type):
			return fmt.Errorf("%s.type: %q must be a, b or c", name, d.Type)
		case strings.Trim(d.Access, "rwm") != "":
			return fmt.Errorf("%s.access: %q must be of the letters r, w and m", name, d.Access)
		case !unset(d.Major) && (*d.Major < 0 || *d.Major > math.MaxUint32):
			return fmt.Errorf("%s.major: %d is no number of a device", name, *d.Major)
		case !unset(d.Minor) && (*d.Minor < 0 || *d.Minor > math.MaxUint32):
			return fmt.Errorf("%s.minor: %d is no number of a device", name, *d.Minor)
		}
	}
	return nil
}

// privileged tells a container that may use every device.
func privileged(linux *specs.Linux) bool {
	if linux.Resources == nil {
		return false
	}
	return slices.ContainsFunc(linux.Resources.Devices, func(d specs.LinuxDeviceCgroup) bool {
		all := d.Type == "" || d.Type == "a"
		return d.Allow && all && unset(d.Major) && unset(d.Minor) && d.Access == "rwm"
	})
}

// unset tells "any number": none, or the -1 of older engines.
func unset(n *int64) bool { return n == nil || *n == -1 }
