package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// stamps is a container's process that answers each line with its clock, in
// microseconds since the epoch, and ends after the answer to the line "end".
const stamps = `while read -r word; do echo "$EPOCHREALTIME"; [ "$word" != end ] || exit; done`

// askings is how often the clock is asked before the end: the fastest answer tells
// most about it.
const askings = 20

// measureExit measures how fast the end of a container's process is known outside, and
// the delete after it. The process's last words are what its clock shows, which may be
// another than ours: how far off it can be at most is found out before.
func measureExit(ctx context.Context, l *lab) ([]Figure, error) {
	toRunc := []Ratio{{"vmruntime", "runc", Aim{}}, {"vmruntime", "crun", Aim{}}}
	figures := []Figure{
		{Name: "exit", Unit: "ms", Ratios: toRunc, Bounds: []Bound{{"vmruntime", Aim{AtMost: 50}}}},
		{Name: "uncertainty of the exit", Unit: "ms"},
		{Name: "delete", Unit: "ms", Ratios: toRunc, Bounds: []Bound{{"vmruntime", Aim{AtMost: 100}}}},
	}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := l.bundle([]string{"bash", "-c", stamps})
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
	exited, err := c.exited()
	if err != nil {
		return nil, err
	}
	clock := newClock()
	for range askings {
		if _, err := clock.ask(c, "time"); err != nil {
			return nil, err
		}
	}
	last, err := clock.ask(c, "end")
	if err != nil {
		return nil, err
	}
	if err := exited(); err != nil {
		return nil, err
	}
	known := time.Now()
	earliest, latest, err := clock.ours(last)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.id, err)
	}
	deleted, err := c.delete(ctx)
	return []float64{milliseconds(known.Sub(earliest)), milliseconds(latest.Sub(earliest)), milliseconds(deleted)}, err
}

// A clock is a container's, and by how much it can be ahead of ours: an answer was
// given after it was asked for and before it arrived.
type clock struct{ least, most time.Duration }

func newClock() *clock { return &clock{math.MinInt64, math.MaxInt64} }

// ask has the process of stamps tell its time.
func (k *clock) ask(c *container, word string) (time.Time, error) {
	asked := time.Now()
	if _, err := c.stdin.WriteString(word + "\n"); err != nil {
		return time.Time{}, err
	}
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		return time.Time{}, fmt.Errorf("output of %s: %w", c.id, err)
	}
	told, err := parseStamp(strings.TrimSpace(line))
	k.learn(asked, told, time.Now())
	return told, err
}

func (k *clock) learn(asked, told, answered time.Time) {
	k.least = max(k.least, told.Sub(answered))
	k.most = min(k.most, told.Sub(asked))
}

// ours is between which moments of our clock the container's has shown a time.
func (k *clock) ours(told time.Time) (earliest, latest time.Time, err error) {
	if k.least > k.most {
		return told, told, fmt.Errorf("its clock is ahead by %v at least and by %v at most: it runs at another speed, or somebody has set it", k.least, k.most)
	}
	return told.Add(-k.most), told.Add(-k.least), nil
}

// parseStamp reads bash's EPOCHREALTIME: seconds and six digits of microseconds.
func parseStamp(text string) (time.Time, error) {
	seconds, micros, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || len(micros) != 6 {
		return time.Time{}, fmt.Errorf("%q where seconds.microseconds was to come", text)
	}
	us, err := strconv.ParseInt(micros, 10, 64)
	return time.Unix(s, us*1000), err
}
