package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample has every part that a figure may have.
func sample() Figure {
	return Figure{
		Name: "in and out", Unit: "MiB/s",
		Series: []Series{
			{"vmruntime", []float64{6, 9, 5}},
			{"raw copy", []float64{10, 10, 20}},
			{"runc", []float64{1200, 1000, 1100}},
		},
		Ratios: []Ratio{{"vmruntime", "raw copy", Aim{AtLeast: 0.6}}, {"vmruntime", "runc", Aim{}}},
		Bounds: []Bound{{"runc", Aim{AtMost: 1000}}},
	}
}

// The values of one turn belong together: the ratio of the medians would be 0.6.
func TestRatioByTurns(t *testing.T) {
	f := sample()
	got, err := f.Ratios[0].values(f)
	if want := []float64{0.6, 0.9, 0.25}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, r := range []Ratio{{Of: "nobody", To: "runc"}, {Of: "runc", To: "nobody"}} {
		if _, err := r.values(f); err == nil || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("%+v: %v", r, err)
		}
	}
	f.Series[1].Values = f.Series[1].Values[1:]
	if _, err := f.Ratios[0].values(f); err == nil {
		t.Error("series of different lengths were compared")
	}
}

func TestAim(t *testing.T) {
	for _, test := range []struct {
		aim   Aim
		value float64
		met   bool
	}{
		{Aim{}, 7, true},
		{Aim{AtMost: 1.25}, 1.25, true},
		{Aim{AtMost: 1.25}, 1.26, false},
		{Aim{AtLeast: 0.6}, 0.6, true},
		{Aim{AtLeast: 0.6}, 0.59, false},
	} {
		if got := test.aim.met(test.value); got != test.met {
			t.Errorf("%+v of %v: %v", test.aim, test.value, got)
		}
	}
}

func TestReports(t *testing.T) {
	dir := t.TempDir()
	if _, err := readReports(dir); err == nil {
		t.Error("reports were read where there are none")
	}
	old := Report{
		Date: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Commit: "old", Rounds: 3,
		Rows: []Row{{"start", []Figure{sample()}}, {"stdio", []Figure{sample()}}},
	}
	recent := Report{Date: old.Date.AddDate(0, 1, 0), Commit: "recent", Rows: []Row{{"stdio", []Figure{sample()}}}}
	for _, r := range []Report{recent, old} {
		if err := r.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := readReports(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Report{recent, old}, reports); diff != "" {
		t.Errorf("written and read again (-want +got):\n%s", diff)
	}
	for name, commit := range map[string]string{"start": "old", "stdio": "recent"} {
		if from, row, found := newest(reports, name); !found || row.Name != name || from.Commit != commit {
			t.Errorf("the newest %s is of commit %s", name, from.Commit)
		}
	}
	if _, _, found := newest(reports, "files"); found {
		t.Error("a row was found that nobody measured")
	}
}
