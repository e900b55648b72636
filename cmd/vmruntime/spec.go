package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func specCommand() *cli.Command {
	return &cli.Command{
		Name:  "spec",
		Usage: "write a config.json to begin with",
		Flags: []cli.Flag{bundleFlag(), &cli.BoolFlag{Name: "rootless", Usage: "refused: machines are started by root"}},
		Action: func(_ context.Context, c *cli.Command) error {
			if err := checkArgs(c, 0, 0); err != nil {
				return err
			}
			if c.Bool("rootless") {
				return errors.New("--rootless: vmruntime starts machines as root, and they keep the container from the host: remove it")
			}
			return runtime.WriteExample(c.String("bundle"))
		},
	}
}
