package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Mounts are made detached, given all their attributes and only then attached to
// a descriptor of the mount point (fsopen(2), open_tree(2), move_mount(2)). No
// path is looked up twice, so that nobody can swap it in between.

// allAttributes are what a bind mount does not inherit once it has options of
// its own.
const allAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV |
	unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NODIRATIME | unix.MOUNT_ATTR_NOSYMFOLLOW

// A mount is one entry of the spec's mounts.
type mount struct {
	specs.Mount
	mountOptions
	// made is set when the mount point was missing.
	made bool
	// source is what a bind mount clones, see sources.
	source *os.File
}

func newMount(m specs.Mount) mount {
	parsed := mount{Mount: m, mountOptions: parseMountOptions(m.Options)}
	switch {
	case parsed.flags&unix.MS_BIND != 0:
		parsed.Type = "bind"
	case parsed.Type == "bind" || parsed.Type == "rbind":
		parsed.flags |= unix.MS_BIND
		if parsed.Type == "rbind" {
			parsed.flags |= unix.MS_REC
		}
		parsed.Type = "bind"
	case parsed.Type == "cgroup":
		// The guest has nothing but cgroup2.
		parsed.Type = "cgroup2"
	}
	return parsed
}

// lateReadOnly tells whether the mount becomes read-only last, because the set-up
// still has to write to it.
func (m *mount) lateReadOnly() bool {
	return m.flags&unix.MS_RDONLY != 0 && (m.Type == "tmpfs" || filepath.Clean(m.Destination) == "/dev")
}

// mountAt makes the mount inside root and returns a descriptor of it.
func (m *mount) mountAt(root *os.File) (*os.File, error) {
	file, err := m.make(root)
	if err != nil {
		return nil, m.wrap(err)
	}
	return file, nil
}

// wrap has runc's words.
func (m *mount) wrap(err error) error {
	return fmt.Errorf("error mounting %q to rootfs at %q: %w", m.Source, m.Destination, err)
}

// hasSource tells a mount of something that exists.
func (m *mount) hasSource() bool { return m.Type == "bind" && m.flags&unix.MS_REMOUNT == 0 }

// ownSource tells what a mount takes from the container's own root, at rootPath in
// the guest, where earlier mounts are: a path inside the root.
func (m *mount) ownSource(rootPath string) (string, bool) {
	path, below := strings.CutPrefix(m.Source, rootPath+"/")
	return path, below && m.hasSource()
}

// openOwnSource clones what a path inside the root leads to.
func (m *mount) openOwnSource(root *os.File, path string) error {
	place, err := openInRoot(root, path, 0)
	if err != nil {
		return m.wrap(err)
	}
	defer place.Close()
	if m.source, err = cloneMount(int(place.Fd()), "", m.cloneFlags()); err != nil {
		return m.wrap(err)
	}
	return nil
}

// openSource clones what a bind mount mounts.
func (m *mount) openSource() (*os.File, error) {
	return cloneMount(unix.AT_FDCWD, m.Source, m.cloneFlags())
}

func (m *mount) cloneFlags() uint {
	if m.flags&unix.MS_REC != 0 {
		return unix.AT_RECURSIVE
	}
	return 0
}

func (m *mount) make(root *os.File) (*os.File, error) {
	target, err := m.openTarget(root)
	if err != nil {
		return nil, err
	}
	defer target.Close()
	if m.flags&unix.MS_REMOUNT != 0 {
		return nil, m.remount(target)
	}
	created, err := m.create(target)
	if err != nil {
		return nil, err
	}
	if err := m.attach(created, target); err != nil {
		created.Close()
		return nil, err
	}
	return created, nil
}

// create makes the mount, detached.
func (m *mount) create(target *os.File) (*os.File, error) {
	if m.Type == "bind" {
		return m.bind()
	}
	data := m.data
	if m.Type == "tmpfs" && !m.made {
		// The mode is that of the directory below, if the options say nothing.
		info, err := target.Stat()
		if err != nil {
			return nil, err
		}
		data = append([]string{fmt.Sprintf("mode=%04o", unixMode(info.Mode()))}, data...)
	}
	flags := m.flags
	if m.lateReadOnly() {
		flags &^= unix.MS_RDONLY
	}
	created, err := newFileSystem(m.Type, m.Source, append(superFlags(flags), data...), attributes(flags))
	if err != nil || !m.copyUp {
		return created, err
	}
	if err := copyTree(descriptorPath(int(target.Fd())), descriptorPath(int(created.Fd()))); err != nil {
		created.Close()
		return nil, fmt.Errorf("tmpcopyup: %w", err)
	}
	return created, nil
}

// bind gives the source its options. Only the top gets the plain ones, as with
// mount(8).
func (m *mount) bind() (*os.File, error) {
	created := m.source
	if m.flags&^(unix.MS_BIND|unix.MS_REC) == 0 && m.cleared == 0 {
		return created, nil
	}
	flagsNow := m.flags
	if m.lateReadOnly() {
		flagsNow &^= unix.MS_RDONLY
	}
	attr := &unix.MountAttr{Attr_set: attributes(flagsNow), Attr_clr: allAttributes}
	if (m.flags|m.cleared)&(unix.MS_NOATIME|unix.MS_RELATIME|unix.MS_STRICTATIME) != 0 {
		attr.Attr_clr |= unix.MOUNT_ATTR__ATIME
	}
	if err := setMount(created, 0, attr); err != nil {
		return nil, fmt.Errorf("mount options: %w", err)
	}
	return created, nil
}

// attach puts a mount at its place and applies what needs it to be there.
func (m *mount) attach(created, target *os.File) error {
	if m.recursive {
		attr := &unix.MountAttr{Attr_set: m.recursiveSet, Attr_clr: m.recursiveClear}
		if err := setMount(created, unix.AT_RECURSIVE, attr); err != nil {
			return fmt.Errorf("recursive mount options: %w", err)
		}
	}
	if err := attachMount(created, int(target.Fd())); err != nil {
		return err
	}
	for _, p := range m.propagation {
		if err := setPropagation(created, p); err != nil {
			return err
		}
	}
	return nil
}

func setPropagation(file *os.File, propagation uintptr) error {
	var flags uint
	if propagation&unix.MS_REC != 0 {
		flags = unix.AT_RECURSIVE
	}
	attr := &unix.MountAttr{Propagation: uint64(propagation &^ unix.MS_REC)}
	if err := setMount(file, flags, attr); err != nil {
		return fmt.Errorf("mount propagation: %w", err)
	}
	return nil
}

// remount changes the mount that is at target already.
func (m *mount) remount(target *os.File) error {
	path := descriptorPath(int(target.Fd()))
	if err := unix.Mount("", path, "", m.flags, strings.Join(m.data, ",")); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	return nil
}

// openTarget opens the mount point, inside root whatever links there are, and
// makes it if it is missing.
func (m *mount) openTarget(root *os.File) (*os.File, error) {
	if m.Type == "proc" || m.Type == "sysfs" {
		if err := m.checkOrdinary(root); err != nil {
			return nil, err
		}
	}
	target, err := openInRoot(root, m.Destination, 0)
	if errors.Is(err, fs.ErrNotExist) {
		m.made = true
		target, err = m.makeTarget(root)
	}
	if err != nil {
		return nil, fmt.Errorf("mount point: %w", err)
	}
	if err := m.checkTarget(root, target); err != nil {
		target.Close()
		return nil, err
	}
	return target, nil
}

// checkOrdinary refuses to mount proc and sysfs through a link (CVE-2019-19921).
func (m *mount) checkOrdinary(root *os.File) error {
	var stat unix.Stat_t
	name := strings.TrimPrefix(filepath.Clean(m.Destination), "/")
	err := unix.Fstatat(int(root.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("filesystem %q must be mounted on ordinary directory", m.Type)
	}
	return nil
}

func (m *mount) makeTarget(root *os.File) (*os.File, error) {
	if m.Type == "bind" {
		info, err := m.source.Stat()
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return createInRoot(root, m.Destination)
		}
	}
	return mkdirInRoot(root, m.Destination)
}

// procFiles are the files below /proc that may be mounted over, by lxcfs.
var procFiles = map[string]bool{
	"cpuinfo": true, "diskstats": true, "meminfo": true, "stat": true, "swaps": true,
	"uptime": true, "loadavg": true, "slabinfo": true,
	"sys/kernel/ns_last_pid": true, "sys/crypto/fips_enabled": true,
}

// checkTarget looks at where the mount point really is, as runc does.
func (m *mount) checkTarget(root, target *os.File) error {
	place, err := os.Readlink(descriptorPath(int(target.Fd())))
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	inside, ok := strings.CutPrefix(place, strings.TrimSuffix(root.Name(), "/"))
	if !ok {
		return fmt.Errorf("mount point %q is outside of rootfs %q", place, root.Name())
	}
	inside = strings.TrimPrefix(inside, "/")
	below, isProc := strings.CutPrefix(inside, "proc/")
	switch {
	case inside == "":
		return fmt.Errorf("mount point %q is on the top of rootfs", m.Destination)
	case inside == "proc" && !m.isProc():
		return fmt.Errorf("%q cannot be mounted because it is not of type proc", m.Destination)
	case isProc && !procFiles[below]:
		return fmt.Errorf("%q cannot be mounted because it is inside /proc", m.Destination)
	}
	return nil
}

func (m *mount) isProc() bool {
	if m.Type != "bind" {
		return m.Type == "proc"
	}
	var system unix.Statfs_t
	return unix.Fstatfs(int(m.source.Fd()), &system) == nil && system.Type == unix.PROC_SUPER_MAGIC
}

// newFileSystem makes a mount of a new file system.
func newFileSystem(kind, source string, options []string, attr uint64) (*os.File, error) {
	context, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("file system %q: %w", kind, err)
	}
	defer unix.Close(context)
	if source != "" {
		if err := unix.FsconfigSetString(context, "source", source); err != nil {
			return nil, contextError(context, "source", err)
		}
	}
	for _, option := range options {
		if err := setOption(context, option); err != nil {
			return nil, contextError(context, fmt.Sprintf("option %q", option), err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, contextError(context, "create "+kind, err)
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, int(attr))
	if err != nil {
		return nil, contextError(context, "mount "+kind, err)
	}
	return os.NewFile(uintptr(fd), kind), nil
}

func setOption(context int, option string) error {
	name, value, hasValue := strings.Cut(option, "=")
	if hasValue {
		return unix.FsconfigSetString(context, name, value)
	}
	return unix.FsconfigSetFlag(context, name)
}

// contextError adds the kernel's own words, if it has any.
func contextError(context int, what string, err error) error {
	message := make([]byte, 256)
	if n, readErr := unix.Read(context, message); readErr == nil && n > 0 {
		// "e " before an error, "w " before a warning.
		_, text, _ := strings.Cut(strings.TrimSpace(string(message[:n])), " ")
		return fmt.Errorf("%s: %w (%s)", what, err, text)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// cloneMount gives a detached copy of the mount at a path; with an empty path of
// that which a descriptor is on.
func cloneMount(dir int, path string, flags uint) (*os.File, error) {
	flags |= unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(dir, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// attachMount puts a detached mount on what target is a descriptor of.
func attachMount(mount *os.File, target int) error {
	err := unix.MoveMount(int(mount.Fd()), "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// attachAt puts a detached mount on a path.
func attachAt(mount *os.File, path string) error {
	target, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(target)
	return attachMount(mount, target)
}

// inMountNamespace calls do on a thread with a mount namespace of its own, and of
// that thread's life.
func inMountNamespace(do func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine that does not unlock it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

func setMount(mount *os.File, flags uint, attr *unix.MountAttr) error {
	return unix.MountSetattr(int(mount.Fd()), "", flags|unix.AT_EMPTY_PATH, attr)
}

func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// unixMode is the twelve bits of a mode as the kernel counts them.
func unixMode(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		bits |= unix.S_ISUID
	}
	if mode&fs.ModeSetgid != 0 {
		bits |= unix.S_ISGID
	}
	if mode&fs.ModeSticky != 0 {
		bits |= unix.S_ISVTX
	}
	return bits
}
