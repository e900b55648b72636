package agent

import (
	"net"
	"os"
	"testing"
	"time"
)

// TestLocal runs the scenarios in namespaces of this machine.
func TestLocal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	host, inside := net.Pipe()
	a := newAgent("test")
	close(a.seeded)
	go a.reaper.run()
	session, err := newSession(inside)
	must(t, err)
	go a.serveSession(session)
	rootfs := makeRootfs(t, t.TempDir())
	scenarios(t, &guest{client: newClient(t, host, 20*time.Second), rootfs: rootfs, local: rootfs})
}
