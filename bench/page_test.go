package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestTable(t *testing.T) {
	second := sample()
	second.Name, second.Series[0].Values = "", []float64{0.001234, 123456, 12.34}
	golden(t, "table.md", []Figure{sample(), second})
}

func TestSummary(t *testing.T) {
	golden(t, "summary.md", slices.Repeat([]Figure{sample()}, manyFigures))
}

func golden(t *testing.T, name string, figures []Figure) {
	t.Helper()
	got, err := tablesOf(Row{"stdio", figures})
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDigits(t *testing.T) {
	for value, want := range map[float64]string{0: "0", 0.001234: "0.00123", 1: "1.00", 9.999: "10.00", 12.34: "12.3", 99.96: "100.0", 123.4: "123", 123456: "123456", -2: "-2.00"} {
		if got := digits(value); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}

// Every row has a page, tables and a picture that is well-formed and says what it
// shows.
func TestPublish(t *testing.T) {
	dir := t.TempDir()
	report := Report{Date: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Commit: "0123456789abcdef", Rounds: 3}
	for _, k := range kinds {
		report.Rows = append(report.Rows, Row{k.name, []Figure{sample()}})
	}
	if err := report.write(dir); err != nil {
		t.Fatal(err)
	}
	if err := publish(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		for _, want := range []string{"## " + k.title + "\n", k.name + ".svg", "commit 0123456789ab,"} {
			if !strings.Contains(string(page), want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		text := svgText(t, filepath.Join(dir, k.name+".svg"))
		want := "vmruntime / raw copy"
		switch k.picture {
		case ofValues:
			want = "vmruntime, MiB/s"
		case ofStacks, ofPanels:
			want = "raw copy"
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s.svg lacks %q: %q", k.name, want, text)
		}
	}
}

// svgText is all text of a picture.
func svgText(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var text strings.Builder
	for decoder := xml.NewDecoder(file); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if data, ok := token.(xml.CharData); ok {
			text.Write(data)
		}
	}
}

func TestWholeSteps(t *testing.T) {
	for _, test := range []struct{ low, high, wantLow, wantHigh float64 }{
		{0.3, 4.1, 0.2, 5},
		{1, 1, 1, 1},
		{33, 1200, 20, 2000},
	} {
		if low, high := wholeSteps(test.low, test.high); !near(low, test.wantLow) || !near(high, test.wantHigh) {
			t.Errorf("%v to %v: %v to %v", test.low, test.high, low, high)
		}
	}
}

func near(a, b float64) bool { return a/b > 0.999 && a/b < 1.001 }
