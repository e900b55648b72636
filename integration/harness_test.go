// Package integration drives the built program from outside, as engines do.
//
// Every command line is logged as it can be pasted into a shell. VMRUNTIME
// names another program than the bin/vmruntime of this checkout. RUNTIME=runc
// runs what is not about VMs against runc: it shows that the tests ask for what
// engines get today.
package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// patience is how long anything may take that happens by itself. It only ends a
// test that fails: a loaded machine without KVM is slow.
const patience = 2 * time.Minute

// scratch is a directory for the whole run.
var scratch string

const scratchPrefix = "vmruntime-test-"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", scratchPrefix); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	if err := adopt(true); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	unignoreSignals()
	if err := keepDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stopLibvirtd()
	return m.Run()
}

// adopt has what a command leaves running become our child, and its exit status
// ours to read, as containerd's shim and conmon do.
func adopt(on bool) error {
	value := uintptr(0)
	if on {
		value = 1
	}
	return os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, value, 0, 0, 0))
}

// unignoreSignals gives signals back their meaning that the caller ignores, as
// nohup and a shell's background jobs do: processes hand that down.
func unignoreSignals() {
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// keepDescriptors keeps what the caller of the tests left open, such as a CI's
// log or a make's job server, from every program started here: runc before 1.1.12
// hands it on to the container.
func keepDescriptors() error {
	const afterStderr = 3
	return os.NewSyscallError("close_range", unix.CloseRange(afterStderr, ^uint(0), unix.CLOSE_RANGE_CLOEXEC))
}

// A runtime is a program with runc's command line, and how it is called.
type runtime struct {
	// name is short: runc, the libvirt driver, or cold.
	name string
	// uri is the libvirt driver.
	uri  string
	path string
	// root is --root.
	root string
	// options are further ones before the command.
	options []string
	// patience is how long a command may take, if not patience.
	patience time.Duration
}

const (
	runcPath  = "/usr/bin/runc"
	uriEmbed  = "qemu:///embed"
	uriSystem = "qemu:///system"
	// Keys of config.toml.
	uriVariable       = "libvirt_uri"
	templatesVariable = "templates"
	transportVariable = "transport"
)

// subject is the runtime that the tests are about, with its defaults.
func subject(t testing.TB) runtime {
	t.Helper()
	needRoot(t)
	if os.Getenv("RUNTIME") == "runc" {
		return reference(t)
	}
	return warm(t, uriEmbed)
}

// warm is the runtime whose machines start as clones, as a user's do who has run
// a container before.
func warm(t testing.TB, uri string) runtime {
	t.Helper()
	r := vmruntime(t, map[string]string{uriVariable: uri, templatesVariable: "built"})
	buildTemplate(t, r)
	return r
}

// cold is the runtime whose machines boot.
func cold(t testing.TB) runtime {
	t.Helper()
	r := vmruntime(t, map[string]string{uriVariable: uriEmbed, templatesVariable: "off"})
	r.name = "cold"
	return r
}

// overVirtiofs is the runtime with the transport that is not the default.
func overVirtiofs(t testing.TB, uri string) runtime {
	t.Helper()
	r := vmruntime(t, map[string]string{uriVariable: uri, transportVariable: "virtiofs"})
	r.name += "-virtiofs"
	return r
}

// buildTemplate takes a moment where there is a sound one: another test may have removed it.
func buildTemplate(t testing.TB, r runtime) {
	t.Helper()
	r.must(t, "template", "build")
}

// reference is the runtime that engines know.
func reference(t testing.TB) runtime {
	t.Helper()
	needRoot(t)
	if _, err := os.Stat(runcPath); err != nil {
		t.Skip("needs runc: ", err)
	}
	return runtime{name: "runc", path: runcPath, root: filepath.Join(scratch, "runc")}
}

// machines is subject where the test needs a machine of its own.
func machines(t testing.TB) runtime {
	t.Helper()
	needVM(t)
	return subject(t)
}

// needVM skips a test that is about the machine around the container.
func needVM(t testing.TB) {
	t.Helper()
	if os.Getenv("RUNTIME") == "runc" {
		t.Skip("needs a runtime with VMs: RUNTIME is runc")
	}
}

// vmruntime is the built program with these values in its config.toml. Templates
// are off unless they are among them.
func vmruntime(t testing.TB, config map[string]string) runtime {
	t.Helper()
	path := program(t)
	var text strings.Builder
	name := "config"
	if config[templatesVariable] == "" {
		config[templatesVariable] = "off"
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		fmt.Fprintf(&text, "%s = %q\n", key, config[key])
		name += "-" + filepath.Base(config[key])
	}
	file := filepath.Join(scratch, name+".toml")
	testutil.WriteFile(t, file, text.String())
	return runtime{
		name:    filepath.Base(config[uriVariable]),
		uri:     config[uriVariable],
		path:    path,
		root:    filepath.Join(scratch, "root"),
		options: []string{"--config", file},
	}
}

// program is the built program. That it is missing is a failure: nothing else
// could be.
func program(t testing.TB) string {
	t.Helper()
	path := os.Getenv("VMRUNTIME")
	if path == "" {
		path = filepath.Join(checkout(t), "bin", "vmruntime")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("nothing to test (make build guest): ", err)
	}
	return path
}

// checkout is the root of the source tree: tests run in their package's
// directory.
func checkout(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers are made of mounts and namespaces")
	}
}

// eachDriver runs a test under both libvirt drivers and with a machine that
// boots, or once with runc.
func eachDriver(t *testing.T, test func(t *testing.T, r runtime)) {
	t.Helper()
	first := subject(t)
	if !first.isVM() {
		eachOf(t, test, first)
		return
	}
	eachOf(t, test, first, warm(t, uriSystem), cold(t))
}

// eachTransport runs a test that is about files under both libvirt drivers with
// both transports, or once with runc.
func eachTransport(t *testing.T, test func(t *testing.T, r runtime)) {
	t.Helper()
	first := subject(t)
	if !first.isVM() {
		eachOf(t, test, first)
		return
	}
	eachOf(t, test, first, warm(t, uriSystem), overVirtiofs(t, uriEmbed), overVirtiofs(t, uriSystem))
}

func eachOf(t *testing.T, test func(t *testing.T, r runtime), runtimes ...runtime) {
	t.Helper()
	var libvirtd error
	if runtimes[0].isVM() {
		libvirtd = startLibvirtd(t)
	}
	nothingLeft(t)
	for _, r := range runtimes {
		t.Run(r.name, func(t *testing.T) {
			if r.uri == uriSystem && libvirtd != nil {
				t.Skip("needs libvirtd: ", libvirtd)
			}
			t.Parallel()
			test(t, r)
		})
	}
}

func (r runtime) isVM() bool { return r.path != runcPath }

// A result is what one command did.
type result struct {
	Code int
	Out  string
	Err  string
	// Message is the error in the log, where engines look for it.
	Message string
}

var logs atomic.Int64

// command is one call of the runtime, with its log file, logged. It is killed
// when the test's patience is at its end.
func (r runtime) command(t testing.TB, args ...string) (*exec.Cmd, string) {
	t.Helper()
	log := filepath.Join(scratch, fmt.Sprintf("log-%d.json", logs.Add(1)))
	line := append([]string{"--root", r.root, "--log", log, "--log-format", "json"}, r.options...)
	line = append(line, args...)
	limit := r.patience
	if limit == 0 {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	t.Logf("$ %s", testutil.ShellLine(append([]string{r.path}, line...)...))
	cmd := exec.CommandContext(ctx, r.path, line...)
	// What outlives a killed command may hold its pipes.
	cmd.WaitDelay = 5 * time.Second
	return cmd, log
}

// call runs a command to its end.
func (r runtime) call(t testing.TB, args ...string) result {
	t.Helper()
	return r.callWith(t, nil, args...)
}

// callWith runs a command to its end, changed by setup. Output that setup does
// not redirect is read until nobody holds it any more, as engines read it.
func (r runtime) callWith(t testing.TB, setup func(*exec.Cmd), args ...string) result {
	t.Helper()
	cmd, log := r.command(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if setup != nil {
		setup(cmd)
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", args[0], err, stderr.String())
	}
	result := result{Code: testutil.ExitCode(cmd.ProcessState), Out: stdout.String(), Err: stderr.String(), Message: logged(t, log)}
	t.Logf("%s: %s", args[0], result)
	return result
}

func (r result) String() string {
	text := fmt.Sprintf("exit %d", r.Code)
	for _, s := range []struct{ name, text string }{{"stdout", r.Out}, {"stderr", r.Err}, {"log", r.Message}} {
		if s.text != "" {
			text += fmt.Sprintf(", %s %s", s.name, testutil.Abbreviate(s.text))
		}
	}
	return text
}

// logged is the one error of a log file. It fails the test where an engine
// would not understand the file: podman reads it as a single object, containerd
// wants nothing but objects and takes the last one of level error.
func logged(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	message, found := "", 0
	for line := range strings.Lines(string(text)) {
		var entry struct{ Level, Msg, Time string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339, entry.Time); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		if entry.Level == "error" {
			message = entry.Msg
			found++
		}
	}
	if found > 1 {
		t.Errorf("%d errors in one log: %s", found, text)
	}
	return message
}

// must runs a command that has to succeed and returns its output.
func (r runtime) must(t testing.TB, args ...string) string {
	t.Helper()
	result := r.call(t, args...)
	if result.Code != 0 {
		t.Fatalf("%s: %s", strings.Join(args, " "), result)
	}
	return result.Out
}

// refuse runs a command that has to fail and returns its one sentence, which
// has to be in the log and on stderr alike.
func (r runtime) refuse(t testing.TB, args ...string) string {
	t.Helper()
	return refusal(t, r.call(t, args...))
}

func refusal(t testing.TB, r result) string {
	t.Helper()
	switch {
	case r.Code == 0:
		t.Errorf("it succeeded: %s", r)
	case r.Message == "":
		t.Errorf("no error in the log: %s", r)
	case !strings.Contains(r.Err, r.Message):
		t.Errorf("stderr lacks the log's error: %s", r)
	}
	return r.Message
}

var (
	ids atomic.Int64
	// idPrefix tells the containers of this run from those of another.
	idPrefix = fmt.Sprintf("t%d-", os.Getpid())
)

// newID names a container after the test. Only one whose test has failed is
// deleted with it: otherwise this would hide what the test leaves behind.
func (r runtime) newID(t testing.TB) string {
	t.Helper()
	name := regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-")
	// Long names come from tables; a domain's name and a socket's path are short.
	id := fmt.Sprintf("%s%d-%s", idPrefix, ids.Add(1), name[:min(len(name), 40)])
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			showShim(t, id)
			r.call(t, "delete", "--force", id)
		}
	})
	return id
}

// showShim adds to a failed test what the container's shim has to say.
func showShim(t testing.TB, id string) {
	t.Helper()
	pid, dir := shimOf(id)
	if pid == 0 {
		return
	}
	if text, err := os.ReadFile(filepath.Join(dir, "shim.log")); err == nil && len(text) > 0 {
		t.Logf("%s:\n%s", filepath.Join(dir, "shim.log"), text)
	}
}

// eventually waits for what no event tells.
func eventually(t testing.TB, within time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// receive takes one value from a channel, with patience.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("never happened: ", what)
		panic("unreachable")
	}
}

// run runs a tool of the host to its end.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	t.Logf("$ %s", testutil.ShellLine(append([]string{name}, args...)...))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
