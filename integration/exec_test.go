package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

func TestExec(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	for _, test := range []struct {
		name string
		// args are what follows exec, ID what stands for the container.
		args []string
		want string
		code int
	}{
		{name: "arguments", args: []string{"ID", "/bin/echo", "a b", "", "c"}, want: "a b  c\n"},
		{name: "options are not ours", args: []string{"ID", "ls", "-d", "/"}, want: "/\n"},
		{name: "env", args: []string{"--env", "A=1", "--env", "B=x y", "ID", "/bin/sh", "-c", "echo $A $B $HOME"}, want: "1 x y /root\n"},
		{name: "the container's env", args: []string{"ID", "/bin/sh", "-c", "echo $TERM"}, want: "xterm\n"},
		{name: "cwd", args: []string{"--cwd", "/home/user", "ID", "/bin/pwd"}, want: "/home/user\n"},
		{name: "uid and gid", args: []string{"--user", "1000:1001", "ID", "/bin/sh", "-c", "id -u; id -g"}, want: "1000\n1001\n"},
		{name: "uid", args: []string{"-u", "1000", "ID", "/bin/sh", "-c", "id -u; id -g"}, want: "1000\n0\n"},
		{name: "exit code", args: []string{"ID", "/bin/sh", "-c", "exit 200"}, code: 200},
		{name: "same namespaces", args: []string{"ID", "/bin/sh", "-c", "hostname; tr '\\0' ' ' < /proc/1/cmdline | head -c 10"}, want: hostname(t, c) + "\n/bin/sh -c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := append([]string{"exec"}, test.args...)
			for i := range line {
				line[i] = strings.ReplaceAll(line[i], "ID", c.id)
			}
			got := r.call(t, line...)
			if got.Out != test.want || got.Code != test.code || got.Err != "" {
				t.Errorf("%s, not exit %d and %q", got, test.code, test.want)
			}
		})
	}
	t.Run("stdin", func(t *testing.T) {
		got := r.callWith(t, func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(everyByte()) }, "exec", c.id, "/bin/sh", "-c", "cat; echo done >&2")
		if got.Out != everyByte() || got.Err != "done\n" {
			t.Errorf("cat: %s", got)
		}
	})
	t.Run("process", func(t *testing.T) { execProcess(t, c) })
	t.Run("unknown capability", func(t *testing.T) {
		cmd, log := r.command(t, "exec", "--cap", "CAP_FOO", c.id, "/bin/true")
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		if got := testutil.ReadFile(t, log); !strings.Contains(got, "ignoring unknown or unavailable capabilities: [CAP_FOO]") {
			t.Errorf("no warning in the log: %q", got)
		}
	})
	c.end(t)
}

func hostname(t testing.TB, c *container) string {
	t.Helper()
	var spec specs.Spec
	if err := json.Unmarshal([]byte(testutil.ReadFile(t, filepath.Join(c.bundle, "config.json"))), &spec); err != nil {
		t.Fatal(err)
	}
	return spec.Hostname
}

// execProcess is the way of engines, which may delete the file right after.
func execProcess(t *testing.T, c *container) {
	path := filepath.Join(t.TempDir(), "process.json")
	text, err := json.Marshal(specs.Process{
		User: specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{2000, 3000}},
		Args: []string{"sh", "-c", "id -u; id -G; pwd; env; exit 9"},
		Env:  []string{"PATH=/bin", "ONLY=this"},
		Cwd:  "/tmp",
	})
	if err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, path, string(text))
	p := c.execDetached(t, options{args: []string{"--process", path}})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(t); got != 9 {
		t.Errorf("exited %d, not 9", got)
	}
	want := []string{"1000", "1000 2000 3000", "/tmp", "PATH=/bin", "ONLY=this"}
	got := p.stdout.all(t)
	for _, line := range want {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q in %q", line, got)
		}
	}
	if strings.Contains(got, "TERM=") {
		t.Errorf("the container's environment got into a whole process: %q", got)
	}
}

// Engines signal an exec by its pid.
func TestExecSignals(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle)
		p := c.execDetached(t, options{}, "/bin/sh", "-c", `trap "exit 33" TERM; echo ready; `+forever)
		p.stdout.wait(t, "ready\n")
		p.kill(t, unix.SIGTERM)
		if got := p.wait(t); got != 33 {
			t.Errorf("exited %d after TERM, not 33", got)
		}
		p = c.execDetached(t, options{}, "/bin/sh", "-c", `echo ready; exec sleep 123456`)
		p.stdout.wait(t, "ready\n")
		p.kill(t, unix.SIGKILL)
		if got := p.wait(t); got != 137 {
			t.Errorf("exited %d after KILL, not 137", got)
		}
		eventually(t, patience, "the process inside is gone", func() bool {
			return !strings.Contains(c.exec(t, "/bin/ps").Out, "123456")
		})
		c.end(t)
	})
}

// An exec in the foreground stands for its process itself: what is sent to it
// reaches the process, and with it the process goes.
func TestExecForegroundSignals(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	for signal, want := range map[unix.Signal]int{unix.SIGTERM: 33, unix.SIGKILL: 137} {
		cmd, _ := r.command(t, "exec", c.id, "/bin/sh", "-c", `trap "exit 33" TERM; echo ready; while :; do sleep 123456 & wait $!; done`)
		read, write := pipe(t)
		cmd.Stdout = write
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		collect("stdout", read).wait(t, "ready\n")
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := testutil.ExitCode(cmd.ProcessState); got != want {
			t.Errorf("exited %d after %s, not %d", got, signal, want)
		}
		eventually(t, patience, "the shell inside is gone", func() bool {
			return !strings.Contains(c.exec(t, "/bin/ps").Out, "exit 33")
		})
	}
	c.end(t)
}

// The container never ends for an engine before its execs have.
func TestExecEndsWithTheContainer(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	c.stdout.wait(t, "ready\n")
	p := c.execDetached(t, options{}, "/bin/sleep", "1000")
	c.kill(t, "TERM")
	c.expect(t, 42)
	if got := p.wait(t); got != 137 {
		t.Errorf("the exec exited %d, not 137", got)
	}
	p.stdout.all(t)
	c.delete(t)
}

// An init that manages its cgroups itself leaves its own without processes: execs
// join init.
func TestExecBesideManagedCgroups(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.startNew(t, writable, everything, script(
		"set -e",
		"mkdir /sys/fs/cgroup/init",
		"echo $$ >/sys/fs/cgroup/init/cgroup.procs",
		"echo +memory +pids >/sys/fs/cgroup/cgroup.subtree_control",
		"echo ready",
		"exec sleep 1000",
	))
	c.stdout.wait(t, "ready\n")
	for _, user := range []string{"0", "1000"} {
		if got := r.call(t, "exec", "--user", user, c.id, "/bin/cat", "/proc/self/cgroup"); got.Code != 0 || got.Out != "0::/init\n" {
			t.Errorf("user %s: %s", user, got)
		}
	}
	c.end(t)
}

// exec works before start: engines may run health checks that early.
func TestExecInCreated(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.create(t, r.bundle(t, idle), options{})
	if got := c.exec(t, "/bin/echo", "early"); got.Out != "early\n" {
		t.Errorf("exec before start: %s", got)
	}
	c.end(t)
}

// What cannot be run is refused by a sentence that names it.
func TestExecRefusals(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	for _, test := range []struct {
		args []string
		want []string
	}{
		// 1.1 of runc says permission denied, 1.2 says what it is; both mean 126.
		{[]string{"ID", "/etc"}, []string{`exec: "/etc": `}},
		{[]string{"--cwd", "relative", "ID", "/bin/true"}, []string{"absolute"}},
		{[]string{"--user", "nosuch", "ID", "/bin/true"}, []string{"nosuch", "uid"}},
		{[]string{"--process", "/nosuch.json", "ID"}, []string{"/nosuch.json"}},
		{[]string{"--tty", "--detach", "ID", "/bin/true"}, []string{"console socket"}},
		{[]string{"--tty", "ID", "/bin/true"}, []string{"terminal", "leave out -t", "--console-socket"}},
		// conmon hands on what systemd has given it.
		{[]string{"--preserve-fds", "1", "ID", "/bin/true"}, []string{"--preserve-fds", "VM"}},
		{[]string{"--console-socket", "/nosuch.sock", "ID", "/bin/true"}, []string{"console", "socket"}},
	} {
		line := append([]string{"exec"}, test.args...)
		for i := range line {
			line[i] = strings.ReplaceAll(line[i], "ID", c.id)
		}
		// Nor has it a terminal where whoever runs the tests has one.
		detached := func(cmd *exec.Cmd) { cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} }
		message := refusal(t, r.callWith(t, detached, line...))
		for _, want := range test.want {
			if !strings.Contains(message, want) {
				t.Errorf("%v: %q does not say %q", test.args, message, want)
			}
		}
	}
	c.end(t)
}

// A failed exec leaves no pid file: conmon takes that for success.
func TestFailedExecLeavesNoPidFile(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	path := filepath.Join(t.TempDir(), "pid")
	r.refuse(t, "exec", "--detach", "--pid-file", path, c.id, "nosuch")
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("pid file after a failed exec: %v", err)
	}
	c.end(t)
}
