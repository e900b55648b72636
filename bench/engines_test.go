package main

import (
	"strings"
	"testing"
)

// Every engine has a figure, and is told the runtime.
func TestEngines(t *testing.T) {
	figures := engineFigures()
	if len(figures) != len(engines) {
		t.Fatalf("%d figures for %d engines", len(figures), len(engines))
	}
	for i, e := range engines {
		if figures[i].Name != e.name {
			t.Errorf("figure %d is %s, want %s", i, figures[i].Name, e.name)
		}
		if line := strings.Join(e.line("runc"), " "); !strings.Contains(line, "--runtime runc") {
			t.Errorf("%s is told no runtime: %s", e.name, line)
		}
	}
}

// Outside of hack/engines.sh it would write into the machine's /etc.
func TestBesideNoEngines(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := besideEngines("1", "figures.json"); err == nil || !strings.Contains(err.Error(), "no engines") {
		t.Errorf("%v", err)
	}
}
