package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func updateCommand() *cli.Command {
	size := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage + " in bytes, or with a unit such as 512m; -1 for none"}
	}
	hidden := func(name string) cli.Flag { return &cli.StringFlag{Name: name, Hidden: true} }
	return &cli.Command{
		Name:      "update",
		Usage:     "change a container's limits",
		ArgsUsage: "<container-id>",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "resources", Aliases: []string{"r"}, Usage: "file with the limits to change, as linux.resources of config.json; - is standard input, and other flags are ignored then"},
			&cli.IntFlag{Name: "blkio-weight", Usage: "weight of block I/O, 10 to 1000"},
			&cli.StringFlag{Name: "cpu-period", Usage: "period of the CPU quota in microseconds"},
			&cli.StringFlag{Name: "cpu-quota", Usage: "CPU time in a period, in microseconds; -1 for no limit"},
			&cli.StringFlag{Name: "cpu-burst", Usage: "CPU time that may be saved up, in microseconds"},
			&cli.StringFlag{Name: "cpu-share", Usage: "weight of CPU time, 2 to 262144"},
			&cli.StringFlag{Name: "cpu-idle", Usage: "1 for CPU time that nobody else wants"},
			&cli.StringFlag{Name: "cpuset-cpus", Usage: "CPUs of the host, such as 0-2,7"},
			&cli.StringFlag{Name: "cpuset-mems", Usage: "memory nodes of the host"},
			size("memory", "memory"),
			size("memory-reservation", "memory that is left when it becomes scarce,"),
			size("memory-swap", "memory and swap together"),
			&cli.IntFlag{Name: "pids-limit", Usage: "number of processes; -1 for no limit"},
			hidden("cpu-rt-period"), hidden("cpu-rt-runtime"), hidden("kernel-memory"), hidden("kernel-memory-tcp"),
			hidden("l3-cache-schema"), hidden("mem-bw-schema"),
		},
		Action: onContainer(0, update),
	}
}

func update(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	changes, err := changesOf(c)
	if err != nil {
		return err
	}
	return r.Update(ctx, id, changes)
}

// changesOf is what the flags or a file say.
func changesOf(c *cli.Command) (*specs.LinuxResources, error) {
	if path := c.String("resources"); path != "" {
		return runtime.LoadResources(path)
	}
	for _, name := range []string{"l3-cache-schema", "mem-bw-schema"} {
		if c.String(name) != "" {
			return nil, fmt.Errorf("--%s: cache and bandwidth classes of the host's CPU cannot cross into a VM: remove it", name)
		}
	}
	for _, name := range []string{"kernel-memory", "kernel-memory-tcp", "cpu-rt-period", "cpu-rt-runtime"} {
		if c.String(name) != "" {
			slog.Warn(fmt.Sprintf("--%s is ignored", name))
		}
	}
	changes := &specs.LinuxResources{}
	if n := c.Int("blkio-weight"); n != 0 {
		if n < 0 || n > 1000 {
			return nil, fmt.Errorf("invalid value for blkio-weight: %d is not between 10 and 1000", n)
		}
		changes.BlockIO = &specs.LinuxBlockIO{Weight: new(uint16(n))}
	}
	if c.IsSet("pids-limit") {
		changes.Pids = &specs.LinuxPids{Limit: new(int64(c.Int("pids-limit")))}
	}
	var err error
	if changes.CPU, err = cpuChanges(c); err != nil {
		return nil, err
	}
	changes.Memory, err = memoryChanges(c)
	return changes, err
}

// cpuChanges are nil where no flag is set.
func cpuChanges(c *cli.Command) (*specs.LinuxCPU, error) {
	cpu := &specs.LinuxCPU{Cpus: c.String("cpuset-cpus"), Mems: c.String("cpuset-mems")}
	for name, to := range map[string]**uint64{"cpu-period": &cpu.Period, "cpu-burst": &cpu.Burst, "cpu-share": &cpu.Shares} {
		if err := parseFlag(c, name, to, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]**int64{"cpu-quota": &cpu.Quota, "cpu-idle": &cpu.Idle} {
		if err := parseFlag(c, name, to, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }); err != nil {
			return nil, err
		}
	}
	if *cpu == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return cpu, nil
}

// memoryChanges are nil where no flag is set.
func memoryChanges(c *cli.Command) (*specs.LinuxMemory, error) {
	memory := &specs.LinuxMemory{}
	for name, to := range map[string]**int64{
		"memory": &memory.Limit, "memory-swap": &memory.Swap, "memory-reservation": &memory.Reservation,
	} {
		if err := parseFlag(c, name, to, parseSize); err != nil {
			return nil, err
		}
	}
	if *memory == (specs.LinuxMemory{}) {
		return nil, nil
	}
	return memory, nil
}

func parseFlag[T any](c *cli.Command, name string, to **T, parse func(string) (T, error)) error {
	text := c.String(name)
	if text == "" {
		return nil
	}
	v, err := parse(text)
	if err != nil {
		return fmt.Errorf("invalid value for %s: %w", name, err)
	}
	*to = &v
	return nil
}

func parseSize(text string) (int64, error) {
	if text == "-1" {
		return -1, nil
	}
	return units.RAMInBytes(text)
}
