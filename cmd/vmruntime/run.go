package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "create and start a container, and wait for its end",
		ArgsUsage: "<container-id>",
		Flags: append(createFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "do not wait"},
			&cli.BoolFlag{Name: "keep", Usage: "do not delete the container at its end"}),
		Action: onNewContainer(runContainer),
	}
}

func runContainer(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	request, err := newCreate(c, id)
	if err != nil {
		return err
	}
	return exitWith(r.Run(ctx, request, c.Bool("detach"), c.Bool("keep")))
}
