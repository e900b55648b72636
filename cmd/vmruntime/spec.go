package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func specCommand() *cli.Command {
	return &cli.Command{
		Name:  "spec",
		Usage: "write a config.json to begin with",
		Flags: append(accepted("rootless"), bundleFlag()),
		Action: func(_ context.Context, c *cli.Command) error {
			if err := checkArgs(c, 0, 0); err != nil {
				return err
			}
			return runtime.WriteExample(c.String("bundle"))
		},
	}
}
