package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func killCommand() *cli.Command {
	return &cli.Command{
		Name:         "kill",
		Usage:        "send a signal (default: SIGTERM) to a container's process",
		ArgsUsage:    "<container-id> [signal]",
		StopOnNthArg: stopAfter(1),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "send it to all processes of the container"},
		},
		Action: onContainer(1, kill),
	}
}

func kill(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	name := c.Args().Get(1)
	if name == "" {
		name = "SIGTERM"
	}
	signal, err := runtime.ParseSignal(name)
	if err != nil {
		return err
	}
	return r.Kill(ctx, id, signal, c.Bool("all"))
}
