package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:         "ps",
		Usage:        "list the processes of the host that stand for a container's",
		ArgsUsage:    "<container-id> [ps options]",
		StopOnNthArg: stopAfter(1),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "table", Usage: "table or json"},
		},
		Action: onContainer(unlimited, ps),
	}
}

func ps(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	pids, err := r.Processes(ctx, id)
	if err != nil {
		return err
	}
	switch c.String("format") {
	case "json":
		return json.NewEncoder(os.Stdout).Encode(pids)
	case "table":
		return psTable(ctx, pids, c.Args().Tail())
	}
	return errors.New("invalid format option")
}

// psTable prints the lines of the host's ps that are about the pids.
func psTable(ctx context.Context, pids []int, options []string) error {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	output, err := exec.CommandContext(ctx, "ps", options...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ps: %w: %s", err, output)
	}
	lines := strings.Split(strings.TrimSuffix(string(output), "\n"), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errors.New("couldn't find PID field in ps output")
	}
	fmt.Println(lines[0])
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if column >= len(fields) {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			fmt.Println(line)
		}
	}
	return nil
}
