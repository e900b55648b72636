// Package confine takes from a process that serves a guest what it does not need:
// Root leaves it no files but its own, Capabilities hardly any rights, Calls no
// way to other processes. They come in this order, from a goroutine that is locked
// to its thread, right before the program is executed.
package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// What every program needs of the host: itself, its libraries, its data.
var system = []string{"/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"}

// scratch is where the new root is put together; it is only seen in the mount
// namespace made for it.
const scratch = "/run"

// Root makes a root of only those paths the current one, and what every program
// needs. Device nodes stay usable behind either. Paths that do not exist are left
// out.
func Root(writable, readable []string) error {
	// Of the host's IPC objects root owns most.
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("make / a slave", err)
	}
	root, err := newRoot()
	if err != nil {
		return err
	}
	// Everything is cloned before the scratch mount hides /run.
	var binds []bind
	for _, path := range slices.Concat(system, []string{descriptors}, readable) {
		binds = append(binds, bind{path: path, readOnly: true})
	}
	for _, path := range writable {
		binds = append(binds, bind{path: path})
	}
	for i := range binds {
		if err := binds[i].clone(); err != nil {
			return fmt.Errorf("%s: %w", binds[i].path, err)
		}
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount "+scratch, err)
	}
	for _, b := range binds {
		if err := b.attach(scratch); err != nil {
			return fmt.Errorf("%s: %w", b.path, err)
		}
	}
	return pivot(scratch)
}

// newRoot is an empty tmpfs, not attached anywhere yet.
func newRoot() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen tmpfs", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "size", "64k"); err != nil {
		return -1, os.NewSyscallError("fsconfig size", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig create", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return root, os.NewSyscallError("fsmount", err)
}

// descriptors is all that is seen of /proc: file servers change modes through it.
// Other processes there would lead to their files, /proc/sys is root's to write.
const descriptors = "/proc/self/fd"

func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	// The old root is stacked on the new one now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount of the old root", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// A bind is a path that the new root has at the same place.
type bind struct {
	path     string
	readOnly bool
	link     string
	info     os.FileInfo
	tree     int
}

func (b *bind) clone() error {
	b.tree = -1
	info, err := os.Lstat(b.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b.info = info
	if info.Mode()&os.ModeSymlink != 0 {
		b.link, err = os.Readlink(b.path)
		return err
	}
	b.tree, err = unix.OpenTree(unix.AT_FDCWD, b.path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	return b.restrict()
}

func (b *bind) restrict() error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	device := b.info.Mode()&os.ModeDevice != 0
	if b.readOnly && !device {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if !device {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(b.tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr))
}

func (b *bind) attach(root string) error {
	if b.info == nil {
		return nil
	}
	target := filepath.Join(root, b.path)
	// Below /usr, which is read-only by now, it is there: make install puts the guest there.
	if _, err := os.Lstat(target); err != nil {
		if err := b.makeTarget(target); err != nil {
			return err
		}
	}
	if b.link != "" {
		return nil
	}
	err := unix.MoveMount(b.tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

func (b *bind) makeTarget(target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if b.link != "" {
		return os.Symlink(b.link, target)
	}
	if b.info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
