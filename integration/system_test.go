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

// Somebody else may pause the machine: nobody then waits for a guest that stands still.
func TestVirshSuspend(t *testing.T) {
	r := system(t)
	nothingLeft(t)
	c := r.startNew(t, script(`trap "echo got it" USR1`, `echo ready`, forever))
	c.stdout.wait(t, "ready\n")
	domain := "vmruntime-" + c.id
	virsh(t, "suspend", domain)
	eventually(t, patience, "the container is paused", func() bool { return c.status(t) == "paused" })
	if message := refusal(t, c.exec(t, "/bin/true")); !strings.Contains(message, "cannot exec in a paused container") {
		t.Errorf("exec: %q", message)
	}
	c.kill(t, "USR1")
	virsh(t, "resume", domain)
	c.stdout.wait(t, "got it\n")
	eventually(t, patience, "the container runs", func() bool { return c.status(t) == "running" })
	if got := c.exec(t, "/bin/true"); got.Code != 0 {
		t.Errorf("exec after resume: %s", got)
	}
	virsh(t, "suspend", domain)
	eventually(t, patience, "the container is paused again", func() bool { return c.status(t) == "paused" })
	r.must(t, "resume", c.id)
	if got := c.status(t); got != "running" {
		t.Errorf("status %s after vmruntime resume, not running", got)
	}
	c.end(t)
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
