package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// Turns go there and back: nobody is measured twice before everybody has been once, and nobody
// is always the first.
func TestTakeTurns(t *testing.T) {
	clock := 0.0
	tick := func(context.Context) ([]float64, error) {
		clock++
		return []float64{clock, -clock}, nil
	}
	figures, err := takeTurns(t.Context(), 3, []Figure{{Name: "up"}, {Name: "down"}}, []contender{{"a", tick}, {"b", tick}})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range [][]float64{{1, 4, 5}, {2, 3, 6}} {
		if got := figures[0].Series[n]; got.Name != []string{"a", "b"}[n] || !slices.Equal(got.Values, want) {
			t.Errorf("series %d: %+v, want %v", n, got, want)
		}
	}
	if got := figures[1].Series[1].Values; !slices.Equal(got, []float64{-2, -3, -6}) {
		t.Errorf("the second figure has %v", got)
	}
}

func TestTakeTurnsFails(t *testing.T) {
	for name, c := range map[string]contender{
		"broken": {"broken", func(context.Context) ([]float64, error) { return nil, errors.New("it broke") }},
		"silent": {"silent", func(context.Context) ([]float64, error) { return nil, nil }},
	} {
		if _, err := takeTurns(t.Context(), 1, []Figure{{}}, []contender{c}); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(kinds) {
		t.Errorf("nothing is chosen: %d rows, %v", len(all), err)
	}
	chosen, err := choose("exec,start")
	if err != nil || len(chosen) != 2 || chosen[0].name != "exec" || chosen[1].name != "start" {
		t.Errorf("chosen: %v, %v", chosen, err)
	}
	if _, err := choose("exec,stort"); err == nil || !strings.Contains(err.Error(), `"stort": choose from start`) {
		t.Errorf("a row that does not exist: %v", err)
	}
}
