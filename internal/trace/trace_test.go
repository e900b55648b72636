package trace

import (
	"strings"
	"testing"
	"time"
)

func TestPhases(t *testing.T) {
	Begin(t.Context(), "nobody looks")()
	ctx, r := With(t.Context(), "vmruntime")
	outer := Begin(ctx, "outer")
	Begin(ctx, "inner")()
	outer()
	Begin(ctx, "never ended")
	early := r.Phases()[0].Begin.Add(-time.Second)
	Add(ctx, []Phase{{Process: "shim", Name: "first", Begin: early, Took: 1500 * time.Microsecond}})
	var names []string
	for _, p := range r.Phases() {
		names = append(names, p.Process+" "+p.Name)
	}
	if got := strings.Join(names, ", "); got != "shim first, vmruntime outer, vmruntime inner" {
		t.Errorf("phases: %s", got)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(table.String(), "\n")
	if got := strings.Fields(lines[1]); strings.Join(got, " ") != "0.0 1.5 shim first" {
		t.Errorf("first line: %q", lines[1])
	}
	if got := strings.Fields(lines[2]); got[0] < "1000.0" || got[3] != "outer" {
		t.Errorf("second line: %q", lines[2])
	}
}
