package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func pauseCommand() *cli.Command {
	return &cli.Command{
		Name:      "pause",
		Usage:     "stop the CPUs of a container's machine",
		ArgsUsage: "<container-id>",
		Action: onContainer(0, func(ctx context.Context, _ *cli.Command, r runtime.Runtime, id string) error {
			return r.Pause(ctx, id)
		}),
	}
}
