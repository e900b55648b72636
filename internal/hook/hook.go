// Package hook runs the programs of config.json's hooks
// (https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks).
// Host and guest run theirs alike.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A List is the hooks of one event under its name in config.json.
type List struct {
	Name  string
	Hooks []specs.Hook
}

// Host are the events whose hooks run on the host, in the order of a container's
// life.
func Host(h *specs.Hooks) []List {
	return []List{
		{"prestart", h.Prestart}, //nolint:staticcheck // Docker 20.10 needs it.
		{"createRuntime", h.CreateRuntime},
		{"poststart", h.Poststart},
		{"poststop", h.Poststop},
	}
}

// Guest are the events whose hooks run inside the VM.
func Guest(h *specs.Hooks) []List {
	return []List{{"createContainer", h.CreateContainer}, {"startContainer", h.StartContainer}}
}

// Run runs the hooks one after the other, in the directory dir, and stops at the
// first that fails.
func (l List) Run(ctx context.Context, dir string, state specs.State) error {
	for i := range l.Hooks {
		if err := l.RunOne(ctx, i, dir, state); err != nil {
			return err
		}
	}
	return nil
}

// RunOne runs a hook with the container's state on stdin.
func (l List) RunOne(ctx context.Context, i int, dir string, state specs.State) error {
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := run(ctx, l.Hooks[i], dir, input); err != nil {
		return fmt.Errorf("error running %s hook #%d: %w", l.Name, i, err)
	}
	return nil
}

// maxOutput bounds what an error quotes of a hook, in bytes.
const maxOutput = 4096

func run(ctx context.Context, hook specs.Hook, dir string, input []byte) error {
	var timeout time.Duration
	if hook.Timeout != nil {
		timeout = time.Duration(*hook.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var output bytes.Buffer
	cmd := command(ctx, hook, dir)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = &output, &output
	// The signal of a parent's death comes when the thread ends that has forked.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil && timeout > 0:
		return fmt.Errorf("%s did not end within %s", hook.Path, timeout)
	case errors.As(err, &exit):
		text := output.Bytes()
		return fmt.Errorf("%s: %w, output: %q", hook.Path, err, bytes.TrimSpace(text[:min(len(text), maxOutput)]))
	}
	return fmt.Errorf("%s %s", hook.Path, reason(err))
}

func command(ctx context.Context, hook specs.Hook, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, hook.Path)
	if len(hook.Args) > 0 {
		cmd.Args = hook.Args
	}
	// Without one the hook has the caller's, as with runc; an empty one is one as well.
	if hook.Env != nil {
		cmd.Env = append([]string{}, hook.Env...)
	}
	cmd.Dir = dir
	// What the hook leaves running may keep its output open.
	cmd.WaitDelay = time.Second
	// Who runs a hook may be killed, and it must not go on alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// reason words why a hook cannot be started without the texts by which engines tell a
// missing program of the container.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be executed"
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return "cannot be executed: " + err.Error()
}
