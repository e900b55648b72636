package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func startCommand() *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "start the process of a created container",
		ArgsUsage: "<container-id>",
		Flags:     []cli.Flag{timingFlag()},
		Action: onContainer(0, func(ctx context.Context, _ *cli.Command, r runtime.Runtime, id string) error {
			return r.Start(ctx, id)
		}),
	}
}
