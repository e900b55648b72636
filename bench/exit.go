package main

import (
	"context"
	"time"
)

// measureExit measures how fast the end of a container's process is known outside, and
// the delete after it. When the process ends nobody outside can see; so it is put
// between two moments that can be seen: the byte on stdin that lets it end, which
// is written before, and its last output, which arrives after it has begun to.
func measureExit(ctx context.Context, l *lab) ([]Figure, error) {
	toRunc := []Ratio{{"vmruntime", "runc", Aim{}}, {"vmruntime", "crun", Aim{}}}
	figures := []Figure{
		{Name: "exit, from the last input", Unit: "ms", Ratios: toRunc, Bounds: []Bound{{"vmruntime", Aim{AtMost: 50}}}},
		{Name: "exit, from the last output", Unit: "ms", Ratios: toRunc},
		{Name: "delete", Unit: "ms", Ratios: toRunc, Bounds: []Bound{{"vmruntime", Aim{AtMost: 100}}}},
	}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := l.bundle([]string{"sh", "-c", "echo ready; read line; echo bye"})
	if err != nil {
		return nil, err
	}
	var contenders []contender
	for _, p := range append([]program{warmly}, l.references()...) {
		contenders = append(contenders, contender{p.name, func(ctx context.Context) ([]float64, error) {
			return l.end(ctx, p, bundle)
		}})
	}
	return takeTurns(ctx, l.rounds, figures, contenders)
}

// end starts a container and lets it end.
func (l *lab) end(ctx context.Context, p program, bundle string) ([]float64, error) {
	c, err := l.start(ctx, p, bundle)
	if err != nil {
		return nil, err
	}
	if err := c.line("ready"); err != nil {
		return nil, err
	}
	exited, err := c.exited()
	if err != nil {
		return nil, err
	}
	input := time.Now()
	if _, err := c.stdin.WriteString("\n"); err != nil {
		return nil, err
	}
	if err := c.line("bye"); err != nil {
		return nil, err
	}
	output := time.Now()
	if err := exited(); err != nil {
		return nil, err
	}
	known := time.Now()
	deleted, err := c.delete(ctx)
	return []float64{milliseconds(known.Sub(input)), milliseconds(known.Sub(output)), milliseconds(deleted)}, err
}
