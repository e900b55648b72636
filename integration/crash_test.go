package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// qemuOf is the pid of the container's QEMU.
func qemuOf(t testing.TB, c *container) int {
	t.Helper()
	found := machinesOf(c.id)
	if len(found) != 1 {
		t.Fatalf("%d QEMUs of %s: %v", len(found), c.id, found)
	}
	return found[0]
}

// machinesOf are the pids of processes that carry the name of the container's
// domain: QEMU, or what is about to become it.
func machinesOf(id string) []int {
	var found []int
	for pid, s := range readStats() {
		line := commandLine(pid)
		i := slices.Index(line, "-name")
		if s.state != "Z" && i > 0 && i+1 < len(line) && strings.HasPrefix(line[i+1]+",", "guest=vmruntime-"+id+",") {
			found = append(found, pid)
		}
	}
	return found
}

// Whatever ends the shim ends the VM.
func TestShimKilled(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle)
		c.stdout.wait(t, "ready\n")
		qemu := qemuOf(t, c)
		c.process.kill(t, unix.SIGKILL)
		awaitDeath(t, patience, "QEMU", qemu)
		c.expect(t, 137)
		checkGone(t, c)
	})
}

// checkGone looks at a container whose machine ended by violence: it is
// stopped, and all of it can be cleaned up, twice.
func checkGone(t testing.TB, c *container) {
	t.Helper()
	if got := c.status(t); got != "stopped" {
		t.Errorf("status %s, not stopped", got)
	}
	if message := c.refuse(t, "kill", c.id, "TERM"); !strings.Contains(message, "container not running") {
		t.Errorf("kill: %q", message)
	}
	c.must(t, "delete", "--force", c.id)
	c.must(t, "delete", "--force", c.id)
}

func TestQEMUKilled(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle)
		c.stdout.wait(t, "ready\n")
		p := c.execDetached(t, options{}, "/bin/sleep", "1000")
		begin := time.Now()
		if err := unix.Kill(qemuOf(t, c), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := c.wait(t); got == 0 {
			t.Error("the shim exited 0")
		}
		if got := c.status(t); got != "stopped" {
			t.Errorf("status %s, not stopped", got)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("it took %v, more than 2 s, until state said stopped", took)
		}
		if got := p.wait(t); got == 0 {
			t.Error("the exec exited 0")
		}
		checkGone(t, c)
	})
}

// A create that is killed leaves nothing: its engine will never ask for it.
func TestCreateKilled(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	for _, phase := range []struct {
		name  string
		begun func(id string) bool
	}{
		{"shim", func(id string) bool { pid, _ := shimOf(id); return pid != 0 }},
		{"QEMU", func(id string) bool { return len(machinesOf(id)) > 0 }},
	} {
		t.Run(phase.name, func(t *testing.T) {
			t.Parallel()
			id := r.newID(t)
			cmd, _ := r.command(t, "create", "--bundle", r.bundle(t, idle), id)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, patience, phase.name+" runs", func() bool { return phase.begun(id) })
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually(t, patience, "shim and QEMU are gone", func() bool {
				shim, _ := shimOf(id)
				return shim == 0 && len(machinesOf(id)) == 0
			})
			r.must(t, "delete", "--force", id)
		})
	}
}

// delete --force needs no state that can be read.
func TestDamagedState(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	for _, damage := range []struct {
		name string
		do   func(path string) error
		// killed is whether the shim is gone as well.
		killed bool
	}{
		{"cut off", func(path string) error { return os.Truncate(path, 20) }, true},
		{"empty", func(path string) error { return os.Truncate(path, 0) }, false},
		{"garbage", func(path string) error { return os.WriteFile(path, []byte("\x00\xff\x7fELF"), 0o600) }, false},
		{"missing", os.Remove, false},
		{"directory gone", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, false},
	} {
		t.Run(damage.name, func(t *testing.T) {
			t.Parallel()
			c := r.startNew(t, idle)
			qemu := qemuOf(t, c)
			if err := damage.do(stateFile(t, c)); err != nil {
				t.Fatal(err)
			}
			if damage.killed {
				c.process.kill(t, unix.SIGKILL)
				c.wait(t)
			}
			r.refuse(t, "state", c.id)
			r.must(t, "list")
			r.must(t, "delete", "--force", c.id)
			awaitDeath(t, patience, "QEMU", qemu)
			if !damage.killed {
				c.wait(t)
			}
			r.must(t, "delete", "--force", c.id)
		})
	}
}

func stateFile(t testing.TB, c *container) string {
	t.Helper()
	path := filepath.Join(c.root, c.id, "state.json")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// QEMU is reachable by the guest: it keeps the capabilities that 9p needs and
// sees no files but its own.
func TestConfinement(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	qemu := fmt.Sprintf("/proc/%d", qemuOf(t, c))
	status := testutil.ReadFile(t, qemu+"/status")
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		if got := statusField(t, status, set); got != ninepCapabilities() {
			t.Errorf("%s of QEMU: %016x, not %016x", set, got, ninepCapabilities())
		}
	}
	if statusField(t, status, "NoNewPrivs") != 1 {
		t.Error("QEMU may gain privileges")
	}
	for _, path := range []string{"/root", "/home", "/etc/passwd", "/etc/shadow", "/var/lib", "/sys", "/dev/vda", c.root, filepath.Join(checkout(t), "go.mod")} {
		if _, err := os.Lstat(qemu + "/root" + path); !os.IsNotExist(err) {
			t.Errorf("QEMU sees %s: %v", path, err)
		}
	}
	c.end(t)
}

func statusField(t testing.TB, status, name string) uint64 {
	t.Helper()
	_, rest, ok := strings.Cut(status, "\n"+name+":")
	if !ok {
		t.Fatalf("no %s in %q", name, status)
	}
	value, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func ninepCapabilities() uint64 {
	var mask uint64
	for _, c := range []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_MKNOD, unix.CAP_SETFCAP} {
		mask |= 1 << c
	}
	return mask
}

// What the shim keeps of a container is nobody else's to read.
func TestPrivateFiles(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.create(t, r.bundle(t, idle), options{})
	_, dir := shimOf(c.id)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%s has mode %o, not 700", dir, info.Mode().Perm())
	}
	seed, err := os.Stat(filepath.Join(dir, "seed.iso"))
	if err != nil {
		t.Fatal(err)
	}
	if seed.Mode().Perm() != 0o600 {
		t.Errorf("the seed has mode %o, not 600", seed.Mode().Perm())
	}
	c.end(t)
}
