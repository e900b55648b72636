package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// soak asks for the long run of a test.
func soak() bool { return os.Getenv("VMRUNTIME_SOAK") == "1" }

// One after the other: what one leaves behind becomes many.
func TestInARow(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	rounds := 10
	if soak() {
		rounds = 200
	}
	bundle := r.bundle(t, script("echo out", "echo err >&2", "exit 3"))
	for i := range rounds {
		if got := cycle(t, r, bundle); got != "" {
			t.Fatalf("round %d: %s", i+1, got)
		}
	}
}

// Eight at a time; in the long run each does it 25 times.
func TestAtATime(t *testing.T) {
	const parallel = 8
	r := subject(t)
	nothingLeft(t)
	rounds := 1
	if soak() {
		rounds = 25
	}
	bundle := r.bundle(t, script("echo out", "echo err >&2", "exit 3"))
	var running sync.WaitGroup
	for worker := range parallel {
		running.Go(func() {
			for i := range rounds {
				if got := cycle(t, r, bundle); got != "" {
					t.Errorf("worker %d, round %d: %s", worker+1, i+1, got)
				}
			}
		})
	}
	running.Wait()
}

// cycle is one container's life from create to delete; it tells what was wrong.
// It never ends the test: that is for the test's own goroutine to do.
func cycle(t testing.TB, r runtime, bundle string) string {
	id := r.newID(t)
	dir := fmt.Sprintf("%s/%s", scratch, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err.Error()
	}
	defer func() { _ = os.RemoveAll(dir) }()
	output, err := os.Create(dir + "/output")
	if err != nil {
		return err.Error()
	}
	defer output.Close()
	create, _ := r.command(t, "create", "--bundle", bundle, "--pid-file", dir+"/pid", id)
	create.Stdout, create.Stderr = output, output
	if err := create.Run(); err != nil {
		text, _ := os.ReadFile(dir + "/output")
		return fmt.Sprintf("create: %v: %s", err, text)
	}
	pid, err := os.ReadFile(dir + "/pid")
	if err != nil {
		return err.Error()
	}
	exited := reap(atoi(string(pid)))
	if err := quiet(r.command(t, "start", id)); err != nil {
		return fmt.Sprintf("start: %v", err)
	}
	if code := <-exited; code != 3 {
		return fmt.Sprintf("it exited %d, not 3", code)
	}
	if err := quiet(r.command(t, "delete", id)); err != nil {
		return fmt.Sprintf("delete: %v", err)
	}
	text, err := os.ReadFile(dir + "/output")
	if err != nil {
		return err.Error()
	}
	if !strings.Contains(string(text), "out\n") || !strings.Contains(string(text), "err\n") || len(text) != len("out\nerr\n") {
		return fmt.Sprintf("its output: %q", text)
	}
	return ""
}

// quiet runs a command that has to print nothing.
func quiet(cmd *exec.Cmd, _ string) error {
	out, err := cmd.CombinedOutput()
	if err == nil && len(out) > 0 {
		err = fmt.Errorf("it printed %q", out)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Of two creates of one id one wins, and the other says so and touches nothing.
// runc 1.1 fails this: the loser takes away the winner's files.
func TestCreateRace(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	rounds := 3
	if soak() {
		rounds = 50
	}
	bundle := r.bundle(t, idle)
	for range rounds {
		race(t, r, bundle)
	}
}

func race(t *testing.T, r runtime, bundle string) {
	t.Helper()
	const runners = 3
	id := r.newID(t)
	results := make([]result, runners)
	var running sync.WaitGroup
	for i := range results {
		dir := t.TempDir()
		running.Go(func() {
			errFile, _ := os.Create(dir + "/err")
			defer errFile.Close()
			cmd, _ := r.command(t, "create", "--bundle", bundle, "--pid-file", dir+"/pid", id)
			cmd.Stderr = errFile
			_ = cmd.Run()
			text, _ := os.ReadFile(dir + "/err")
			results[i] = result{Code: testutil.ExitCode(cmd.ProcessState), Err: string(text)}
			if _, err := os.Stat(dir + "/pid"); (err == nil) != (results[i].Code == 0) {
				t.Errorf("exit %d, pid file: %v", results[i].Code, err)
			}
		})
	}
	running.Wait()
	won := 0
	for _, result := range results {
		if result.Code == 0 {
			won++
		} else if !strings.Contains(result.Err, "container with given ID already exists") {
			t.Errorf("the loser: %s", result)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d creates won", won, runners)
	}
	// The winner's is whole.
	c := &container{runtime: r, id: id}
	c.start(t)
	if got := c.exec(t, "/bin/echo", "alive"); got.Out != "alive\n" {
		t.Errorf("exec in the winner's container: %s", got)
	}
	r.must(t, "delete", "--force", id)
}

// Many at once, started one after the other, all answer; in the long run it is a
// hundred. It tells what each of them costs the host.
func TestMany(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	many := 5
	if soak() {
		many = 100
	}
	bundle := r.bundle(t, idle)
	var all []*container
	for range many {
		c := r.create(t, bundle, options{})
		c.start(t)
		all = append(all, c)
	}
	for _, c := range all {
		if got := c.exec(t, "/bin/echo", c.id); got.Out != c.id+"\n" {
			t.Errorf("exec in %s: %s", c.id, got)
		}
	}
	shims, machines := 0, 0
	for _, c := range all {
		shims += proportional(t, c.pid)
		qemu := qemuOf(t, c)
		machines += proportional(t, qemu)
		maps := testutil.ReadFile(t, fmt.Sprintf("/proc/%d/maps", qemu))
		if !strings.Contains(maps, "vmruntime-preload.so") || strings.Contains(maps, "libcapstone.so.4") {
			t.Errorf("QEMU of %s has not preloaded our library, or loaded a disassembler:\n%s", c.id, maps)
		}
	}
	t.Logf("%d containers: %d KiB each in the shim, %d KiB in QEMU", many, shims/many, machines/many)
	for _, c := range all {
		c.end(t)
	}
}

// proportional is the proportional set size of a process in KiB.
func proportional(t testing.TB, pid int) int {
	t.Helper()
	_, rest, ok := strings.Cut(testutil.ReadFile(t, fmt.Sprintf("/proc/%d/smaps_rollup", pid)), "\nPss:")
	if !ok {
		t.Fatalf("process %d has no Pss", pid)
	}
	return atoi(strings.Fields(rest)[0])
}
