package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/internal/version"
	"github.com/vmruntime/vmruntime/runtime"
)

func featuresCommand() *cli.Command {
	return &cli.Command{
		Name:  "features",
		Usage: "print what this runtime supports, as JSON",
		Action: func(_ context.Context, c *cli.Command) error {
			if err := checkArgs(c, 0, 0); err != nil {
				return err
			}
			out := json.NewEncoder(os.Stdout)
			out.SetIndent("", "    ")
			return out.Encode(runtime.Features(version.Text(), version.Commit()))
		},
	}
}
