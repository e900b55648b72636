package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// system is the runtime under libvirtd.
func system(t testing.TB) runtime {
	t.Helper()
	machines(t)
	if err := startLibvirtd(t); err != nil {
		t.Skip("needs libvirtd: ", err)
	}
	return warm(t, uriSystem)
}

func virsh(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "virsh", append([]string{"-q", "-c", uriSystem}, args...)...)
}

// Under libvirtd the machine is there for everybody to see, and to recognize.
func TestVirsh(t *testing.T) {
	r := system(t)
	nothingLeft(t)
	for _, test := range []struct {
		name    string
		changes []change
		// title is what a person should recognize it by, empty for the bundle.
		title string
	}{
		{name: "bundle"},
		{name: "image", changes: []change{annotate("org.opencontainers.image.ref.name", "registry.example/shop/cart:7"), annotate("note", "<&>")},
			title: "registry.example/shop/cart:7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := r.startNew(t, append(test.changes, idle)...)
			domain := "vmruntime-" + c.id
			if list := strings.Fields(virsh(t, "list", "--name")); !slices.Contains(list, domain) {
				t.Errorf("virsh list lacks %s: %v", domain, list)
			}
			title := test.title
			if title == "" {
				title = filepath.Base(c.bundle)
			}
			if got := strings.TrimSpace(virsh(t, "desc", "--title", domain)); got != title {
				t.Errorf("title %q, not %q", got, title)
			}
			text := virsh(t, "dumpxml", domain)
			for _, want := range []string{">" + c.id + "<", ">" + c.bundle + "<"} {
				if !strings.Contains(text, want) {
					t.Errorf("dumpxml has no %q:\n%s", want, text)
				}
			}
			if test.title != "" && !strings.Contains(text, ">&lt;&amp;&gt;<") {
				t.Errorf("dumpxml has no annotation:\n%s", text)
			}
			r.must(t, "pause", c.id)
			if got := strings.TrimSpace(virsh(t, "domstate", domain)); got != "paused" {
				t.Errorf("domstate of a paused container: %q", got)
			}
			c.end(t)
			if list := strings.Fields(virsh(t, "list", "--all", "--name")); slices.Contains(list, domain) {
				t.Errorf("virsh list still has %s", domain)
			}
		})
	}
}

// Somebody else may end the machine.
func TestVirshDestroy(t *testing.T) {
	r := system(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	virsh(t, "destroy", "vmruntime-"+c.id)
	if got := c.wait(t); got == 0 {
		t.Error("the shim exited 0")
	}
	checkGone(t, c)
}
