package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A Report is what one run measured: the data that tables and pictures are made
// of.
type Report struct {
	Date    time.Time `json:"date"`
	Commit  string    `json:"commit"`
	Machine Machine   `json:"machine"`
	Rounds  int       `json:"rounds"`
	Rows    []Row     `json:"rows"`
}

// A Row is what belongs to one name in BENCH.
type Row struct {
	Name    string   `json:"name"`
	Figures []Figure `json:"figures"`
}

// A Figure is one quantity, measured of several contenders in turns: the values
// at one index were measured one after the other.
type Figure struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"`
	Series []Series `json:"series"`
	Ratios []Ratio  `json:"ratios,omitempty"`
	Bounds []Bound  `json:"bounds,omitempty"`
}

// A Series are the values of one contender.
type Series struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
}

// A Ratio compares two series of a figure, by their names.
type Ratio struct {
	Of string `json:"of"`
	To string `json:"to"`
	Aim
}

// A Bound is what the values of one series aim at.
type Bound struct {
	Of string `json:"of"`
	Aim
}

// An Aim is a limit; one of 0 is none.
type Aim struct {
	AtMost  float64 `json:"atMost,omitempty"`
	AtLeast float64 `json:"atLeast,omitempty"`
}

// series finds one of the figure's series.
func (f Figure) series(name string) (Series, error) {
	i := slices.IndexFunc(f.Series, func(s Series) bool { return s.Name == name })
	if i < 0 {
		return Series{}, fmt.Errorf("figure %q has no series %q", f.Name, name)
	}
	return f.Series[i], nil
}

// values divides the two series turn by turn: what slowed the machine down for a
// while slowed both down.
func (r Ratio) values(f Figure) ([]float64, error) {
	of, err := f.series(r.Of)
	if err != nil {
		return nil, err
	}
	to, err := f.series(r.To)
	if err != nil {
		return nil, err
	}
	if len(of.Values) != len(to.Values) {
		return nil, fmt.Errorf("figure %q: %d values of %q, %d of %q", f.Name, len(of.Values), r.Of, len(to.Values), r.To)
	}
	ratios := make([]float64, len(of.Values))
	for i := range ratios {
		ratios[i] = of.Values[i] / to.Values[i]
	}
	return ratios, nil
}

// met tells whether a value is within the aim.
func (a Aim) met(value float64) bool {
	return (a.AtMost == 0 || value <= a.AtMost) && (a.AtLeast == 0 || value >= a.AtLeast)
}

// write keeps the report under its date in dir.
func (r Report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Date.UTC().Format("2006-01-02T1504")+".json"), append(text, '\n'), 0o644)
}

// readReports reads the reports in dir, the newest first.
func readReports(dir string) ([]Report, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var reports []Report
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var r Report
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		reports = append(reports, r)
	}
	if len(reports) == 0 {
		return nil, errors.New("nothing is measured yet: run make bench")
	}
	slices.SortFunc(reports, func(a, b Report) int { return b.Date.Compare(a.Date) })
	return reports, nil
}
