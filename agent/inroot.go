package agent

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Paths of a container are resolved with its root as "/", by the kernel: no link
// and no ".." leads out, also while somebody changes the tree (openat2(2)). Every
// kernel that has the mount calls of mounts.go has RESOLVE_IN_ROOT too.

// openInRoot gives an O_PATH descriptor of a path inside root.
func openInRoot(root *os.File, path string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 100 {
		fd, err := unix.Openat2(int(root.Fd()), path, how)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		// The kernel could not tell whether a concurrent rename led out.
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: unix.EAGAIN}
}

// maxLinks is how many links that lead nowhere yet are followed for one path, as
// many as the kernel follows.
const maxLinks = 40

// mkdirInRoot opens a directory inside root and makes what is missing of it, if
// need be where a link points to.
func mkdirInRoot(root *os.File, path string) (*os.File, error) {
	return makeInRoot(root, path, mkdirEntry, maxLinks)
}

// createInRoot makes an empty file inside root and the directories above it.
func createInRoot(root *os.File, path string) (*os.File, error) {
	return makeInRoot(root, path, createEntry, maxLinks)
}

// makeInRoot opens path inside root, made by the given function if it is missing.
// Images have links like /etc/resolv.conf -> ../run/resolv.conf whose target
// comes into being only at run time.
func makeInRoot(root *os.File, path string, makeEntry func(parent int, name string) error, links int) (*os.File, error) {
	path = filepath.Clean("/" + path)
	entry, err := openInRoot(root, path, 0)
	if err == nil || !errors.Is(err, unix.ENOENT) || path == "/" {
		return entry, err
	}
	if links == 0 {
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
	}
	parent, err := makeInRoot(root, filepath.Dir(path), mkdirEntry, links)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	err = makeEntry(int(parent.Fd()), filepath.Base(path))
	if errors.Is(err, unix.EEXIST) {
		// It was not there a moment ago: a link that leads nowhere.
		if path, err = throughLink(root, parent, path); err == nil {
			return makeInRoot(root, path, makeEntry, links-1)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return openEntry(parent, path, 0)
}

func mkdirEntry(parent int, name string) error { return unix.Mkdirat(parent, name, 0o755) }

func createEntry(parent int, name string) error {
	return unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
}

// throughLink gives the path inside root that the link at path, an entry of
// parent, points to.
func throughLink(root, parent *os.File, path string) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(parent.Fd()), filepath.Base(path), buffer)
	if err != nil {
		return path, err
	}
	target := string(buffer[:n])
	if filepath.IsAbs(target) {
		return target, nil
	}
	// Links above the parent are resolved already.
	above, err := os.Readlink(descriptorPath(int(parent.Fd())))
	if err != nil {
		return path, err
	}
	place, err := os.Readlink(descriptorPath(int(root.Fd())))
	if err != nil {
		return path, err
	}
	above, err = filepath.Rel(place, above)
	return filepath.Join("/", above, target), err
}

// openEntry opens what lies directly in a directory.
func openEntry(parent *os.File, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), filepath.Base(path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
