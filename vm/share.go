package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Share is one file or directory of the host that the guest sees below the
// VM's shared directory.
type Share struct {
	// Source is the path on the host, symlinks followed.
	Source string `json:"source"`
	// Target is relative to the shared directory: <container>.rootfs or
	// <container>.N for a mount.
	Target string `json:"target"`
	// ReadOnly keeps QEMU itself from writing; Recursive takes the mounts below
	// the source along.
	ReadOnly  bool `json:"readOnly,omitempty"`
	Recursive bool `json:"recursive,omitempty"`
}

// Mount binds the shares below dir, each on a file or directory made for it.
// QEMU follows them with the rights of root, so they are nosuid and nodev on
// the host; what the guest makes of a mode bit or a device node is its own.
func Mount(dir string, shares []Share) error {
	for _, s := range shares {
		if err := s.mount(dir); err != nil {
			return fmt.Errorf("share %s: %w", s.Source, err)
		}
	}
	return nil
}

func (s Share) mount(dir string) error {
	target := filepath.Join(dir, s.Target)
	if err := s.makeTarget(target); err != nil {
		return err
	}
	attr := unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
		// What is unmounted below the share stays mounted at its source.
		Propagation: unix.MS_SLAVE,
	}
	if s.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	clone, flags := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), uint(unix.AT_EMPTY_PATH)
	if s.Recursive {
		clone |= unix.AT_RECURSIVE
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, s.Source, clone)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	// All attributes are set before anything can reach the mount.
	if err := unix.MountSetattr(tree, "", flags, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	err = unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

func (s Share) makeTarget(target string) error {
	info, err := os.Stat(s.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// Unmount detaches every mount below dir, deepest first.
func Unmount(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("mounts below %s: %w", dir, err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}
