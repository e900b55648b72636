// Package trace notes how long the phases of a command take, across processes.
package trace

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// A Phase is a part of a command's work. Phases may overlap.
type Phase struct {
	// Process is who did it: the command itself, or its shim.
	Process string        `json:"process"`
	Name    string        `json:"name"`
	Begin   time.Time     `json:"begin"`
	Took    time.Duration `json:"took"`
}

// A Recorder collects the phases of one process and of those that report to it.
type Recorder struct {
	process string
	mu      sync.Mutex
	phases  []Phase
}

type key struct{}

// With is ctx with a recorder for the process of that name.
func With(ctx context.Context, process string) (context.Context, *Recorder) {
	r := &Recorder{process: process}
	return context.WithValue(ctx, key{}, r), r
}

// Begin begins a phase and returns what ends it. Without a recorder in ctx
// nothing is noted.
func Begin(ctx context.Context, name string) (end func()) {
	r, ok := ctx.Value(key{}).(*Recorder)
	if !ok {
		return func() {}
	}
	begin := time.Now()
	return func() { r.add(Phase{Process: r.process, Name: name, Begin: begin, Took: time.Since(begin)}) }
}

// Add notes the phases of another process.
func Add(ctx context.Context, phases []Phase) {
	if r, ok := ctx.Value(key{}).(*Recorder); ok {
		r.add(phases...)
	}
}

func (r *Recorder) add(phases ...Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phases = append(r.phases, phases...)
}

// Phases are those that have ended, in the order of their beginning.
func (r *Recorder) Phases() []Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	phases := slices.Clone(r.phases)
	slices.SortStableFunc(phases, func(a, b Phase) int { return cmp.Or(a.Begin.Compare(b.Begin), cmp.Compare(b.Took, a.Took)) })
	return phases
}

// WriteTable prints the phases in milliseconds, counted from the first one.
func (r *Recorder) WriteTable(w io.Writer) error {
	phases := r.Phases()
	if len(phases) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 1, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "begin ms\ttook ms\tprocess\tphase\t")
	for _, p := range phases {
		fmt.Fprintf(table, "%.1f\t%.1f\t%s\t%s\t\n", milliseconds(p.Begin.Sub(phases[0].Begin)), milliseconds(p.Took), p.Process, p.Name)
	}
	return table.Flush()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
