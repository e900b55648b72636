package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "let a paused container go on",
		ArgsUsage: "<container-id>",
		Action: onContainer(0, func(ctx context.Context, _ *cli.Command, r runtime.Runtime, id string) error {
			return r.Resume(ctx, id)
		}),
	}
}
