package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

// diskTimeout is how long a disk may take to be found by the kernel.
const diskTimeout = 30 * time.Second

// withDisks is a container whose disks have the numbers that this kernel has given
// them, in linux.devices and in the rules about devices.
func withDisks(config *protocol.Container) (*protocol.Container, error) {
	if len(config.Disks) == 0 {
		return config, nil
	}
	changed, spec, linux := *config, *config.Spec, *config.Spec.Linux
	linux.Devices = slices.Clone(linux.Devices)
	resources := specs.LinuxResources{}
	if linux.Resources != nil {
		resources = *linux.Resources
	}
	resources.Devices = slices.Clone(resources.Devices)
	for i, disk := range config.Disks {
		at := slices.IndexFunc(linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == disk.Path })
		if at < 0 {
			return nil, fmt.Errorf("linux.devices: %s is not among them", disk.Path)
		}
		major, minor, err := findDisk(protocol.DiskSerial(i))
		if err != nil {
			return nil, fmt.Errorf("linux.devices: %s: %w", disk.Path, err)
		}
		linux.Devices[at].Major, linux.Devices[at].Minor = major, minor
		resources.Devices = append(resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: "b", Major: &major, Minor: &minor, Access: disk.Access,
		})
	}
	linux.Resources, spec.Linux, changed.Spec = &resources, &linux, &spec
	return &changed, nil
}

// findDisk waits for the disk of that serial number.
func findDisk(serial string) (major, minor int64, err error) {
	dir := await(diskTimeout, func() string { return diskDir(serial) })
	if dir == "" {
		return 0, 0, fmt.Errorf("the VM has no disk %s", serial)
	}
	text, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscanf(string(text), "%d:%d", &major, &minor)
	return major, minor, err
}

func diskDir(serial string) string {
	files, _ := filepath.Glob("/sys/block/*/serial")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == serial {
			return filepath.Dir(file)
		}
	}
	return ""
}
