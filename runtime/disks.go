package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// maxDevices leaves two slots to the root file system.
const maxDevices = vm.MaxDisks - 2

// findDisks finds the host's block devices that the container is given, by their
// index in linux.devices. A privileged container is given all of them, and none: it
// has not asked for any.
func findDisks(linux *specs.Linux) (map[int]vm.Disk, error) {
	if linux == nil || privileged(linux) {
		return nil, nil
	}
	disks := map[int]vm.Disk{}
	for i, d := range linux.Devices {
		if d.Type != "b" || !onHost(d) {
			continue
		}
		disk, err := findDisk(d, deviceAccess(linux.Resources, d))
		if err != nil {
			return nil, fmt.Errorf("linux.devices[%d]: block device %s (%d:%d) %w", i, d.Path, d.Major, d.Minor, err)
		}
		disks[i] = disk
	}
	if len(disks) > maxDevices {
		return nil, fmt.Errorf("linux.devices: %d are block devices, and a VM has slots for %d: remove --device", len(disks), maxDevices)
	}
	return disks, nil
}

// findDisk finds the node of a block device on the host. One that the host uses itself
// can only be read: two kernels would write to it.
func findDisk(d specs.LinuxDevice, access string) (vm.Disk, error) {
	path, err := diskNode(d)
	if err != nil {
		return vm.Disk{}, err
	}
	disk := vm.Disk{Path: path, ReadOnly: !strings.Contains(access, "w")}
	if disk.ReadOnly {
		return disk, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return vm.Disk{}, fmt.Errorf("is in use on the host, which must not write to it beside a VM: unmount %s, or give it read-only (--device %s:%s:r)", path, path, d.Path)
	}
	if err != nil {
		return vm.Disk{}, errors.New(reason(&os.PathError{Op: "open", Path: path, Err: err}))
	}
	return disk, unix.Close(fd)
}

// diskNode is the node that the kernel has named the device after.
func diskNode(d specs.LinuxDevice) (string, error) {
	file, err := os.Open(fmt.Sprintf("/sys/dev/block/%d:%d/uevent", d.Major, d.Minor))
	if err != nil {
		return "", errors.New("does not exist on the host")
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "DEVNAME=")
		if !ok {
			continue
		}
		path := "/dev/" + name
		info, err := os.Stat(path)
		if err == nil && info.Sys().(*syscall.Stat_t).Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
			return path, nil
		}
	}
	return "", errors.New("has no node in the host's /dev")
}

// deviceAccess is what the rules let the container do with a device, of the letters r,
// w and m. Of two rules that fit the later counts.
func deviceAccess(r *specs.LinuxResources, d specs.LinuxDevice) string {
	if r == nil {
		return ""
	}
	access := ""
	for _, letter := range "rwm" {
		for _, rule := range slices.Backward(r.Devices) {
			if fits(rule, d) && (!rule.Allow || strings.ContainsRune(rule.Access, letter)) {
				if rule.Allow {
					access += string(letter)
				}
				break
			}
		}
	}
	return access
}

func fits(rule specs.LinuxDeviceCgroup, d specs.LinuxDevice) bool {
	kind := rule.Type == "" || rule.Type == "a" || rule.Type == d.Type
	return kind && (unset(rule.Major) || *rule.Major == d.Major) && (unset(rule.Minor) || *rule.Minor == d.Minor)
}

// insideDisks are the disks as the guest is told of them, in the order of machineDisks.
func insideDisks(b Bundle) []protocol.Disk {
	var disks []protocol.Disk
	for i, d := range b.Spec.Linux.Devices {
		if _, ok := b.Disks[i]; ok {
			disks = append(disks, protocol.Disk{Path: d.Path, Access: deviceAccess(b.Spec.Linux.Resources, d)})
		}
	}
	return disks
}

func machineDisks(b Bundle) []vm.Disk {
	var disks []vm.Disk
	for i := range b.Spec.Linux.Devices {
		if disk, ok := b.Disks[i]; ok {
			disk.Serial = protocol.DiskSerial(len(disks))
			disks = append(disks, disk)
		}
	}
	return append(disks, layerDisks(b.Layers)...)
}

// insideRules are the devices cgroup's without those of disks: in the guest their
// numbers are another's.
func insideRules(b Bundle) []specs.LinuxDeviceCgroup {
	return slices.DeleteFunc(slices.Clone(b.Spec.Linux.Resources.Devices), func(rule specs.LinuxDeviceCgroup) bool {
		for i := range b.Disks {
			d := b.Spec.Linux.Devices[i]
			if rule.Type == "b" && !unset(rule.Major) && !unset(rule.Minor) && fits(rule, d) {
				return true
			}
		}
		return false
	})
}
