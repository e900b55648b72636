package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/vm"
)

// cgroupFile is where the cgroup of the container whose directory is dir is
// written down.
func cgroupFile(dir string) string { return filepath.Join(dir, "cgroup.json") }

// makeCgroup makes the plan's cgroup. One that nobody has named and that the host
// refuses is done without: the limits hold inside.
func (p Plan) makeCgroup(ctx context.Context) (*cgroup.Group, error) {
	defer trace.Begin(ctx, "make the cgroup")()
	g, err := cgroup.Make(p.Cgroup, cgroupFile(p.Dir))
	if err != nil && !p.Cgroup.Chosen {
		slog.Warn(fmt.Sprintf("the container has no cgroup of its own on the host: %v", err))
		return nil, nil
	}
	return g, err
}

// enter moves a shim into its cgroup, with the limits that hold while it boots.
func (p Plan) enter(ctx context.Context, g *cgroup.Group, pid int) error {
	if g == nil {
		return nil
	}
	defer trace.Begin(ctx, "enter the cgroup")()
	if err := g.Enter(pid); err != nil {
		if p.Cgroup.Systemd && !p.Cgroup.Chosen {
			// There is no scope for anybody to open.
			err = errors.Join(err, os.Remove(cgroupFile(p.Dir)))
		}
		return p.insist(err)
	}
	return p.insist(g.Limit(p.onHost(p.Resources), true))
}

// onHost is r with what the system of a base image may take beside the container, as far
// as there is a limit.
func (p Plan) onHost(r *specs.LinuxResources) *specs.LinuxResources {
	if p.Machine.Boot == nil || r == nil || r.Memory == nil {
		return r
	}
	host, memory := *r, *r.Memory
	for _, limit := range []**int64{&memory.Limit, &memory.Swap, &memory.Reservation} {
		if *limit != nil && **limit > 0 {
			more := **limit + min(vm.BaseImageMemory, math.MaxInt64-**limit)
			*limit = &more
		}
	}
	host.Memory = &memory
	return &host
}

// insist makes a warning of an error of a cgroup that nobody has named.
func (p Plan) insist(err error) error {
	if err != nil && !p.Cgroup.Chosen {
		slog.Warn(fmt.Sprintf("the container's limits hold inside the VM only: %v", err))
		return nil
	}
	return err
}

// cpuOnly is what of the limits does not hold before start.
func cpuOnly(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	return &specs.LinuxResources{CPU: r.CPU}
}

// adopt moves QEMU into the shim's cgroup where libvirtd has started it.
func (p Plan) adopt(m *machine) error {
	if p.URI != vm.URISystem {
		return nil
	}
	g, err := cgroup.Open(cgroupFile(p.Dir))
	if err == nil {
		err = g.Add(m.PID())
	}
	p.scoreOOM(m.PID())
	return err
}

// removeCgroup removes the cgroup of a container whose processes have ended. One that
// cannot be found keeps nobody from removing the rest.
func removeCgroup(dir string) error {
	g, err := cgroup.Open(cgroupFile(dir))
	if err != nil {
		slog.Warn(fmt.Sprintf("the container's cgroup is left: %v", err))
	}
	return g.Remove()
}

// thawCgroup lets processes end that somebody has frozen.
func thawCgroup(dir string) error {
	g, err := cgroup.Open(cgroupFile(dir))
	if err != nil {
		return err
	}
	return g.Thaw()
}
