package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the containers",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "table", Usage: "table or json"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only the ids"},
		},
		Action: list,
	}
}

func list(ctx context.Context, c *cli.Command) error {
	if err := checkArgs(c, 0, 0); err != nil {
		return err
	}
	r, err := newRuntime(c)
	if err != nil {
		return err
	}
	// Only the default need not be there before the first container is.
	if c.Root().IsSet("root") {
		if _, err := os.Stat(r.Root); err != nil {
			return fmt.Errorf("--root: %w", err)
		}
	}
	states, err := r.List(ctx)
	if err != nil {
		return err
	}
	switch format := c.String("format"); {
	case c.Bool("quiet"):
		for _, s := range states {
			fmt.Println(s.ID)
		}
		return nil
	case format == "table":
		return printTable(os.Stdout, states)
	case format == "json":
		return json.NewEncoder(os.Stdout).Encode(states)
	}
	return errors.New("invalid format option")
}

func printTable(w io.Writer, states []runtime.State) error {
	table := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprint(table, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, s := range states {
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.PID, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
	}
	return table.Flush()
}
