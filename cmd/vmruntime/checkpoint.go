package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
)

// unsupported is a command of runc's that engines call whether it is there or not. Its
// --help fails as well: by that podman knows.
func unsupported(name string) *cli.Command {
	return &cli.Command{
		Name:            name,
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(context.Context, *cli.Command) error {
			return fmt.Errorf("%s: containers in VMs cannot be saved and restored yet", name)
		},
	}
}
