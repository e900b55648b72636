// Package engines has real engines run containers on vmruntime, and on runc beside
// it.
//
// Outside of hack/engines.sh the tests start themselves again inside of it, so that
// go test is all they need. Every command line is logged as it can be pasted into a
// shell there.
package engines

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// patience is how long anything may take that happens by itself. It only ends a
// test that fails: a loaded machine without KVM is slow.
const patience = 3 * time.Minute

// inEngines is there while hack/engines.sh runs.
const inEngines = "/run/engines"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// start goes into hack/engines.sh, or makes ready what is there.
func start() error {
	if _, err := os.Stat(inEngines); err != nil {
		return enter()
	}
	if err := configure(); err != nil {
		return err
	}
	// Later starts do not wait for it, and none builds one beside them.
	out, err := exec.Command(program(), "template", "build").CombinedOutput()
	if err != nil {
		return fmt.Errorf("template build: %w: %s", err, out)
	}
	return nil
}

func enter() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	script := filepath.Join(checkout(), "hack", "engines.sh")
	return syscall.Exec(script, append([]string{script, self}, os.Args[1:]...), os.Environ())
}

// configure is for every container: /etc is not the machine's here.
func configure() error {
	if err := os.MkdirAll("/etc/vmruntime", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/etc/vmruntime/config.toml", []byte("templates = \"built\"\n"), 0o600)
}

// checkout is the root of the source tree: tests run in their package's directory.
func checkout() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}

func program() string { return filepath.Join(checkout(), "bin", "vmruntime") }

// An engine is a command line that runs containers, with one runtime.
type engine struct {
	// name is docker, podman, or a version of containerd.
	name string
	// runtime is runc or vmruntime.
	runtime string
	// box is a container of forever that rows share. They leave it as it is.
	box string
}

// A result is what one command did.
type result struct {
	Code int
	Out  string
	Err  string
}

func (r result) String() string {
	return fmt.Sprintf("exit %d, stdout %s, stderr %s", r.Code, testutil.Abbreviate(r.Out), testutil.Abbreviate(r.Err))
}

// line is the engine's command line for its arguments.
func (e engine) line(args ...string) []string {
	if e.name == "podman" {
		return append([]string{"podman", "--runtime", e.runtime}, args...)
	}
	return append([]string{e.name}, args...)
}

// command is a call of a program, logged. It is killed when patience is at its end.
func command(t testing.TB, line ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	t.Logf("$ %s", testutil.ShellLine(line...))
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// finish runs a command to its end.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v: %s", cmd.Path, err, stderr.String())
	}
	r := result{Code: testutil.ExitCode(cmd.ProcessState), Out: stdout.String(), Err: stderr.String()}
	t.Log(r)
	return r
}

// host runs a program of the host, which has to succeed.
func host(t testing.TB, line ...string) string {
	t.Helper()
	r := finish(t, command(t, line...))
	if r.Code != 0 {
		t.Fatalf("%s: %s", testutil.ShellLine(line...), r)
	}
	return r.Out
}

// call runs an engine's command to its end.
func (e engine) call(t testing.TB, args ...string) result {
	t.Helper()
	return finish(t, command(t, e.line(args...)...))
}

// must is call for what has to succeed. It returns stdout without the last newline.
func (e engine) must(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSuffix(host(t, e.line(args...)...), "\n")
}

// newName names a container that goes with the test.
func (e engine) newName(t testing.TB) string {
	t.Helper()
	name := newID()
	t.Cleanup(func() {
		if t.Failed() {
			e.explain(t, name)
		}
		e.call(t, "rm", "-f", "-v", name)
	})
	return name
}

// newID is a name of this run that nothing else has.
func newID() string { return fmt.Sprintf("t%d-%d", os.Getpid(), ids.Add(1)) }

var ids atomic.Int64

// explain adds to a failed test what the engine knows of a container.
func (e engine) explain(t testing.TB, name string) {
	e.call(t, "inspect", "--format", "{{json .State}}", name)
	e.call(t, "logs", "--tail", "20", name)
}

// runLine is "run" or "create" with the runtime and a name for what t needs.
func (e engine) runLine(t testing.TB, verb, name string, args ...string) []string {
	t.Helper()
	line := []string{verb, "--name", name}
	if e.name == "docker" {
		line = append(line, "--runtime", e.runtime)
	}
	return append(line, args...)
}

// try runs a container in the foreground: options, image, command.
func (e engine) try(t testing.TB, args ...string) result {
	t.Helper()
	return e.call(t, e.runLine(t, "run", e.newName(t), args...)...)
}

// run is try for what has to succeed.
func (e engine) run(t testing.TB, args ...string) string {
	t.Helper()
	return e.must(t, e.runLine(t, "run", e.newName(t), args...)...)
}

// start runs a container in the background and returns its name.
func (e engine) start(t testing.TB, args ...string) string {
	t.Helper()
	name := e.newName(t)
	e.must(t, e.runLine(t, "run", name, append([]string{"-d"}, args...)...)...)
	return name
}

// forever is a process that ends on SIGTERM and waits for nothing else.
const forever = `trap "exit 0" TERM; echo ready; while :; do sleep 1000 & wait; done`

// idle starts a container that waits to be ended, with these options.
func (e engine) idle(t testing.TB, options ...string) string {
	t.Helper()
	return e.start(t, append(options, "busybox", "sh", "-c", forever)...)
}

// exec runs a command line of a shell in a container.
func (e engine) exec(t testing.TB, container, script string) string {
	t.Helper()
	return e.must(t, "exec", container, "sh", "-c", script)
}

// inspect evaluates a template.
func (e engine) inspect(t testing.TB, container, format string) string {
	t.Helper()
	return e.must(t, "inspect", "--format", format, container)
}

// until waits for what no event tells.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// logsHave waits for a text in a container's output.
func (e engine) logsHave(t testing.TB, container, text string) {
	t.Helper()
	until(t, fmt.Sprintf("%q in the logs of %s", text, container), func() bool {
		out, err := exec.Command(e.line("logs", container)[0], e.line("logs", container)[1:]...).CombinedOutput()
		return err == nil && strings.Contains(string(out), text)
	})
}

func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func contains(t testing.TB, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %q not in %q", what, w, got)
		}
	}
}
