package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// volumeTimeout is how long a volume may take to be found by the kernel.
const volumeTimeout = 30 * time.Second

// What the kernel may keep of written data before it writes it to a disk, in bytes.
// The end of a container waits for that, and engines do not wait long.
const (
	dirtyBytes           = 64 << 20
	dirtyBackgroundBytes = 16 << 20
)

// mountLayers puts the root of a container together that has layers, and undoes what
// it did when it fails.
func mountLayers(config *protocol.Container) error {
	if config.Layers == nil {
		return nil
	}
	if err := loadModules("layers"); err != nil {
		return err
	}
	l := layered{dir: filepath.Dir(protocol.LayeredRoot(config.ID))}
	if err := l.mount(*config.Layers); err != nil {
		l.unmount()
		return fmt.Errorf("root.path: %w", err)
	}
	return nil
}

// A layered is a root while it is being made, in a directory of its own.
type layered struct {
	dir    string
	mounts []string
}

func (l *layered) mount(layers protocol.Layers) error {
	var lowers []string
	for i, name := range layers.Lower {
		lower := fmt.Sprintf("lower%d", i)
		if err := l.mountVolume(name, filepath.Join(l.dir, lower), "erofs", unix.MS_RDONLY, ""); err != nil {
			return err
		}
		lowers = append(lowers, lower)
	}
	if len(lowers) == 0 {
		return errors.New("it has no layers")
	}
	upper := filepath.Join(l.dir, "upper")
	if err := l.mountUpper(layers.Upper, upper); err != nil {
		return err
	}
	if err := makeUpper(upper, filepath.Join(l.dir, lowers[0])); err != nil {
		return fmt.Errorf("upper: %w", err)
	}
	// Nothing is kept in the upper that depends on one lower: the next start may have
	// another (Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems").
	// Whole paths of 127 layers would be more than a mount takes.
	options := fmt.Sprintf("lowerdir=%s,upperdir=upper/fs,workdir=upper/work,index=off,metacopy=off,redirect_dir=off",
		strings.Join(lowers, ":"))
	return l.inDir(func() error { return l.mountAt("overlay", filepath.Join(l.dir, "root"), "overlay", 0, options) })
}

// inDir calls do on a thread of its own that has the directory for its working
// directory.
func (l *layered) inDir(do func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine that does not unlock it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(l.dir)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// mountUpper mounts the volume of that name, or memory where it is empty.
func (l *layered) mountUpper(name, target string) error {
	if name == "" {
		return l.mountAt("upper", target, "tmpfs", 0, "mode=0700")
	}
	if err := limitDirty(); err != nil {
		return err
	}
	// The host's file shrinks with discard. Its tables are zeros already.
	return l.mountVolume(name, target, "ext4", 0, "discard,noinit_itable,errors=remount-ro")
}

func (l *layered) mountVolume(name, target, kind string, flags uintptr, data string) error {
	device := await(volumeTimeout, func() string { return findVolume("/sys", name) })
	if device == "" {
		return fmt.Errorf("the VM has no volume %q", name)
	}
	if err := l.mountAt("/dev/"+device, target, kind, flags, data); err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return nil
}

func (l *layered) mountAt(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", kind, err)
	}
	l.mounts = append(l.mounts, target)
	return nil
}

func (l *layered) unmount() {
	for i := len(l.mounts) - 1; i >= 0; i-- {
		_ = unix.Unmount(l.mounts[i], unix.MNT_DETACH)
	}
}

// findVolume is the name of the block device in sys that has the serial number, or of
// the partition that has the name, or the one that the name is the file of.
func findVolume(sys, name string) string {
	if device, ok := strings.CutPrefix(name, "/dev/"); ok {
		return device
	}
	serials, _ := filepath.Glob(filepath.Join(sys, "block/*/serial"))
	for _, file := range serials {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == name {
			return filepath.Base(filepath.Dir(file))
		}
	}
	events, _ := filepath.Glob(filepath.Join(sys, "class/block/*/uevent"))
	for _, file := range events {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains("\n"+string(text), "\nPARTNAME="+name+"\n") {
			return filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}

// makeUpper makes what an overlay needs in its upper file system, once. The root's
// owner and mode are those of the topmost layer.
func makeUpper(dir, lower string) error {
	if err := os.Mkdir(filepath.Join(dir, "work"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	files, fresh := filepath.Join(dir, "fs"), filepath.Join(dir, "new")
	if _, err := os.Lstat(files); err == nil {
		return nil
	}
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(lower)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(fresh, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(fresh, stat.Mode&0o7777); err != nil {
		return err
	}
	return os.Rename(fresh, files)
}

// limitDirty bounds what is lost with a machine, and what its end waits for.
func limitDirty() error {
	for name, bytes := range map[string]int{"dirty_bytes": dirtyBytes, "dirty_background_bytes": dirtyBackgroundBytes} {
		if err := os.WriteFile(filepath.Join("/proc/sys/vm", name), fmt.Append(nil, bytes), 0); err != nil {
			return err
		}
	}
	return nil
}

// syncUpper writes back what the guest's cache holds of a container's files.
func syncUpper(config *protocol.Container) {
	if config.Layers != nil {
		syncFiles(protocol.LayeredRoot(config.ID))
	}
}
