package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func stateCommand() *cli.Command {
	return &cli.Command{
		Name:      "state",
		Usage:     "print the state of a container",
		ArgsUsage: "<container-id>",
		Action:    onContainer(0, printState),
	}
}

func printState(ctx context.Context, _ *cli.Command, r runtime.Runtime, id string) error {
	state, err := r.State(ctx, id)
	if err != nil {
		return err
	}
	// runc tells the owner in list only.
	state.Owner = ""
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s", text)
	return err
}
