package runtime

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/trace"
)

// Run creates a container, starts it and, unless told to detach, waits for its
// end, removes it and returns its exit status. With keep it is not removed.
func (r Runtime) Run(ctx context.Context, c Create, detach, keep bool) (int, error) {
	b, err := c.load(ctx)
	if err != nil {
		return 0, err
	}
	if err := checkConsole(b.Spec.Process.Terminal, detach, c.ConsoleSocket); err != nil {
		return 0, err
	}
	stdio, err := openStdio(b.Spec.Process, c.ConsoleSocket)
	if err != nil {
		return 0, err
	}
	defer stdio.close()
	var front *foreground
	if !detach {
		if front, err = newForeground(stdio, "set process.terminal to false, or use --detach with --console-socket"); err != nil {
			return 0, err
		}
	}
	made, err := r.make(ctx, c.ID, b, stdio)
	if err != nil {
		return 0, err
	}
	if err := made.run(ctx, c.PIDFile, stdio); err != nil {
		return 0, errors.Join(err, made.undo(ctx))
	}
	made.release()
	if detach {
		return 0, nil
	}
	return made.wait(context.WithoutCancel(ctx), front, keep)
}

func (m *made) run(ctx context.Context, pidFile string, stdio *stdio) error {
	if err := m.runtime.startProcess(ctx, m.record); err != nil {
		return err
	}
	return m.publish(pidFile, stdio)
}

// wait is the rest of the life of a container in the foreground.
func (m *made) wait(ctx context.Context, front *foreground, keep bool) (int, error) {
	client := m.runtime.client(m.record.ID)
	ended := trace.Begin(ctx, "wait for the process")
	code, err := front.wait(m.process, CatchSignals(), func(s unix.Signal) { _ = client.Signal(ctx, int(s), false) })
	ended()
	if keep {
		return code, err
	}
	removed := m.runtime.Delete(ctx, m.record.ID, true)
	return code, errors.Join(err, removed)
}
