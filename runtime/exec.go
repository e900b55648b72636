package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/shim"
)

// Exec asks for a further process in a container.
type Exec struct {
	ID      string
	Process *specs.Process
	// ConsoleSocket and PIDFile are as in Create.
	ConsoleSocket string
	PIDFile       string
	Detach        bool
	// IgnorePaused changes what a paused container is refused with.
	IgnorePaused bool
}

// here tells whether the calling process stands for the one inside.
func (e Exec) here() bool { return !e.Detach && !e.Process.Terminal }

// Exec starts a process in a running container and, unless told to detach,
// waits for its end and returns its exit status. The signals are the process's; a
// detached one takes none.
func (r Runtime) Exec(ctx context.Context, e Exec, signals Signals) (int, error) {
	if err := e.check(); err != nil {
		return 0, err
	}
	rec, err := r.find(e.ID)
	if err != nil {
		return 0, err
	}
	// One without a shim cannot be asked for more; elsewhere it would be a turn to the
	// shim that few need.
	if !e.here() || rec.PID == 0 {
		if err := r.checkExec(ctx, e); err != nil {
			return 0, err
		}
	}
	stdio, err := openStdio(e.Process, e.ConsoleSocket)
	if err != nil {
		return 0, err
	}
	defer stdio.close()
	if e.here() {
		return r.execHere(context.WithoutCancel(ctx), e, stdio.Stdio, signals)
	}
	var front *foreground
	if !e.Detach {
		if front, err = newForeground(stdio, "leave out -t (process.terminal of --process), or use --detach with --console-socket"); err != nil {
			return 0, err
		}
	}
	proxy, err := shim.SpawnExec(ctx, r.Exe, r.client(e.ID), e.Process, stdio.Stdio)
	if err != nil {
		return 0, err
	}
	if err := e.publish(proxy, stdio); err != nil {
		// Without its proxy the process is killed.
		_ = proxy.Kill()
		_, _ = proxy.Wait()
		return 0, err
	}
	if e.Detach {
		return 0, nil
	}
	return front.wait(proxy, signals, func(s unix.Signal) { _ = proxy.Signal(s) })
}

// execHere makes this process stand for the one inside, where it has nothing else
// to do: a proxy would take as long to start as the process. A terminal needs one,
// for it takes the leader of a session.
func (r Runtime) execHere(ctx context.Context, e Exec, stdio shim.Stdio, signals Signals) (int, error) {
	// Signals are the process's from the beginning: one may come after its first
	// words and before we know that it runs.
	<-signals.caught
	session, err := r.client(e.ID).Exec(ctx, e.Process, stdio)
	if err != nil {
		return 0, cmp.Or(r.checkExec(ctx, e), err)
	}
	if err := writePIDFile(e.PIDFile, os.Getpid()); err != nil {
		return 0, errors.Join(err, session.Close())
	}
	e.warn()
	go session.Forward(signals.received)
	return session.Wait(), nil
}

// checkExec tells whether the container can take a further process now.
func (r Runtime) checkExec(ctx context.Context, e Exec) error {
	_, status, err := r.current(ctx, e.ID)
	switch {
	case err != nil:
		return err
	case status == specs.StateStopped:
		return errors.New("cannot exec in a stopped container")
	case status == shim.StatePaused && e.IgnorePaused:
		return errors.New("cannot exec in a paused container: --ignore-paused helps nothing, a paused VM runs no process: resume it first")
	case status == shim.StatePaused:
		return errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	case status == specs.StateCreating:
		return errors.New("cannot exec in a container that is being created")
	}
	return nil
}

func (e Exec) check() error {
	if err := checkAnyProcess(e.Process); err != nil {
		return fmt.Errorf("process.%w", err)
	}
	if err := checkFurther(e.Process); err != nil {
		return err
	}
	text, err := json.Marshal(e.Process)
	if err != nil {
		return err
	}
	if len(text) > maxSpec {
		return fmt.Errorf("process: %d bytes as JSON are more than the %d that it may have", len(text), maxSpec)
	}
	return checkConsole(e.Process.Terminal, e.Detach, e.ConsoleSocket)
}

// checkFurther is what Validate is to the first process.
func checkFurther(p *specs.Process) error {
	s := &specs.Spec{Process: p}
	for _, check := range []func(*specs.Spec) error{checkFields, checkRlimits, checkAffinity} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func (e Exec) publish(proxy *os.Process, stdio *stdio) error {
	if err := stdio.send(); err != nil {
		return err
	}
	if err := writePIDFile(e.PIDFile, proxy.Pid); err != nil {
		return err
	}
	e.warn()
	return nil
}

// warn is for an exec that has come about, as with create. Labels are left to create:
// engines repeat them with every exec, and keep the log.
func (e Exec) warn() {
	for _, text := range capabilityWarnings(e.Process.Capabilities) {
		slog.Warn(text)
	}
}

// LoadProcess reads the process object of `exec --process`, which may come from a pipe.
func LoadProcess(path string) (*specs.Process, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("process file %s %s", path, reason(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSpec+1))
	if err != nil {
		return nil, fmt.Errorf("process file %s %s", path, reason(err))
	}
	if len(text) > maxSpec {
		return nil, fmt.Errorf("process file %s has more than the %d bytes that it may have", path, maxSpec)
	}
	p := new(specs.Process)
	if err := decode(text, p); err != nil {
		return nil, fmt.Errorf("process file %s%w", path, err)
	}
	return p, nil
}

// BaseProcess is the container's own process, for an exec that is described by
// how it differs.
func (r Runtime) BaseProcess(id string) (*specs.Process, error) {
	rec, err := r.find(id)
	if err != nil {
		return nil, err
	}
	spec, err := readSpec(rec.Bundle)
	if err != nil {
		return nil, err
	}
	if err := checkProcess(spec); err != nil {
		return nil, fmt.Errorf("%s: %w", specFile, err)
	}
	return spec.Process, nil
}
