package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/hook"
	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/shim"
)

// Create asks for a container.
type Create struct {
	ID string
	// Bundle is a directory.
	Bundle string
	// ConsoleSocket takes the master of the container's terminal, PIDFile the
	// pid of its shim; both may be empty.
	ConsoleSocket string
	PIDFile       string
}

// Create makes a container up to the point where Start lets its process run.
// When it fails, nothing is left.
func (r Runtime) Create(ctx context.Context, c Create) error {
	b, err := c.load(ctx)
	if err != nil {
		return err
	}
	if err := checkConsole(b.Spec.Process.Terminal, true, c.ConsoleSocket); err != nil {
		return err
	}
	stdio, err := openStdio(b.Spec.Process, c.ConsoleSocket)
	if err != nil {
		return err
	}
	defer stdio.close()
	made, err := r.make(ctx, c.ID, b, stdio)
	if err != nil {
		return err
	}
	defer made.release()
	if err := made.publish(c.PIDFile, stdio); err != nil {
		return errors.Join(err, made.undo(ctx))
	}
	return nil
}

// load reads the bundle and refuses what cannot run in a VM.
func (c Create) load(ctx context.Context) (Bundle, error) {
	defer trace.Begin(ctx, "read the bundle")()
	if err := checkID(c.ID); err != nil {
		return Bundle{}, err
	}
	if err := checkActivation(); err != nil {
		return Bundle{}, err
	}
	b, err := LoadBundle(c.Bundle)
	if err != nil {
		return Bundle{}, err
	}
	return b, b.Validate()
}

// checkActivation refuses sockets that systemd or a caller hands over: they
// cannot cross into a VM.
func checkActivation() error {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err != nil || n <= 0 {
		return nil
	}
	return errors.New("LISTEN_FDS: descriptors of the host cannot cross into a VM: start without socket activation")
}

// made is a container whose shim runs and whose state is locked.
type made struct {
	runtime Runtime
	dir     *stateDir
	record  record
	// process is the shim, our child.
	process *os.Process
	// template is what is to be built for the next one, if anything is.
	template *shim.TemplatePlan
	warnings []string
}

// make does what create and run have in common.
func (r Runtime) make(ctx context.Context, id string, b Bundle, stdio *stdio) (*made, error) {
	b, release, err := r.layered(ctx, b)
	if err != nil {
		return nil, err
	}
	defer release()
	plan, err := r.plan(ctx, id, b)
	if err != nil {
		return nil, err
	}
	rec := newRecord(id, b)
	dir, err := makeStateDir(r.Root, rec)
	if err != nil {
		return nil, err
	}
	logSeccomp(plan.Container)
	m := &made{runtime: r, dir: dir, record: rec, warnings: b.Warnings()}
	if err := m.start(ctx, plan, stdio); err != nil {
		return nil, errors.Join(err, m.undo(ctx))
	}
	return m, nil
}

func (r Runtime) plan(ctx context.Context, id string, b Bundle) (shim.Plan, error) {
	defer trace.Begin(ctx, "plan the machine")()
	host, err := r.host(ctx)
	if err != nil {
		return shim.Plan{}, err
	}
	if host.BaseImage, err = r.Config.baseImage(ctx, b.Spec); err != nil {
		return shim.Plan{}, err
	}
	return Translate(id, b, r.Config, host)
}

// logSeccomp tells what the filter is loaded with, in runc's words.
func logSeccomp(c protocol.Container) {
	if c.Seccomp != nil {
		slog.Debug(fmt.Sprintf("seccomp filter flags: %d", c.SeccompFlags))
	}
}

func newRecord(id string, b Bundle) record {
	return record{
		Version: b.Spec.Version, ID: id, Bundle: b.Dir, Rootfs: b.Rootfs, Created: time.Now().UTC(),
		Owner: owner(), Annotations: b.Spec.Annotations, Hooks: b.Spec.Hooks,
	}
}

// start boots the machine; hooks run while it does.
func (m *made) start(ctx context.Context, plan shim.Plan, stdio *stdio) error {
	defer trace.Begin(ctx, "create the container")()
	inside := func(ctx context.Context, pid int) error {
		if m.record.Hooks == nil {
			return nil
		}
		for _, hooks := range hook.Host(m.record.Hooks)[:2] {
			state := m.record.hookState(specs.StateCreating)
			state.Pid = pid
			if hooks.Name == "prestart" {
				// For these the specification's version 1.0 had the container
				// created; its newer hooks have a state of their own.
				state.Status = specs.StateCreated
			}
			if err := hooks.Run(ctx, m.record.Bundle, state); err != nil {
				return err
			}
		}
		return nil
	}
	process, start, err := shim.Spawn(ctx, m.runtime.Shim, plan, stdio.Stdio, inside)
	if err != nil {
		return err
	}
	m.process = process
	m.template = m.runtime.wanted(plan, start)
	m.record.PID = m.process.Pid
	if m.record.PIDStart, err = processStart(m.process.Pid); err != nil {
		return fmt.Errorf("the container ended while it was created: %w", err)
	}
	if err := m.dir.save(m.record); err != nil {
		return fmt.Errorf("state of container %s: %w", m.record.ID, err)
	}
	return nil
}

// publish tells others of the container: the terminal first, the pid last,
// because a supervisor that finds the pid takes everything for done.
func (m *made) publish(pidFile string, stdio *stdio) error {
	if err := stdio.send(); err != nil {
		return err
	}
	if err := writePIDFile(pidFile, m.process.Pid); err != nil {
		return err
	}
	for _, text := range m.warnings {
		slog.Warn(text)
	}
	m.runtime.buildWanted(m.template)
	return nil
}

// release leaves the container to others.
func (m *made) release() { m.dir.unlock() }

// undo removes every trace of the container, whatever became of it.
func (m *made) undo(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if m.process != nil {
		_ = m.process.Kill()
		_, _ = m.process.Wait()
	}
	return m.runtime.destroy(ctx, m.dir, m.record)
}
