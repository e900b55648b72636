package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A container that a test has created.
type container struct {
	runtime
	id     string
	bundle string
	process
}

// options are how a container or an exec differs from the usual one: stdin
// empty, stdout and stderr collected.
type options struct {
	stdin, stdout, stderr *os.File
	// args are further ones of the command.
	args []string
	// files are inherited from descriptor 3 on.
	files []*os.File
}

// create creates a container as containerd does: its stdio are the command's.
func (r runtime) create(t testing.TB, bundle string, o options) *container {
	t.Helper()
	c := &container{runtime: r, id: r.newID(t), bundle: bundle}
	c.process = c.spawn(t, o, append([]string{"create", "--bundle", bundle}, o.args...), nil)
	return c
}

// startNew creates a container and starts it.
func (r runtime) startNew(t testing.TB, changes ...change) *container {
	t.Helper()
	c := r.create(t, r.bundle(t, changes...), options{})
	c.start(t)
	return c
}

// A process of a container that the test reads from and waits for.
type process struct {
	// pid is the host process that stands for it, a child of ours.
	pid            int
	exited         <-chan int
	stdout, stderr *stream
}

// spawn runs a create, or an exec --detach, whose process stays and is found by
// its pid file.
func (c *container) spawn(t testing.TB, o options, before, after []string) process {
	t.Helper()
	var p process
	pidFile := filepath.Join(t.TempDir(), "pid")
	line := append(append(before, "--pid-file", pidFile, c.id), after...)
	var ours []*os.File
	if o.stdout == nil {
		var read *os.File
		read, o.stdout = pipe(t)
		p.stdout = collect("stdout", read)
		ours = append(ours, o.stdout)
	}
	if o.stderr == nil {
		var read *os.File
		read, o.stderr = pipe(t)
		p.stderr = collect("stderr", read)
		ours = append(ours, o.stderr)
	}
	result := c.callWith(t, func(cmd *exec.Cmd) {
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = o.stdout, o.stderr, o.files
		if o.stdin != nil {
			cmd.Stdin = o.stdin
		}
	}, line...)
	for _, f := range ours {
		f.Close()
	}
	if result.Code != 0 {
		t.Fatalf("%s: %s", before[0], result)
	}
	p.pid = readPid(t, pidFile)
	p.exited = reap(p.pid)
	return p
}

// readPid reads a pid file as containerd does, which wants nothing but digits.
func readPid(t testing.TB, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(testutil.ReadFile(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// reap waits for a child of ours and tells its exit status.
func reap(pid int) <-chan int {
	exited := make(chan int, 1)
	go func() {
		var status unix.WaitStatus
		for {
			_, err := unix.Wait4(pid, &status, 0, nil)
			switch {
			case err == unix.EINTR:
				continue
			case err != nil:
				// Not a child of ours: an engine would wait for ever as well.
				return
			case status.Signaled():
				exited <- 128 + int(status.Signal())
			default:
				exited <- status.ExitStatus()
			}
			return
		}
	}()
	return exited
}

func (c *container) start(t testing.TB) {
	t.Helper()
	if out := c.must(t, "start", c.id); out != "" {
		t.Errorf("start printed %q: podman's user sees that", out)
	}
}

func (c *container) kill(t testing.TB, signal string) {
	t.Helper()
	c.must(t, "kill", c.id, signal)
}

func (c *container) delete(t testing.TB) {
	t.Helper()
	c.must(t, "delete", c.id)
}

// end kills the container and deletes it.
func (c *container) end(t testing.TB) {
	t.Helper()
	c.kill(t, "KILL")
	c.wait(t)
	c.delete(t)
}

// expect waits for the exit and compares the status.
func (c *container) expect(t testing.TB, code int) {
	t.Helper()
	if got := c.wait(t); got != code {
		t.Errorf("%s exited %d, not %d", c.id, got, code)
	}
}

// status is the status that state tells.
func (c *container) status(t testing.TB) specs.ContainerState {
	t.Helper()
	return c.state(t).Status
}

func (c *container) state(t testing.TB) specs.State {
	t.Helper()
	var s specs.State
	if err := json.Unmarshal([]byte(c.must(t, "state", c.id)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// exec runs a further process in the foreground to its end.
func (c *container) exec(t testing.TB, args ...string) result {
	t.Helper()
	return c.call(t, append([]string{"exec", c.id}, args...)...)
}

// execDetached starts a further process as containerd does.
func (c *container) execDetached(t testing.TB, o options, args ...string) process {
	t.Helper()
	return c.spawn(t, o, append([]string{"exec", "--detach"}, o.args...), args)
}

// kill signals the process that stands for it, as engines do.
func (p process) kill(t testing.TB, signal unix.Signal) {
	t.Helper()
	if err := unix.Kill(p.pid, signal); err != nil {
		t.Fatal(err)
	}
}

func (p process) wait(t testing.TB) int {
	t.Helper()
	return receive(t, fmt.Sprintf("exit of process %d", p.pid), p.exited)
}

// alive tells whether a process exists that is not a zombie.
func alive(pid int) bool {
	stat, ok := readStat(pid)
	return ok && stat.state != "Z" && stat.state != "X"
}

// awaitDeath waits until the process is gone.
func awaitDeath(t testing.TB, within time.Duration, what string, pid int) {
	t.Helper()
	eventually(t, within, what+" is gone", func() bool { return !alive(pid) })
}
