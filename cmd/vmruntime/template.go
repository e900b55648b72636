package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/vm"
)

func templateCommand() *cli.Command {
	return &cli.Command{
		Name:  "template",
		Usage: "look after the saved machines that containers start as clones of",
		Commands: []*cli.Command{
			{
				Name:   "build",
				Usage:  "make the template for containers of a size, unless there is a sound one",
				Action: buildTemplate,
				Flags: []cli.Flag{
					&cli.Int64Flag{Name: "memory", Usage: "the containers' memory limit in `MIB` (default: without a limit)"},
					&cli.Float64Flag{Name: "cpus", Usage: "the containers' `CPUS` (default: without a quota)"},
				},
			},
			{
				Name:   "list",
				Usage:  "list templates",
				Action: listTemplates,
			},
			{
				Name:      "remove",
				Usage:     "remove templates; what runs as a clone goes on",
				ArgsUsage: "NAME...",
				Action:    removeTemplates,
				Flags:     []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "remove all"}},
			},
		},
	}
}

func buildTemplate(ctx context.Context, c *cli.Command) error {
	if err := checkArgs(c, 0, 0); err != nil {
		return err
	}
	r, err := configured(c)
	if err != nil {
		return err
	}
	resources, err := sizeFlags(c)
	if err != nil {
		return err
	}
	began := time.Now()
	name, machine, err := r.BuildTemplate(ctx, resources)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Root().Writer, "template %s is ready (%.1f s): machines of %d MiB, virtual CPUs: %d\n",
		name, time.Since(began).Seconds(), machine.Memory>>20, machine.VCPUs)
	return nil
}

// sizeFlags are limits as an engine writes them into config.json.
func sizeFlags(c *cli.Command) (*specs.LinuxResources, error) {
	resources := &specs.LinuxResources{}
	if c.IsSet("memory") {
		bytes := c.Int64("memory") << 20
		if bytes <= 0 {
			return nil, errors.New("--memory: must be above 0 MiB")
		}
		resources.Memory = &specs.LinuxMemory{Limit: &bytes}
	}
	if c.IsSet("cpus") {
		period := uint64(100000)
		quota := int64(c.Float64("cpus") * float64(period))
		if quota <= 0 {
			return nil, errors.New("--cpus: must be above 0")
		}
		resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
	}
	return resources, nil
}

func listTemplates(_ context.Context, c *cli.Command) error {
	if err := checkArgs(c, 0, 0); err != nil {
		return err
	}
	templates, err := vm.ListTemplates(vm.Templates)
	if err != nil {
		return err
	}
	return printTemplates(c.Root().Writer, templates)
}

func printTemplates(w io.Writer, templates []vm.Template) error {
	table := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tBUILT\tDISK\tACCELERATOR\tKERNEL\tSTATUS")
	for _, t := range templates {
		used, _ := t.Used()
		status := "ok"
		if err := t.CheckMemory(); err != nil {
			status = "damaged"
		}
		fmt.Fprintf(table, "%s\t%s\t%d MiB\t%s\t%s\t%s\n", t.Name(), t.Built.Format(time.RFC3339), used>>20, t.Machine.Accelerator.Setting(), t.Machine.Kernel, status)
	}
	return table.Flush()
}

func removeTemplates(_ context.Context, c *cli.Command) error {
	names := c.Args().Slice()
	if c.Bool("all") {
		if len(names) > 0 {
			return errors.New("--all: takes no names beside it")
		}
		templates, err := vm.ListTemplates(vm.Templates)
		if err != nil {
			return err
		}
		for _, t := range templates {
			names = append(names, t.Name())
		}
	} else if len(names) == 0 {
		return errors.New("no template is named: give a NAME of template list, or --all")
	}
	var failed error
	for _, name := range names {
		failed = errors.Join(failed, vm.RemoveTemplate(vm.Templates, name))
	}
	return failed
}
