package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/hook"
	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/shim"
)

// Delete removes a container that has stopped or was never started, with force
// any. With force, one that does not exist is no error: engines delete twice.
func (r Runtime) Delete(ctx context.Context, id string, force bool) error {
	defer trace.Begin(ctx, "delete the container")()
	if err := checkID(id); err != nil {
		return err
	}
	if force {
		return r.forceDelete(ctx, id)
	}
	dir, err := lockStateDir(r.Root, id)
	if err != nil {
		return err
	}
	rec, err := readRecord(r.Root, id)
	if err != nil {
		dir.unlock()
		return err
	}
	status, err := r.status(ctx, rec)
	if err == nil && status != specs.StateStopped && status != specs.StateCreated && rec.PID != 0 {
		err = fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status)
	}
	if err != nil {
		dir.unlock()
		return err
	}
	return r.destroy(ctx, dir, rec)
}

// forceDelete removes whatever is there, even if it is damaged or is being
// created: without its shim, a create gives up and undoes what it did.
func (r Runtime) forceDelete(ctx context.Context, id string) error {
	if locked(r.Root, id) {
		if err := shim.Clean(ctx, r.Root, id); err != nil {
			return err
		}
	}
	dir, err := lockStateDir(r.Root, id)
	if errors.Is(err, errNotExist) {
		// What a lost state directory belonged to may still run.
		return shim.Clean(ctx, r.Root, id)
	}
	if isForeign(err) {
		return errors.Join(shim.Clean(ctx, r.Root, id), os.RemoveAll(filepath.Join(r.Root, id)))
	}
	if err != nil {
		return err
	}
	rec, err := readRecord(r.Root, id)
	if err != nil {
		rec = record{ID: id}
	}
	return r.destroy(ctx, dir, rec)
}

// isForeign tells that what is in the place of a state directory cannot be one:
// it was never made by us, and nobody holds its lock.
func isForeign(err error) bool {
	return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ELOOP)
}

// destroy ends what runs of a container and removes what there is of it. The
// state goes last, so that a destroy that failed can be tried again. What runs is
// looked for, not taken from the state: a pid there may be anybody's.
func (r Runtime) destroy(ctx context.Context, dir *stateDir, rec record) error {
	if err := shim.Clean(ctx, r.Root, rec.ID); err != nil {
		dir.unlock()
		return err
	}
	if err := dir.remove(); err != nil {
		return fmt.Errorf("state of container %s: %w", rec.ID, err)
	}
	rec.runPoststop(ctx)
	r.collectDisks(ctx)
	return nil
}

// runPoststop runs the hooks that nothing depends on any more.
func (rec record) runPoststop(ctx context.Context) {
	if rec.Hooks == nil {
		return
	}
	rec.PID = 0
	hooks := hook.List{Name: "poststop", Hooks: rec.Hooks.Poststop}
	// One that fails keeps none of the others from running.
	for i := range hooks.Hooks {
		if err := hooks.RunOne(ctx, i, rec.Bundle, rec.hookState(specs.StateStopped)); err != nil {
			slog.Warn(err.Error())
		}
	}
}
