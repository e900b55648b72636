package integration

import (
	goruntime "runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The purpose of it all: an ordinary root filesystem, a kernel of its own.
func TestDebian(t *testing.T) {
	r := subject(t)
	root := debianRootfs(t)
	nothingLeft(t)
	got := r.call(t, "run", "-b", r.bundle(t, rootfs(root), script("uname -r; cat /etc/os-release; id; exit 7")), r.newID(t))
	if got.Code != 7 {
		t.Errorf("exit %d, not 7", got.Code)
	}
	for _, want := range []string{"ID=debian\n", `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"`, "uid=0(root) gid=0(root)"} {
		if !strings.Contains(got.Out, want) {
			t.Errorf("no %q in %q", want, got.Out)
		}
	}
	release, _, _ := strings.Cut(got.Out, "\n")
	if r.isVM() && (release == hostRelease(t) || release == "") {
		t.Errorf("the container's kernel is %q, the host's %q", release, hostRelease(t))
	}
}

// debianRootfs is made once for the checkout, by the script that the demo uses.
func debianRootfs(t testing.TB) string {
	t.Helper()
	if goruntime.GOARCH != "amd64" {
		t.Skip("needs amd64: the script knows no other mirror")
	}
	run(t, checkout(t)+"/hack/rootfs.sh")
	return checkout(t) + "/build/rootfs"
}

func hostRelease(t testing.TB) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(name.Release[:])
}
