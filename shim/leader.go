package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A leader is the shim's first thread. It is parked, and does what it is told to.
type leader chan order

type order struct {
	what func() error
	done chan error
}

// park makes the calling thread, which must be the first, the leader. It never returns.
func (l leader) park() {
	for o := range l {
		o.done <- o.what()
	}
}

// do has the leader do something and waits for it.
func (l leader) do(what func() error) error {
	o := order{what, make(chan error)}
	l <- o
	if err := <-o.done; err != nil {
		return fmt.Errorf("leader thread: %w", err)
	}
	return nil
}

// enter gives the leader a mount namespace whose root is the container's, and uts and
// ipc namespaces of its own. Engines reach all of them through /proc/<pid>/ns: cp works
// on the files, sharing on the others. The views are for show.
func (l leader) enter(plan Plan) (views []view, err error) {
	err = l.do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if name := plan.Container.Spec.Hostname; name != "" {
			if err := unix.Sethostname([]byte(name)); err != nil {
				return os.NewSyscallError("sethostname", err)
			}
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return os.NewSyscallError("make / a slave", err)
		}
		if views, err = openViews(plan); err != nil {
			return err
		}
		if err := pivot(plan.Rootfs); err != nil {
			return err
		}
		return plan.protectRoot()
	})
	return views, err
}

// protectRoot keeps what engines copy through the shim's pid from getting lost: what
// is written to a root file system whose guest has disks of it, the guest does not see.
func (p Plan) protectRoot() error {
	if p.Container.Layers == nil {
		return nil
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, attr))
}

// show mounts the views in the leader's root. The guest has made the mount points, and
// may have made anything else of them: all paths end in that root, and a view that
// has no place is left out.
func (l leader) show(views []view) {
	err := l.do(func() error {
		var errs []error
		for i, v := range views {
			errs = append(errs, v.mount(views[:i]))
		}
		for _, v := range views {
			errs = append(errs, v.close())
		}
		return errors.Join(errs...)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime shim: what engines see of the container's mounts:", err)
	}
}

func pivot(root string) error {
	// pivot_root wants a mount point.
	if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", root, err)
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("chdir %s: %w", root, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount of the old root", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// A view is a mount of the container as engines see it through its pid: the host's
// files where it has some, and an empty read-only directory for a tmpfs, whose files
// are in the guest's memory. A copy to there fails instead of getting lost below it.
type view struct {
	destination string
	// tree is the mount while it has no place yet (open_tree(2), fsmount(2)).
	tree  int
	tmpfs bool
}

// openViews has to be called where the shares are mounted.
func openViews(plan Plan) ([]view, error) {
	shared := map[string]string{}
	for _, s := range plan.Shares {
		shared[path.Join(protocol.ShareDir, s.Target)] = filepath.Join(plan.Machine.Share, s.Target)
	}
	var views []view
	for _, m := range plan.Container.Spec.Mounts {
		v := view{destination: path.Join("/", m.Destination), tmpfs: m.Type == "tmpfs"}
		source, ok := shared[m.Source]
		var err error
		switch {
		case v.tmpfs:
			v.tree, err = newTmpfs()
		case ok:
			v.tree, err = unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("mount of %s: %w", m.Destination, err)
		}
		views = append(views, v)
	}
	return views, nil
}

func newTmpfs() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	return tree, os.NewSyscallError("fsmount", err)
}

// mount gives the view its place. Below a tmpfs of those before, nobody but this has
// made one.
func (v view) mount(before []view) error {
	for _, b := range before {
		if b.tmpfs && strings.HasPrefix(v.destination, b.destination+"/") {
			if err := v.makePlace(); err != nil {
				return err
			}
			break
		}
	}
	err := unix.MoveMount(v.tree, "", unix.AT_FDCWD, v.destination, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: move_mount: %w", v.destination, err)
	}
	return nil
}

func (v view) makePlace() error {
	var info unix.Stat_t
	if err := unix.Fstat(v.tree, &info); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if info.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.MkdirAll(v.destination, 0o755)
	}
	if err := os.MkdirAll(path.Dir(v.destination), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(v.destination, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// close ends what is done to the view.
func (v view) close() (err error) {
	if v.tmpfs {
		err = os.NewSyscallError("mount_setattr", unix.MountSetattr(v.tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
	}
	return errors.Join(err, unix.Close(v.tree))
}
