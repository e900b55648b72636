package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A TemplateLock is the right to build one template.
type TemplateLock struct {
	dir  string
	file *os.File
}

// ErrBuilding is for a template that another process builds.
var ErrBuilding = errors.New("the template is being built")

// LockTemplate takes the right to build the template in dir, whose parent it
// makes. With wait it lets whoever builds it finish, otherwise that is
// ErrBuilding.
func LockTemplate(ctx context.Context, dir string, wait bool) (*TemplateLock, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("template %s: %w", dir, err)
	}
	file, err := os.OpenFile(sibling(dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", dir, err)
	}
	if err := lock(ctx, file, wait); err != nil {
		return nil, errors.Join(fmt.Errorf("template %s: %w", dir, err), file.Close())
	}
	return &TemplateLock{dir, file}, nil
}

// lockInterval is how often a lock that somebody else holds is tried: a wait in
// the kernel would not end with the context.
const lockInterval = 50 * time.Millisecond

func lock(ctx context.Context, file *os.File, wait bool) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return os.NewSyscallError("flock", err)
		case !wait:
			return ErrBuilding
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockInterval):
		}
	}
}

// Release lets others build.
func (l *TemplateLock) Release() error { return l.file.Close() }

// Begin makes the directory in which the template comes into being, and its
// memory file of that many bytes. What an earlier builder left is removed.
func (l *TemplateLock) Begin(bytes uint64) (Template, error) {
	t := Template{Dir: sibling(l.dir, ".new")}
	if err := os.RemoveAll(t.Dir); err != nil {
		return t, err
	}
	if err := os.Mkdir(t.Dir, 0o700); err != nil {
		return t, err
	}
	memory, err := os.OpenFile(t.MemoryFile(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return t, err
	}
	return t, errors.Join(memory.Truncate(int64(bytes)), memory.Close())
}

// Abort removes what Begin made.
func (l *TemplateLock) Abort() error { return os.RemoveAll(sibling(l.dir, ".new")) }

// Commit puts a template, whose machine has ended, in the place of the one that
// may be there.
func (l *TemplateLock) Commit(t Template) error {
	if err := t.seal(); err != nil {
		return fmt.Errorf("template %s: %w", l.dir, err)
	}
	err := unix.Renameat2(unix.AT_FDCWD, t.Dir, unix.AT_FDCWD, l.dir, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(t.Dir, l.dir)
	}
	if err != nil {
		return fmt.Errorf("template %s: %w", l.dir, err)
	}
	return errors.Join(os.RemoveAll(t.Dir), l.prune(t))
}

// prune removes the templates that nobody will start from any more: those which a
// newer program replaces by this one, and those whose guest is gone.
func (l *TemplateLock) prune(t Template) error {
	templates, err := ListTemplates(filepath.Dir(l.dir))
	for _, old := range templates {
		if old.Dir == l.dir || !old.replaced(t) && !old.orphaned() {
			continue
		}
		// Another builder may do the same.
		if failed := RemoveTemplate(filepath.Dir(l.dir), old.Name()); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

func (t Template) replaced(by Template) bool {
	a, b := t.Machine, by.Machine
	return a.Kernel == b.Kernel && a.Emulator == b.Emulator &&
		a.Accelerator == b.Accelerator && a.Memory == b.Memory && a.VCPUs == b.VCPUs
}

func (t Template) orphaned() bool {
	_, err := os.Lstat(t.Machine.Kernel)
	return errors.Is(err, fs.ErrNotExist)
}

// seal describes the files as they are from now on.
func (t *Template) seal() error {
	for _, path := range []string{t.MemoryFile(), t.StateFile()} {
		if err := errors.Join(os.Chmod(path, 0o400), flush(path)); err != nil {
			return err
		}
	}
	var err error
	if t.Memory, err = fileID(t.MemoryFile()); err != nil {
		return err
	}
	state, sum, err := openState(t.StateFile())
	if err != nil {
		return err
	}
	t.State, t.Built = sum, time.Now().UTC()
	text, err := json.MarshalIndent(t, "", "  ")
	return errors.Join(err, state.Close(), os.WriteFile(filepath.Join(t.Dir, templateFile), text, 0o400))
}

// flush puts the file on the disk. Writing back is the last thing that changes it.
func flush(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// sibling is a hidden file or directory beside the template, named after it.
func sibling(dir, suffix string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+suffix)
}
