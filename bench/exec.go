package main

import (
	"context"
	"time"
)

// execsPerRound makes up for how short and how noisy they are.
const execsPerRound = 5

// measureExec measures an exec of true in a running container, from the start of the
// command to its exit.
func measureExec(ctx context.Context, l *lab) ([]Figure, error) {
	figure := Figure{Unit: "ms", Ratios: []Ratio{
		{"vmruntime", "runc", Aim{AtMost: 1.5}},
		{"vmruntime", "crun", Aim{}},
	}}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := l.bundle([]string{"sleep", "infinity"})
	if err != nil {
		return nil, err
	}
	var contenders []contender
	for _, p := range append([]program{warmly}, l.references()...) {
		c, err := l.start(ctx, p, bundle)
		if err != nil {
			return nil, err
		}
		again := func(ctx context.Context) ([]float64, error) {
			_, took, err := p.call(ctx, "exec", c.id, "true")
			return []float64{milliseconds(took)}, err
		}
		// The first one reads its program from the disk.
		if _, err := again(ctx); err != nil {
			return nil, err
		}
		contenders = append(contenders, contender{p.name, again})
	}
	return takeTurns(ctx, execsPerRound*l.rounds, []Figure{figure}, contenders)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
