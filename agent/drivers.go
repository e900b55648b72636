package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

// The character devices that a container may have: by major number all minors, or
// those listed.
var ordinaryDevices = map[int64][]int64{
	1:   nil,                  // mem: null, zero, full, random, urandom
	5:   nil,                  // tty, console, ptmx
	10:  {183, 200, 229, 237}, // hwrng, net/tun, fuse, loop-control
	136: nil,                  // pts
}

// drivers are the modules behind some of them, by the device's number.
var drivers = map[[2]int64]string{{10, 200}: "tun.ko", {10, 229}: "fuse.ko"}

// prepareDevices refuses what belongs to the machine, such as the agent's channel
// and the seed, and loads what makes the others work. The container's disks are its own.
func prepareDevices(devices []specs.LinuxDevice, disks []protocol.Disk) error {
	for _, d := range devices {
		if slices.ContainsFunc(disks, func(disk protocol.Disk) bool { return disk.Path == d.Path }) {
			continue
		}
		if isMachines(d) {
			return fmt.Errorf("linux.devices: %s: %s %d:%d is a device of the machine itself", d.Path, d.Type, d.Major, d.Minor)
		}
		name := drivers[[2]int64{d.Major, d.Minor}]
		if name == "" || d.Type == "b" {
			continue
		}
		if err := loadModule(filepath.Join(modulesDir, name)); err != nil {
			return fmt.Errorf("linux.devices: %s: kernel module %s: %w", d.Path, name, err)
		}
	}
	return nil
}

// isMachines tells a device that is there and that no container is meant to have.
func isMachines(d specs.LinuxDevice) bool {
	class := "char"
	switch d.Type {
	case "b":
		class = "block"
	case "p":
		return false
	default:
		minors, ok := ordinaryDevices[d.Major]
		if ok && (minors == nil || slices.Contains(minors, d.Minor)) {
			return false
		}
	}
	_, err := os.Stat(fmt.Sprintf("/sys/dev/%s/%d:%d", class, d.Major, d.Minor))
	return err == nil
}
