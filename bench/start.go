package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/vmruntime/vmruntime/protocol"
)

// The contenders of start.
const (
	cold           = "vmruntime, cold"
	warm           = "vmruntime, warm"
	boot           = "QEMU boot"
	wholeBoot      = "QEMU boot and run"
	stockBoot      = "QEMU boot, vmlinuz"
	clone          = "QEMU clone"
	throughLibvirt = "libvirt clone"
)

// measureStart measures a container of true from the start of the command to its exit,
// against the same machine without us.
func measureStart(ctx context.Context, l *lab) ([]Figure, error) {
	figure := Figure{Unit: "s", Ratios: []Ratio{
		{cold, boot, Aim{AtMost: 1.25}},
		{cold, wholeBoot, Aim{}},
		{warm, clone, Aim{AtMost: 2.5}},
		{warm, throughLibvirt, Aim{AtMost: 1.3}},
		{warm, stockBoot, Aim{AtMost: 0.25}},
		{warm, "runc", Aim{}},
		{warm, "crun", Aim{}},
		{cold, "runc", Aim{}},
	}}
	bundle, err := l.bundle([]string{"true"})
	if err != nil {
		return nil, err
	}
	machines, err := l.starts(ctx, bundle)
	if err != nil {
		return nil, err
	}
	for _, p := range l.references() {
		machines = append(machines, l.running(p.name, p, bundle))
	}
	if err := warmUp(ctx, machines); err != nil {
		return nil, err
	}
	return takeTurns(ctx, l.rounds, []Figure{figure}, machines)
}

// starts are the contenders that have machines.
func (l *lab) starts(ctx context.Context, bundle string) ([]contender, error) {
	coldly, err := l.cold()
	if err != nil {
		return nil, err
	}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	booted, _, err := l.prepare(ctx, coldly, bundle)
	if err != nil {
		return nil, err
	}
	clones, err := l.prepareClones(ctx, warmly, bundle)
	if err != nil {
		return nil, err
	}
	image, err := l.guest()
	if err != nil {
		return nil, err
	}
	booting := func(name, kernel string) contender {
		return once(name, func(ctx context.Context) (time.Duration, error) {
			cmd := clones.machine.bare(ctx, kernel, image.Initramfs, []string{protocol.ProbeWord})
			cmd.Stderr = os.Stderr
			begin := time.Now()
			if err := launch(cmd, l.bare); err != nil {
				return 0, err
			}
			err := cmd.Wait()
			return time.Since(begin), err
		})
	}
	return []contender{
		l.running(cold, coldly, bundle),
		l.running(warm, warmly, bundle),
		booting(boot, image.Kernel),
		once(wholeBoot, booted.bare),
		booting(stockBoot, filepath.Join(l.share(), "vmlinuz")),
		once(clone, clones.bare),
		once(throughLibvirt, clones.libvirt),
	}, nil
}

// running is a contender that runs the bundle.
func (l *lab) running(name string, p program, bundle string) contender {
	return once(name, func(ctx context.Context) (time.Duration, error) {
		_, took, err := l.run(ctx, p, bundle)
		return took, err
	})
}

// once is a contender with one figure, in seconds.
func once(name string, measure func(ctx context.Context) (time.Duration, error)) contender {
	return contender{name, func(ctx context.Context) ([]float64, error) {
		took, err := measure(ctx)
		return []float64{took.Seconds()}, err
	}}
}
