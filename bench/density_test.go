package main

import (
	"slices"
	"testing"
)

func TestPSS(t *testing.T) {
	const rollup = "55d0c0a00000-7ffd8b1f6000 ---p 00000000 00:00 0    [rollup]\nRss:   99 kB\nPss:                1536 kB\nPss_Dirty:   7 kB\n"
	if got, err := parsePSS("rollup", rollup); err != nil || got != 1.5 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parsePSS("rollup", "Pss_Dirty:   7 kB\n"); err == nil {
		t.Error("a Pss was found where there is none")
	}
}

// The first container pays for what all share, the others do not.
func TestMarginal(t *testing.T) {
	crowd := func(values ...float64) Figure {
		return Figure{Series: []Series{{ofQEMU, values}, {ofShim, make([]float64, len(values))}, {ofBoth, values}}}
	}
	m := marginal([]Figure{crowd(100), crowd(60, 60, 60), crowd(45, 45, 45, 45)})
	for n, want := range [][]float64{{40, 0}, {0, 0}, {40, 0}} {
		if got := m.Series[n].Values; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", m.Series[n].Name, got, want)
		}
	}
	if len(m.Bounds) != 1 || m.Bounds[0].Of != ofBoth {
		t.Errorf("bounds %+v", m.Bounds)
	}
}
