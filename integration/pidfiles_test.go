package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// Who enters the mount namespace of the container's pid, as podman cp does, finds the
// container's files: also where others are mounted, and nothing of the host's.
func TestFilesOfPid(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		dir, outside := t.TempDir(), t.TempDir()
		testutil.WriteFile(t, filepath.Join(dir, "f"), "shared\n")
		testutil.WriteFile(t, filepath.Join(outside, "secret"), "the host's\n")
		for name, target := range map[string]string{"out": outside, "up": "../../../../../../.." + outside} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		c := r.startNew(t, bind(dir, "/mnt/rw"), bind(dir, "/mnt/ro", "ro"), tmpfsAt("/mnt/tmpfs"), bind(dir, "/mnt/tmpfs/below/it"), idle)
		c.stdout.wait(t, "ready\n")
		c.exec(t, "/bin/sh", "-c", "echo of the guest >/mnt/rw/g; echo in memory >/mnt/tmpfs/f")
		as := func(script string) string {
			return run(t, "nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", c.pid), "/bin/sh", "-c", script)
		}
		for script, want := range map[string]string{
			"cat /mnt/rw/f /mnt/ro/g /mnt/tmpfs/below/it/f":   "shared\nof the guest\nshared\n",
			"echo more >/mnt/rw/new; cat /mnt/ro/new":         "more\n",
			"echo lost 2>&- >/mnt/ro/lost || echo refused":    "refused\n",
			"echo lost 2>&- >/mnt/tmpfs/lost || echo refused": "refused\n",
			"ls /mnt/tmpfs": "below\n",
			"for l in out up; do test -e /mnt/rw/$l/secret && echo host; done; true": "",
		} {
			if got := as(script); got != want {
				t.Errorf("%s: %q, not %q", script, got, want)
			}
		}
		if got := testutil.ReadFile(t, filepath.Join(dir, "new")); got != "more\n" {
			t.Errorf("on the host: %q", got)
		}
		c.end(t)
	})
}

func tmpfsAt(destination string) change {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: destination})
	}
}
