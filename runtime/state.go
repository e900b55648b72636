package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Errors that engines tell apart by their texts, which are runc's.
var (
	errExist     = errors.New("container with given ID already exists")
	errNotExist  = errors.New("container does not exist")
	errInvalidID = errors.New("invalid container ID format")
	errDamaged   = errors.New("its state is damaged: use delete --force")
)

const (
	stateFile = "state.json"
	lockFile  = "lock"
)

// A record is what is kept of a container in <root>/<id>/state.json.
type record struct {
	Version string `json:"ociVersion"`
	ID      string `json:"id"`
	// PID is the shim's, 0 until it is up. PIDStart tells it from a later
	// process with the same number.
	PID         int               `json:"pid"`
	PIDStart    uint64            `json:"pidStartTime"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Owner       string            `json:"owner"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Hooks are those still to run: the bundle may be gone by then.
	Hooks *specs.Hooks `json:"hooks,omitempty"`
}

var idPattern = regexp.MustCompile(`^[\w+.-]+$`)

// maxID leaves room for what files of a container's are named around its id.
const maxID = 200

func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("container id cannot be empty")
	case len(id) > maxID:
		return fmt.Errorf("container id %.20s... is longer than %d characters", id, maxID)
	case !idPattern.MatchString(id), id == ".", id == "..":
		return errInvalidID
	}
	return nil
}

// A stateDir is a container's directory, locked: nobody else creates or deletes
// the container meanwhile. Those who only read do without the lock.
type stateDir struct {
	path string
	lock *os.File
}

// makeStateDir makes the directory of a new container, complete and locked. Of
// several at once only one gets it.
func makeStateDir(root string, r record) (*stateDir, error) {
	d, err := prepareStateDir(root, r)
	if err != nil {
		return nil, fmt.Errorf("state of container %s: %w", r.ID, err)
	}
	path := filepath.Join(root, r.ID)
	err = unix.Renameat2(unix.AT_FDCWD, d.path, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == nil {
		d.path = path
		return d, nil
	}
	err = errors.Join(os.NewSyscallError("renameat2", err), d.remove())
	if errors.Is(err, fs.ErrExist) {
		return nil, errExist
	}
	return nil, fmt.Errorf("state of container %s: %w", r.ID, err)
}

// aside is a pattern for a directory that is not, or no more, a container's:
// no id has such a name.
func aside(id string) string { return "~" + id + ".*" }

func prepareStateDir(root string, r record) (*stateDir, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(root, aside(r.ID))
	if err != nil {
		return nil, err
	}
	lock, err := openLock(path)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	d := &stateDir{path, lock}
	if err := d.save(r); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

// lockStateDir waits for the lock of a container that exists.
func lockStateDir(root, id string) (*stateDir, error) {
	path := filepath.Join(root, id)
	for {
		lock, err := openLock(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNotExist
		}
		if err != nil {
			return nil, fmt.Errorf("state of container %s: %w", id, err)
		}
		if isCurrent(lock, path) {
			return &stateDir{path, lock}, nil
		}
		// It was deleted, and perhaps made anew, while we waited.
		lock.Close()
	}
}

func openLock(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			lock.Close()
			return nil, os.NewSyscallError("flock", err)
		}
		return lock, nil
	}
}

func isCurrent(lock *os.File, dir string) bool {
	ours, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(filepath.Join(dir, lockFile))
	return err == nil && os.SameFile(ours, there)
}

// locked tells whether somebody creates or deletes the container right now.
func locked(root, id string) bool {
	lock, err := os.OpenFile(filepath.Join(root, id, lockFile), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func (d *stateDir) unlock() { d.lock.Close() }

// remove removes the directory and unlocks what is no more. The id is free at
// once, whatever becomes of the files.
func (d *stateDir) remove() error {
	defer d.unlock()
	root, id := filepath.Split(filepath.Clean(d.path))
	path, err := os.MkdirTemp(root, aside(id))
	if err == nil {
		// os.Rename would refuse to put it in the place of an empty directory.
		err = unix.Rename(d.path, path)
	}
	if err != nil {
		// A full file system has no room for another name, and must not keep
		// anybody from making some.
		return errors.Join(os.RemoveAll(d.path), os.RemoveAll(path))
	}
	return os.RemoveAll(path)
}

func (d *stateDir) save(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(d.path, stateFile), text, 0o600)
}

func readRecord(root, id string) (record, error) {
	dir := filepath.Join(root, id)
	text, err := readFile(filepath.Join(dir, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(dir); err == nil {
			return record{}, fmt.Errorf("container %s: %w", id, errDamaged)
		}
		return record{}, errNotExist
	case errors.Is(err, fs.ErrPermission):
		return record{}, fmt.Errorf("container %s: %w", id, err)
	case err != nil:
		return record{}, fmt.Errorf("container %s: %w: %w", id, errDamaged, err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil || r.ID != id {
		return record{}, fmt.Errorf("container %s: %w", id, errDamaged)
	}
	return r, nil
}

// replaceFile writes a file beside the old one and puts it in its place: who
// reads it sees the old text or the new.
func replaceFile(path string, text []byte, mode fs.FileMode) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return os.Rename(temporary, path)
}
