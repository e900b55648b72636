package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
)

// TemplatePlan is all that the builder of a template needs.
type TemplatePlan struct {
	// Template is the template's directory.
	Template string `json:"template"`
	// Machine is the one whose clones are wanted, see vm.Blank.
	Machine vm.Config `json:"machine"`
	// Wait lets another process that builds the same template finish;
	// otherwise there is nothing to do then.
	Wait bool `json:"wait,omitempty"`
}

// BuildTemplate is the builder's process: it makes a template unless there is a
// sound one, and returns its exit status.
func BuildTemplate(d Driver) int {
	p, err := openParent()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime:", err)
		return failureCode
	}
	var plan TemplatePlan
	if err := p.plan(&plan); err != nil {
		p.tell(fmt.Errorf("what the builder was told: %w", err))
		return failureCode
	}
	if plan.Wait {
		// Somebody looks on: who gives up ends the building as well.
		p.follow()
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	if err := plan.build(ctx, d); err != nil {
		p.tell(fmt.Errorf("template %s: %w", filepath.Base(plan.Template), err))
		return failureCode
	}
	p.tell(nil)
	return 0
}

func (p TemplatePlan) build(ctx context.Context, d Driver) (err error) {
	libvirt, err := d.Version()
	if err != nil {
		return err
	}
	key, err := vm.TemplateKey(p.Machine, libvirt)
	if err != nil {
		return err
	}
	lock, err := vm.LockTemplate(ctx, p.Template, p.Wait)
	if errors.Is(err, vm.ErrBuilding) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if _, state, err := vm.OpenTemplate(p.Template, key); err == nil {
		return state.Close()
	}
	t, err := lock.Begin(p.Machine.Memory)
	if err == nil {
		t.Key, t.Machine = key, vm.Blank(p.Machine)
		err = p.save(ctx, d, t)
	}
	if err == nil {
		err = lock.Commit(t)
	}
	if err != nil {
		return errors.Join(err, lock.Abort())
	}
	return nil
}

// save boots the template's machine, in a directory as containers have it, and
// writes its state.
func (p TemplatePlan) save(ctx context.Context, d Driver, t vm.Template) (err error) {
	root, id := filepath.Dir(p.Template), filepath.Base(p.Template)
	// An earlier builder may have been killed here.
	if err := Clean(ctx, root, id); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Clean(context.WithoutCancel(ctx), root, id)) }()
	dir := Dir(root, id)
	config := t.Machine
	config.Name, config.UUID, config.Title = "vmruntime-template-"+id, UUID(root, id), "template "+id
	config.MemoryFile = t.MemoryFile()
	config.Share, config.Seed = filepath.Join(dir, "share"), filepath.Join(dir, "seed.iso")
	for i := range config.Taps {
		config.Taps[i] = TapName(dir, i)
	}
	config.AgentSocket, config.ConsoleSocket = filepath.Join(dir, "agent.sock"), filepath.Join(dir, "console.sock")
	if err := os.MkdirAll(config.Share, 0o700); err != nil {
		return err
	}
	if err := blankSeed(config.Seed); err != nil {
		return err
	}
	m, conn, err := launch(ctx, d, vm.URIEmbed, dir, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := m.save(ctx, t.StateFile()); err != nil {
		return errors.Join(m.explain(err), m.Destroy())
	}
	if err := m.Destroy(); err != nil {
		return err
	}
	<-m.gone
	return nil
}

// blankSeed is a disk of a seed's size: clones find theirs in its place.
func blankSeed(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(vm.SeedSize), file.Close())
}

func (m *machine) save(ctx context.Context, path string) error {
	state, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := m.alive(ctx)
	defer cancel()
	return errors.Join(m.Save(ctx, state), state.Close())
}
