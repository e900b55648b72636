package agent

import (
	"os"
	"testing"
	"time"
)

// TestLocal runs the scenarios in namespaces of this machine.
func TestLocal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	a, g := localGuest(t)
	must(t, a.findHome())
	must(t, a.prefork())
	scenarios(t, g)
}

// localGuest is an agent that has every exec take a stage, and its client.
func localGuest(t *testing.T) (*agent, *guest) {
	t.Helper()
	inside, host := newLink(t)
	a := newAgent("test")
	close(a.seeded)
	go a.reaper.run(t.Context())
	session, err := newChannel(inside)
	must(t, err)
	go a.serveSession(session)
	rootfs := makeRootfs(t, t.TempDir())
	return a, &guest{client: newClient(t, host, 20*time.Second), rootfs: rootfs, local: rootfs}
}
