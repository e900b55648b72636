package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultDevices are in every container (config-linux.md, "Default Devices").
// /dev/console comes with a terminal, /dev/ptmx is a link.
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
}

// devLinks are links in /dev (runtime-linux.md, "Dev symbolic links").
var devLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"core", "/proc/kcore"},
}

// needsDev tells whether /dev is ours to fill: not if it is somebody else's
// directory.
func needsDev(mounts []specs.Mount) bool {
	for _, m := range mounts {
		if filepath.Clean(m.Destination) == "/dev" && newMount(m).Type == "bind" {
			return false
		}
	}
	return true
}

// allDevices joins the default devices with the spec's, which win.
func allDevices(devices []specs.LinuxDevice) []specs.LinuxDevice {
	taken := map[string]bool{}
	for _, device := range devices {
		taken[filepath.Clean(device.Path)] = true
	}
	var all []specs.LinuxDevice
	for _, device := range defaultDevices {
		if !taken[device.Path] {
			all = append(all, device)
		}
	}
	for _, device := range devices {
		if filepath.Clean(device.Path) != "/dev/ptmx" {
			all = append(all, device)
		}
	}
	return all
}

// makeDevice makes a node, or leaves the one that is there.
func makeDevice(root *os.File, device specs.LinuxDevice) error {
	dir, err := mkdirInRoot(root, filepath.Dir(device.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = makeNode(dir, filepath.Base(device.Path), device, userMappings{})
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// makeNode makes a node in dir.
func makeNode(dir *os.File, name string, device specs.LinuxDevice, users userMappings) error {
	kind, err := deviceKind(device.Type)
	if err != nil {
		return err
	}
	number, err := deviceNumber(device)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(int(dir.Fd()), name, kind|deviceMode(device), number); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	return own(dir, name, device, users)
}

func deviceMode(device specs.LinuxDevice) uint32 {
	if device.FileMode == nil {
		return 0o666
	}
	return uint32(*device.FileMode) & 0o7777
}

// deviceNumber refuses what the kernel would cut: it has 12 bits for a major and
// 20 for a minor number.
func deviceNumber(device specs.LinuxDevice) (int, error) {
	const majors, minors = 1 << 12, 1 << 20
	if device.Major < 0 || device.Major >= majors || device.Minor < 0 || device.Minor >= minors {
		return 0, fmt.Errorf("there is no device %d:%d", device.Major, device.Minor)
	}
	return int(unix.Mkdev(uint32(device.Major), uint32(device.Minor))), nil
}

// deviceMount makes a node in dir, whatever the umask, and gives a mount of it.
func deviceMount(dir *os.File, name string, device specs.LinuxDevice, users userMappings) (*os.File, error) {
	if err := makeNode(dir, name, device, users); err != nil {
		return nil, err
	}
	if err := unix.Fchmodat(int(dir.Fd()), name, deviceMode(device), 0); err != nil {
		return nil, fmt.Errorf("chmod: %w", err)
	}
	return cloneMount(int(dir.Fd()), name, 0)
}

// bindDevice mounts a node.
func bindDevice(root, node *os.File, device specs.LinuxDevice) error {
	target, err := createInRoot(root, device.Path)
	if err != nil {
		return err
	}
	defer target.Close()
	return attachMount(node, int(target.Fd()))
}

func deviceKind(letter string) (uint32, error) {
	switch letter {
	case "c", "u":
		return unix.S_IFCHR, nil
	case "b":
		return unix.S_IFBLK, nil
	case "p":
		return unix.S_IFIFO, nil
	}
	return 0, fmt.Errorf("type %q is unknown", letter)
}

func own(dir *os.File, name string, device specs.LinuxDevice, users userMappings) error {
	uid, err := ownerOf(device.UID, users.uids)
	if err != nil {
		return fmt.Errorf("uid: %w", err)
	}
	gid, err := ownerOf(device.GID, users.gids)
	if err != nil {
		return fmt.Errorf("gid: %w", err)
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	if err := unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	return nil
}

func ownerOf(id *uint32, mappings []specs.LinuxIDMapping) (int, error) {
	if id == nil {
		return outside(mappings, 0)
	}
	return outside(mappings, *id)
}

func makeDevLinks(root *os.File) error {
	dev, err := mkdirInRoot(root, "/dev")
	if err != nil {
		return fmt.Errorf("/dev: %w", err)
	}
	defer dev.Close()
	fd := int(dev.Fd())
	if err := unix.Unlinkat(fd, "ptmx", 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("/dev/ptmx: %w", err)
	}
	if err := unix.Symlinkat("pts/ptmx", fd, "ptmx"); err != nil {
		return fmt.Errorf("/dev/ptmx: %w", err)
	}
	for _, link := range devLinks {
		if link.name == "core" && !exists("/proc/kcore") {
			continue
		}
		err := unix.Symlinkat(link.target, fd, link.name)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("/dev/%s: %w", link.name, err)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// reopenNull replaces standard descriptors that are the guest's /dev/null by the
// container's.
func reopenNull() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	for fd := range 3 {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || !isDevNull(&stat) {
			continue
		}
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("/dev/null: %w", err)
		}
	}
	return nil
}
