package runtime

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/shim"
)

// Update changes limits of a container: those that are in changes and not 0.
func (r Runtime) Update(ctx context.Context, id string, changes *specs.LinuxResources) error {
	if err := checkResources(&specs.Spec{Linux: &specs.Linux{Resources: changes}}); err != nil {
		return err
	}
	_, status, err := r.current(ctx, id)
	if err != nil {
		return err
	}
	if status == specs.StateStopped || status == specs.StateCreating {
		return shim.ErrNotRunning
	}
	return r.client(id).Update(ctx, changes)
}

// maxResources is how long a text of resources may be, in bytes.
const maxResources = 1 << 20

// LoadResources reads the object of `update --resources`; "-" is stdin.
func LoadResources(path string) (*specs.LinuxResources, error) {
	in, name := os.Stdin, "standard input"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--resources: %s %s", path, reason(err))
		}
		defer file.Close()
		in, name = file, path
	}
	text, err := io.ReadAll(io.LimitReader(in, maxResources))
	if err != nil {
		return nil, fmt.Errorf("--resources: %s: %w", name, err)
	}
	r := new(specs.LinuxResources)
	if err := decode(text, r); err != nil {
		return nil, fmt.Errorf("--resources: %s%w", name, err)
	}
	return r, nil
}

// checkResources refuses what no kernel would take.
func checkResources(s *specs.Spec) error {
	if err := cgroup.Check(s.Linux.Resources); err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	return nil
}
