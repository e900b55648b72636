package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// Start tells how a machine came up.
type Start struct {
	// Template is the name of the template that it is a clone of; it is empty
	// where the machine booted.
	Template string `json:"template,omitempty"`
	// Cold is why it booted.
	Cold string `json:"cold,omitempty"`
	// Build says that a template, once built, would have been used; Fault that
	// there is one which should have been.
	Build bool `json:"build,omitempty"`
	Fault bool `json:"fault,omitempty"`
}

// booted is a machine that has come up, and the agent's channel.
type booted struct {
	machine *machine
	conn    net.Conn
	start   Start
}

// Why a machine boots although nothing is wrong.
var (
	errOff       = errors.New("templates are off")
	errVirtiofs  = errors.New("virtiofs shares the machine's memory, which a clone's is not")
	errDisks     = errors.New("the machine has disks, which a template's has not")
	errBoots     = errors.New("a base image has a boot loader and a kernel of its own")
	errLargeSeed = errors.New("the seed is larger than a template's")
)

// boot brings the plan's machine up: as a clone of its template if there is a
// sound one, and otherwise from its kernel.
func boot(ctx context.Context, d Driver, p Plan) (booted, error) {
	b, why := clone(ctx, d, p)
	if why == nil {
		return b, nil
	}
	if ctx.Err() != nil {
		return booted{}, why
	}
	config := p.Machine
	// A template is for all, this machine for one container, which may have no network.
	config.Cmdline += " " + protocol.ColdWord
	m, conn, err := p.launch(ctx, d, config)
	if err != nil {
		return booted{}, err
	}
	return booted{m, conn, cold(why)}, nil
}

// launch starts the plan's machine, changed to c, in the container's cgroup.
func (p Plan) launch(ctx context.Context, d Driver, c vm.Config) (*machine, net.Conn, error) {
	m, conn, err := launch(ctx, d, p.URI, p.Dir, c)
	if err != nil {
		return nil, nil, err
	}
	if err := p.adopt(m); err != nil {
		conn.Close()
		return nil, nil, errors.Join(err, m.Destroy())
	}
	return m, conn, nil
}

func cold(why error) Start {
	missing := errors.Is(why, vm.ErrNoTemplate) || errors.Is(why, vm.ErrStale)
	ordinary := errors.Is(why, errOff) || errors.Is(why, errVirtiofs) || errors.Is(why, errDisks) || errors.Is(why, errBoots) || errors.Is(why, errLargeSeed)
	return Start{
		Cold:  why.Error(),
		Build: missing || errors.Is(why, vm.ErrDamaged),
		Fault: !missing && !ordinary,
	}
}

func clone(ctx context.Context, d Driver, p Plan) (booted, error) {
	if p.Machine.Boot != nil {
		return booted{}, errBoots
	}
	if p.Machine.Transport == vm.Virtiofs {
		return booted{}, errVirtiofs
	}
	if len(p.Machine.Disks) > 0 {
		return booted{}, errDisks
	}
	if p.Template == "" {
		return booted{}, errOff
	}
	seed, err := os.Stat(p.Machine.Seed)
	if err != nil {
		return booted{}, err
	}
	if seed.Size() != vm.SeedSize {
		return booted{}, errLargeSeed
	}
	t, state, err := openTemplate(ctx, d, p)
	if err != nil {
		return booted{}, err
	}
	defer state.Close()
	config := p.Machine
	config.MemoryFile, config.Clone = t.MemoryFile(), true
	// It has been unpacked: QEMU need not keep a copy in its own memory.
	config.Initramfs = ""
	m, conn, err := p.launch(ctx, d, config)
	if err != nil {
		return booted{}, fmt.Errorf("clone of %s: %w", t.Dir, err)
	}
	if err := m.load(ctx, t, state); err != nil {
		conn.Close()
		return booted{}, fmt.Errorf("clone of %s: %w", t.Dir, errors.Join(err, m.Destroy()))
	}
	return booted{m, conn, Start{Template: filepath.Base(t.Dir)}}, nil
}

func openTemplate(ctx context.Context, d Driver, p Plan) (vm.Template, *os.File, error) {
	defer trace.Begin(ctx, "check the template")()
	libvirt, err := d.Version()
	if err != nil {
		return vm.Template{}, nil, err
	}
	key, err := vm.TemplateKey(p.Machine, libvirt)
	if err != nil {
		return vm.Template{}, nil, err
	}
	return vm.OpenTemplate(p.Template, key)
}

// load gives a clone its state, if the memory that it has mapped belongs to it: a
// template may be replaced at any time.
func (m *machine) load(ctx context.Context, t vm.Template, state *os.File) error {
	defer trace.Begin(ctx, "load the state")()
	if err := t.CheckMemory(); err != nil {
		return err
	}
	ctx, cancel := m.alive(ctx)
	defer cancel()
	return m.Load(ctx, state)
}
