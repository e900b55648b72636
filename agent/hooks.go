package agent

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/hook"
)

// The hooks that run in the container's namespaces, by their place in hook.Guest.
const (
	createContainer = iota
	startContainer
)

// runHooks runs the hooks of one event as children of init. Their paths are those of
// the container's root: the host's programs are not in the VM. One without an
// environment has the process's, as with runc.
func (s *stage) runHooks(event int, status specs.ContainerState, env []string) error {
	c := s.Container
	if c.Spec.Hooks == nil {
		return nil
	}
	state := specs.State{
		Version: c.Spec.Version, ID: c.ID, Status: status, Pid: os.Getpid(), Bundle: c.Bundle, Annotations: c.Spec.Annotations,
	}
	hooks := hook.Guest(c.Spec.Hooks)[event]
	for i := range hooks.Hooks {
		if hooks.Hooks[i].Env == nil {
			hooks.Hooks[i].Env = append([]string{}, env...)
		}
	}
	return hooks.Run(context.Background(), "/", state)
}
