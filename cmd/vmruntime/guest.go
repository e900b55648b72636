package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

func guestCommand() *cli.Command {
	return &cli.Command{
		Name:     "guest",
		Usage:    "build or describe the kernel and initramfs that VMs boot",
		Commands: []*cli.Command{guestBuildCommand(), guestInfoCommand()},
	}
}

func guestBuildCommand() *cli.Command {
	return &cli.Command{
		Name:  "build",
		Usage: "make a guest out of a distribution's kernel, and find out whether it boots with KVM",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "kernel", Aliases: []string{"k"}, Usage: "a linux-image `PACKAGE` (.deb; repeat it for linux-modules), or a vmlinuz (default: the host's own kernel)"},
			&cli.StringFlag{Name: "modules", Usage: "the modules `DIR` of a vmlinuz"},
			&cli.StringFlag{Name: "agent", Usage: "the vmagent `FILE` (default: the one that belongs to this program)"},
			&cli.StringFlag{Name: "disk-agent", Usage: "the vmagent-disk `FILE`, for disks that boot by themselves (default: the one that belongs to this program)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "the guest's `DIR` (default: where this program looks for it)"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if err := checkArgs(c, 0, 0); err != nil {
				return err
			}
			r, err := configured(c)
			if err != nil {
				return err
			}
			options, err := guestOptions(c, r.Config)
			if err != nil {
				return err
			}
			image, err := guest.Build(ctx, options)
			if err != nil {
				return err
			}
			if err := proveGuest(ctx, image, options.Progress); err != nil {
				return err
			}
			return probeEmulator(ctx, r, options.Progress)
		},
	}
}

func guestOptions(c *cli.Command, config runtime.Config) (guest.Options, error) {
	options := guest.Options{
		Kernels:   c.StringSlice("kernel"),
		Modules:   c.String("modules"),
		Agent:     c.String("agent"),
		DiskAgent: c.String("disk-agent"),
		Output:    c.String("output"),
		Progress:  c.Root().Writer,
	}
	if len(options.Kernels) == 0 {
		image, modules, err := guest.HostKernel()
		if err != nil {
			return guest.Options{}, err
		}
		options.Kernels, options.Modules = []string{image}, modules
	}
	if options.Agent == "" {
		options.Agent = config.Agent
	}
	if options.DiskAgent == "" {
		exe, err := os.Executable()
		if err != nil {
			return guest.Options{}, err
		}
		options.DiskAgent = guest.DefaultDiskAgent(exe)
	}
	if options.Output == "" {
		options.Output = config.Guest
	}
	return options, nil
}

// proveGuest finds out how the guest boots here, so that the first container
// does not have to.
func proveGuest(ctx context.Context, image guest.Image, progress io.Writer) error {
	proof, err := vm.NewProof(image.Kernel, image.Initramfs)
	if err != nil {
		fmt.Fprintf(progress, "warning: the guest is not proven: %v\n", err)
		return nil
	}
	verdict, err := vm.ProveKVM(ctx, proof)
	if err != nil {
		return err
	}
	if verdict.Accelerator == vm.TCG {
		fmt.Fprintf(progress, "warning: %s; guests run in software emulation (TCG), which is slow\n", verdict.Reason)
		return nil
	}
	fmt.Fprintln(progress, verdict.Reason)
	return nil
}

// probeEmulator lets libvirt find out what the emulator can do, which takes
// seconds that the first container then need not wait.
func probeEmulator(ctx context.Context, r runtime.Runtime, progress io.Writer) error {
	fmt.Fprintln(progress, "libvirt probes the emulator")
	probe := exec.CommandContext(ctx, r.Shim, "probe", r.Config.Emulator)
	if output, err := probe.CombinedOutput(); err != nil {
		return fmt.Errorf("probe of the emulator: %w: %s", err, output)
	}
	return nil
}

func guestInfoCommand() *cli.Command {
	return &cli.Command{
		Name:      "info",
		Usage:     "describe the guest",
		ArgsUsage: "[DIR]",
		Action: func(_ context.Context, c *cli.Command) error {
			if err := checkArgs(c, 0, 1); err != nil {
				return err
			}
			r, err := configured(c)
			if err != nil {
				return err
			}
			dir := r.Config.Guest
			if c.Args().Present() {
				dir = c.Args().First()
			}
			image, err := guest.Open(dir)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(c.Root().Writer)
			encoder.SetIndent("", "  ")
			return encoder.Encode(image)
		},
	}
}
