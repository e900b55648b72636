package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const (
	ctrImage     = "docker.io/library/busybox:latest"
	containerd16 = "containerd 1.6"
	containerd24 = "containerd 2.4"
)

// A ctr is containerd's own client, of one daemon, with one runtime.
type ctr struct {
	engine
	// client is its command line for this daemon.
	client []string
}

type ctrFeature struct {
	name   string
	try    func(t *testing.T, c ctr)
	except map[string]exception
}

// TestContainerd runs what ctr can do, with Debian's containerd and with a newer one.
func TestContainerd(t *testing.T) {
	var rows []feature
	for _, r := range ctrRows {
		rows = append(rows, feature{name: r.name, except: r.except})
	}
	table := newTable(rows, containerd16+"/runc", containerd16+"/vmruntime", containerd24+"/runc", containerd24+"/vmruntime")
	t.Run("with", func(t *testing.T) {
		for name, client := range map[string][]string{containerd16: {"/usr/bin/ctr"}, containerd24: startContainerd(t)} {
			t.Run(name, func(t *testing.T) {
				if client == nil {
					t.Skip("needs build/tools/containerd-v2*: run hack/containerd.sh")
				}
				t.Parallel()
				for _, runtime := range []string{"runc", "vmruntime"} {
					c := ctr{engine{name: name, runtime: runtime}, client}
					t.Run(runtime, func(t *testing.T) { column(t, c.engine, c.rows(), table) })
				}
			})
		}
	})
	table.compare(t, "containerd")
}

// rows are the features for this daemon and runtime.
func (c ctr) rows() []feature {
	var list []feature
	for _, r := range ctrRows {
		list = append(list, feature{name: r.name, except: r.except, try: func(t *testing.T, _ engine) { r.try(t, c) }})
	}
	return list
}

// startContainerd starts the newer containerd beside the other and returns its
// client's command line, or nil where it has not been built.
func startContainerd(t *testing.T) []string {
	t.Helper()
	tools, err := filepath.Glob(filepath.Join(checkout(), "build/tools/containerd-v2*"))
	if err != nil || len(tools) != 1 {
		return nil
	}
	const state = "/run/containerd2"
	config := filepath.Join(t.TempDir(), "config.toml")
	// Short paths, and a disk that carries overlays.
	testutil.WriteFile(t, config, fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = %q\n",
		"/var/lib/containerd/2", state, state+"/sock", "/var/lib/containerd/2/opt"))
	daemon := exec.Command(filepath.Join(tools[0], "containerd"), "-c", config)
	// It looks for its shim there first.
	daemon.Env = append(os.Environ(), "PATH="+tools[0]+":"+os.Getenv("PATH"))
	log := &collector{}
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd: %s", testutil.Abbreviate(log.text()))
		}
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	client := []string{filepath.Join(tools[0], "ctr"), "-a", state + "/sock"}
	until(t, "containerd answers", func() bool { return exec.Command(client[0], append(client[1:], "version")...).Run() == nil })
	host(t, append(client, "images", "import", filepath.Join(checkout(), "build/images/busybox.tar"))...)
	return client
}

// call runs a command of ctr to its end.
func (c ctr) call(t testing.TB, args ...string) result {
	t.Helper()
	return finish(t, command(t, c.line(args...)...))
}

func (c ctr) line(args ...string) []string {
	return append(append([]string{}, c.client...), args...)
}

func (c ctr) must(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSuffix(host(t, c.line(args...)...), "\n")
}

// newName names a container that goes with the test.
func (c ctr) newName(t testing.TB) string {
	t.Helper()
	name := newID()
	t.Cleanup(func() {
		if t.Failed() {
			c.call(t, "task", "ls")
		}
		c.call(t, "task", "rm", "-f", name)
		c.call(t, "container", "rm", name)
	})
	return name
}

// runLine is ctr run: options, and what to run.
func (c ctr) runLine(name string, options []string, line ...string) []string {
	if c.runtime == "vmruntime" {
		options = append([]string{"--runc-binary", program()}, options...)
	}
	return append(append(append([]string{"run"}, options...), ctrImage, name), line...)
}

// try runs a container in the foreground.
func (c ctr) try(t testing.TB, options []string, line ...string) result {
	t.Helper()
	return c.call(t, c.runLine(c.newName(t), append(options, "--rm"), line...)...)
}

// run is try for a script of a shell that has to succeed.
func (c ctr) run(t testing.TB, script string, options ...string) string {
	t.Helper()
	r := c.try(t, options, "sh", "-c", script)
	if r.Code != 0 {
		t.Fatalf("ctr run: %s", r)
	}
	return strings.TrimSuffix(r.Out, "\n")
}

// start runs a script in the background, with its output in a file.
func (c ctr) start(t testing.TB, script string, options ...string) (name, log string) {
	t.Helper()
	name, log = c.newName(t), filepath.Join(t.TempDir(), "log")
	c.must(t, c.runLine(name, append(options, "-d", "--log-uri", "file://"+log), "sh", "-c", script)...)
	return name, log
}

// idle starts a container that waits to be ended.
func (c ctr) idle(t testing.TB, options ...string) string {
	t.Helper()
	name, log := c.start(t, forever, options...)
	logHas(t, log, "ready")
	return name
}

func logHas(t testing.TB, log, text string) {
	t.Helper()
	until(t, fmt.Sprintf("%q in %s", text, log), func() bool {
		got, _ := os.ReadFile(log)
		return strings.Contains(string(got), text)
	})
}

// status is that of a task, such as RUNNING, and empty where there is none.
func (c ctr) status(t testing.TB, name string) string {
	t.Helper()
	for line := range strings.Lines(c.must(t, "task", "ls")) {
		if words := strings.Fields(line); words[0] == name {
			return words[2]
		}
	}
	return ""
}

func (c ctr) exec(t testing.TB, name, script string, options ...string) result {
	t.Helper()
	return c.call(t, append(append([]string{"task", "exec", "--exec-id", newID()}, options...), name, "sh", "-c", script)...)
}
