package main

import (
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/vm"
)

// The accelerator has the name that config.toml gives it.
func TestPrintTemplates(t *testing.T) {
	var out strings.Builder
	templates := []vm.Template{
		{Dir: "/a", Machine: vm.Config{Accelerator: vm.TCG}}, {Dir: "/b", Machine: vm.Config{Accelerator: vm.KVM}}, {Dir: "/damaged"},
	}
	if err := printTemplates(&out, templates); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[1], " tcg ") || !strings.Contains(lines[2], " kvm ") || !strings.Contains(lines[3], " damaged") {
		t.Errorf("printed %s", out.String())
	}
}
