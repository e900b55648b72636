package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "create a container",
		ArgsUsage: "<container-id>",
		Flags:     createFlags(),
		Action:    onNewContainer(create),
	}
}

func create(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	request, err := newCreate(c, id)
	if err != nil {
		return err
	}
	return r.Create(ctx, request)
}
