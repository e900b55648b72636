package runtime

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/vm"
)

// Containers share a template when their machines differ in nothing but whose
// they are.
func TestTemplateOf(t *testing.T) {
	base := vm.Config{Name: "vmruntime-a", UUID: "1", Memory: 256 << 20, VCPUs: 2, Kernel: "/k", Share: "/a", Seed: "/s"}
	name := func(change func(*vm.Config)) string {
		t.Helper()
		c := base
		change(&c)
		dir, err := templateOf(c, Config{Templates: templatesAuto})
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(dir) != vm.Templates {
			t.Errorf("%s is not in %s", dir, vm.Templates)
		}
		return filepath.Base(dir)
	}
	first := name(func(*vm.Config) {})
	if !strings.HasPrefix(first, "256M-2cpu-") {
		t.Errorf("%s does not tell its size", first)
	}
	for what, change := range map[string]func(*vm.Config){
		"name":     func(c *vm.Config) { c.Name, c.UUID, c.Title = "b", "2", "b" },
		"metadata": func(c *vm.Config) { c.Metadata = vm.Metadata{ID: "b"} },
		"paths":    func(c *vm.Config) { c.Share, c.Seed, c.AgentSocket, c.ConsoleSocket = "/1", "/2", "/3", "/4" },
	} {
		if name(change) != first {
			t.Errorf("another %s asks for another template", what)
		}
	}
	for what, change := range map[string]func(*vm.Config){
		"memory":      func(c *vm.Config) { c.Memory *= 2 },
		"vcpus":       func(c *vm.Config) { c.VCPUs++ },
		"kernel":      func(c *vm.Config) { c.Kernel = "/l" },
		"cmdline":     func(c *vm.Config) { c.Cmdline = "quiet" },
		"accelerator": func(c *vm.Config) { c.Accelerator = vm.KVM },
	} {
		if name(change) == first {
			t.Errorf("another %s asks for the same template", what)
		}
	}
	off, err := templateOf(base, Config{Templates: templatesOff})
	if off != "" || err != nil {
		t.Errorf("with templates off: %q, %v", off, err)
	}
}
