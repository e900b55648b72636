package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:   "check",
		Usage:  "tell what is missing on this host, and the remedy",
		Action: check,
	}
}

func check(ctx context.Context, c *cli.Command) error {
	if err := checkArgs(c, 0, 0); err != nil {
		return err
	}
	r, err := configured(c)
	if err != nil {
		return err
	}
	missing := false
	for _, f := range r.Check(ctx) {
		fmt.Println(f)
		missing = missing || f.Level == runtime.Missing
	}
	if missing {
		return errors.New("something that is required is missing")
	}
	return nil
}
