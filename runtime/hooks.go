package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hookList is the hooks of one event under its name in config.json.
type hookList struct {
	name  string
	hooks []specs.Hook
}

// hookLists are the events whose hooks run on the host.
func hookLists(h *specs.Hooks) []hookList {
	return []hookList{
		{"prestart", h.Prestart}, //nolint:staticcheck // Docker 20.10 needs it.
		{"createRuntime", h.CreateRuntime},
		{"poststart", h.Poststart},
		{"poststop", h.Poststop},
	}
}

// createHooks are those that run once the container's network namespace is
// there and before its process is set up.
func createHooks(h *specs.Hooks) []hookList {
	if h == nil {
		return nil
	}
	return hookLists(h)[:2]
}

// run runs the hooks one after the other and stops at the first that fails.
func (l hookList) run(ctx context.Context, state specs.State) error {
	for i := range l.hooks {
		if err := l.runOne(ctx, i, state); err != nil {
			return err
		}
	}
	return nil
}

// runOne runs a hook with the container's state on stdin.
func (l hookList) runOne(ctx context.Context, i int, state specs.State) error {
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := runHook(ctx, l.hooks[i], state.Bundle, input); err != nil {
		return fmt.Errorf("error running %s hook #%d: %w", l.name, i, err)
	}
	return nil
}

// hookOutput bounds what an error quotes of a hook, in bytes.
const hookOutput = 4096

func runHook(ctx context.Context, hook specs.Hook, dir string, input []byte) error {
	var timeout time.Duration
	if hook.Timeout != nil {
		timeout = time.Duration(*hook.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, hook.Path)
	if len(hook.Args) > 0 {
		cmd.Args = hook.Args
	}
	// An empty environment is one as well.
	cmd.Env = append([]string{}, hook.Env...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = &output, &output
	// What the hook leaves running may keep its output open.
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil && timeout > 0:
		return fmt.Errorf("%s did not end within %s", hook.Path, timeout)
	case errors.As(err, &exit):
		text := output.Bytes()
		return fmt.Errorf("%s: %w, output: %q", hook.Path, err, bytes.TrimSpace(text[:min(len(text), hookOutput)]))
	}
	return fmt.Errorf("%s %s", hook.Path, reason(err))
}
