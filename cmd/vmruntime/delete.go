package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "remove a container that does not run",
		ArgsUsage: "<container-id>",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill it if it runs"},
			timingFlag(),
		},
		Action: onContainer(0, func(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
			return r.Delete(ctx, id, c.Bool("force"))
		}),
	}
}
