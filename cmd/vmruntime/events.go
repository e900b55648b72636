package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "print a container's OOM kills and, every five seconds, its figures",
		ArgsUsage: "<container-id>",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Value: 5 * time.Second, Usage: "how often to print figures"},
			&cli.BoolFlag{Name: "stats", Usage: "print figures once and exit"},
		},
		Action: onContainer(0, events),
	}
}

func events(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	out := json.NewEncoder(os.Stdout)
	interval := c.Duration("interval")
	if interval <= 0 {
		return errors.New("duration interval must be greater than 0")
	}
	if c.Bool("stats") {
		event, err := r.Stats(ctx, id)
		if err != nil {
			return err
		}
		return out.Encode(event)
	}
	return r.Events(ctx, id, interval, func(e runtime.Event) error { return out.Encode(e) })
}
