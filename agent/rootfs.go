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

// A rootfs is the container's file system while it is being made. What becomes
// read-only at the end is kept open until then.
type rootfs struct {
	sources  taker
	readOnly []*os.File
	// hasDev is set when /dev is the container's own and was filled.
	hasDev bool
}

// prepare makes the mounts and devices and moves into the root.
func (r *rootfs) prepare(spec *specs.Spec) error {
	root := r.sources.take("/")
	defer root.Close()
	if err := attachRoot(root, spec.Linux.RootfsPropagation); err != nil {
		return fmt.Errorf("error preparing rootfs: %w", err)
	}
	for _, m := range spec.Mounts {
		if err := r.mount(root, spec.Root.Path, newMount(m)); err != nil {
			return err
		}
	}
	if r.hasDev = needsDev(spec.Mounts); r.hasDev {
		if err := r.makeDev(root, spec); err != nil {
			return fmt.Errorf("configuring container /dev: %w", err)
		}
	}
	if err := pivot(root); err != nil {
		return fmt.Errorf("error jailing process inside rootfs: %w", err)
	}
	if r.hasDev {
		return reopenNull()
	}
	return nil
}

func (r *rootfs) mount(root *os.File, rootPath string, m mount) error {
	if path, own := m.ownSource(rootPath); own {
		if err := m.openOwnSource(root, path); err != nil {
			return err
		}
	} else if m.hasSource() {
		m.source = r.sources.take(m.Source)
	}
	created, err := m.mountAt(root)
	if err != nil || created == nil {
		return err
	}
	if m.lateReadOnly() {
		r.readOnly = append(r.readOnly, created)
		return nil
	}
	return created.Close()
}

// finish makes read-only what has to be, and hides what the spec names.
func (r *rootfs) finish(spec *specs.Spec) error {
	for _, file := range r.readOnly {
		if err := setMount(file, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("read-only mount: %w", err)
		}
		file.Close()
	}
	if spec.Root.Readonly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, attr); err != nil {
			return fmt.Errorf("root.readonly: %w", err)
		}
	}
	for _, path := range spec.Linux.ReadonlyPaths {
		if err := makeReadonly(path); err != nil {
			return fmt.Errorf("linux.readonlyPaths: %s: %w", path, err)
		}
	}
	if err := maskPaths(spec.Linux.MaskedPaths); err != nil {
		return err
	}
	return applyPropagation(spec.Linux.RootfsPropagation)
}

// makeDev makes the devices; in a user namespace, where that is not allowed, it
// mounts those that the agent has made.
func (r *rootfs) makeDev(root *os.File, spec *specs.Spec) error {
	make := makeDevice
	if hasNamespace(spec, specs.UserNamespace) {
		make = func(root *os.File, device specs.LinuxDevice) error {
			node := r.sources.take(device.Path)
			defer node.Close()
			return bindDevice(root, node, device)
		}
	}
	for _, device := range allDevices(spec.Linux.Devices) {
		if err := make(root, device); err != nil {
			return fmt.Errorf("linux.devices: %s: %w", device.Path, err)
		}
	}
	return makeDevLinks(root)
}

// attachRoot puts the container's root over this namespace's, where pivot_root(2)
// finds it. Nothing of it spreads into the guest's own namespace.
func attachRoot(root *os.File, propagation string) error {
	flag := uintptr(unix.MS_SLAVE)
	if propagation != "" {
		known, ok := propagations[propagation]
		if !ok {
			return fmt.Errorf("linux.rootfsPropagation: %q is unknown", propagation)
		}
		// What others see of it comes last, see applyPropagation.
		if known&unix.MS_SLAVE == 0 {
			flag = unix.MS_PRIVATE
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("linux.rootfsPropagation: %w", err)
	}
	if err := setPropagation(root, flag|unix.MS_REC); err != nil {
		return fmt.Errorf("linux.rootfsPropagation: %w", err)
	}
	return attachAt(root, "/")
}

// pivot makes root the root and gets rid of the old one. With "." for both the
// old root lies over the new one and needs no directory.
func pivot(root *os.File) error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /: %w", err)
	}
	defer unix.Close(old)
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		return fmt.Errorf("chdir %q: %w", root.Name(), err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return fmt.Errorf("chdir to the old root: %w", err)
	}
	// Unmounting must not spread to the guest's own namespace.
	if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("old root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// applyPropagation gives the root, and all that is mounted in it, the propagation
// that the spec asks for; private and slave it has already.
func applyPropagation(name string) error {
	flag := propagations[name]
	if flag&(unix.MS_SHARED|unix.MS_UNBINDABLE) == 0 {
		return nil
	}
	if err := unix.Mount("", "/", "", flag|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("linux.rootfsPropagation: %w", err)
	}
	return nil
}

// makeReadonly makes a path read-only with all that the mount is otherwise.
func makeReadonly(path string) error {
	created, err := cloneMount(unix.AT_FDCWD, path, unix.AT_RECURSIVE)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer created.Close()
	if err := setMount(created, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return attachAt(created, path)
}

// maskPaths hides files behind /dev/null and directories behind one empty
// read-only tmpfs.
func maskPaths(paths []string) error {
	var mask masker
	defer mask.close()
	seen := map[string]bool{}
	for _, path := range paths {
		if clean := filepath.Clean(path); !seen[clean] {
			seen[clean] = true
			if err := mask.cover(clean); err != nil {
				return fmt.Errorf("linux.maskedPaths: %s: %w", path, err)
			}
		}
	}
	return nil
}

type masker struct{ empty *os.File }

func (m *masker) close() {
	if m.empty != nil {
		m.empty.Close()
	}
}

func (m *masker) cover(path string) error {
	target, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	var stat unix.Stat_t
	if err := unix.Fstat(target, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return m.coverDir(target)
	}
	null, err := cloneMount(unix.AT_FDCWD, "/dev/null", 0)
	if err != nil {
		return err
	}
	defer null.Close()
	if err := unix.Fstat(int(null.Fd()), &stat); err != nil || !isDevNull(&stat) {
		return errors.New("the container's /dev/null is none")
	}
	return attachMount(null, target)
}

// coverDir mounts the tmpfs the first time, and then copies of that mount.
func (m *masker) coverDir(target int) error {
	if m.empty != nil {
		copied, err := cloneMount(int(m.empty.Fd()), "", 0)
		if err != nil {
			return err
		}
		defer copied.Close()
		return attachMount(copied, target)
	}
	empty, err := newFileSystem("tmpfs", "tmpfs", []string{"nr_blocks=1", "nr_inodes=1", "ro"}, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	m.empty = empty
	return attachMount(empty, target)
}
