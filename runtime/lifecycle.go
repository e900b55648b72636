package runtime

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/hook"
	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/shim"
)

// Start lets the process of a created container run.
func (r Runtime) Start(ctx context.Context, id string) error {
	rec, status, err := r.current(ctx, id)
	if err == nil && status == specs.StateCreating {
		if err = r.awaitCreate(ctx, id); err == nil {
			rec, status, err = r.current(ctx, id)
		}
	}
	if err != nil {
		return err
	}
	switch status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	case specs.StateRunning:
		return errors.New("cannot start an already running container")
	default:
		return fmt.Errorf("cannot start a container in the %s state", status)
	}
	return r.startProcess(ctx, rec)
}

// createTimeout bounds the wait for another command's create: one of its hooks may be
// who asks.
const createTimeout = 30 * time.Second

// awaitCreate waits until a create that is under way has come to its end: whoever
// sees the container may start it.
func (r Runtime) awaitCreate(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		dir, err := lockStateDir(r.Root, id)
		if err == nil {
			dir.unlock()
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cannot start a container in the %s state", specs.StateCreating)
	}
}

// startProcess lets the process of a created container run. A poststart hook
// that fails ends it again (runtime.md, lifecycle, step 9).
func (r Runtime) startProcess(ctx context.Context, rec record) error {
	defer trace.Begin(ctx, "start the process")()
	client := r.client(rec.ID)
	if err := client.Start(ctx); err != nil {
		return err
	}
	if rec.Hooks == nil {
		return nil
	}
	hooks := hook.List{Name: "poststart", Hooks: rec.Hooks.Poststart}
	err := hooks.Run(ctx, rec.Bundle, rec.hookState(specs.StateRunning))
	if err == nil {
		return nil
	}
	killed := client.Signal(context.WithoutCancel(ctx), int(unix.SIGKILL), false)
	if errors.Is(killed, shim.ErrNotRunning) {
		killed = nil
	}
	return errors.Join(err, killed)
}

// Pause stops a running container's machine.
func (r Runtime) Pause(ctx context.Context, id string) error {
	_, status, err := r.current(ctx, id)
	if err != nil {
		return err
	}
	if status != specs.StateRunning && status != specs.StateCreated {
		return shim.ErrNotRunning
	}
	return r.client(id).Pause(ctx)
}

// Resume lets a paused container's machine go on.
func (r Runtime) Resume(ctx context.Context, id string) error {
	_, status, err := r.current(ctx, id)
	if err != nil {
		return err
	}
	if status != shim.StatePaused {
		return shim.ErrNotPaused
	}
	return r.client(id).Resume(ctx)
}

// Kill sends a signal to the container's init, with all to every process of
// it. All of a stopped container is nobody.
func (r Runtime) Kill(ctx context.Context, id string, signal unix.Signal, all bool) error {
	rec, err := r.find(id)
	if err != nil {
		return err
	}
	err = r.signal(ctx, rec, signal, all)
	if all && errors.Is(err, shim.ErrNotRunning) {
		return nil
	}
	return err
}

func (r Runtime) signal(ctx context.Context, rec record, signal unix.Signal, all bool) error {
	if !rec.alive() {
		return shim.ErrNotRunning
	}
	if signal == unix.SIGKILL {
		return r.kill(ctx, rec, all)
	}
	return r.client(rec.ID).Signal(ctx, int(signal), all)
}

// killTimeout is how long a shim has to answer: engines wait for ten seconds.
const killTimeout = 5 * time.Second

// kill ends a container whatever its shim does. It waits for the end: a delete
// right after it works with runc, whose processes are gone in no time.
func (r Runtime) kill(ctx context.Context, rec record, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	err := r.client(rec.ID).Signal(ctx, int(unix.SIGKILL), all)
	if err == nil {
		rec.awaitEnd(ctx)
		return nil
	}
	if errors.Is(err, shim.ErrNotRunning) {
		return err
	}
	// A shim that does not answer is in no position to object.
	return shim.End(r.Root, rec.ID)
}

// ParseSignal understands numbers and names, with or without SIG.
func ParseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 || n > 64 {
			return 0, fmt.Errorf("unknown signal %q", text)
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	signal := unix.SignalNum(name)
	if signal == 0 {
		return 0, fmt.Errorf("unknown signal %q", text)
	}
	return signal, nil
}

// Processes returns the host's pids of a container: its shim, then the proxies
// of its execs.
func (r Runtime) Processes(ctx context.Context, id string) ([]int, error) {
	_, status, err := r.current(ctx, id)
	if err != nil {
		return nil, err
	}
	pids := []int{}
	if status == specs.StateStopped || status == specs.StateCreating {
		return pids, nil
	}
	running, err := r.client(id).Processes(ctx)
	if errors.Is(err, shim.ErrNotRunning) {
		return pids, nil
	}
	return append(pids, running...), err
}

func (r Runtime) current(ctx context.Context, id string) (record, specs.ContainerState, error) {
	rec, err := r.find(id)
	if err != nil {
		return record{}, "", err
	}
	status, err := r.status(ctx, rec)
	return rec, status, err
}
