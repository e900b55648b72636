package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// rooted names, in the process that the root is tried in, a directory for it to write to.
const rooted = "TEST_ROOTED"

// A program and its data may be installed below /usr, which the root has anyway.
func TestRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	writable := os.Getenv(rooted)
	if writable == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRoot$", "-test.v")
		cmd.Env = append(os.Environ(), rooted+"="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const installed = "/usr/bin/env"
	link := filepath.Join(writable, "link")
	if err := os.Symlink(installed, link); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := Root([]string{writable}, []string{installed, "/usr/share", link}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(installed); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/root"); err == nil {
		t.Error("the host's /root is there")
	}
	if err := unix.Access(installed, unix.W_OK); err != unix.EROFS {
		t.Errorf("%s can be written to: %v", installed, err)
	}
	if err := os.WriteFile(filepath.Join(writable, "new"), nil, 0o600); err != nil {
		t.Error(err)
	}
}
