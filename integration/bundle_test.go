package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A change makes one thing different from the configuration that the runtime's
// own spec command writes.
type change func(*specs.Spec)

// bundle makes a bundle whose process is /bin/true of a busybox root that all
// tests share, read-only; changes come on top.
func (r runtime) bundle(t testing.TB, changes ...change) string {
	t.Helper()
	dir := t.TempDir()
	r.must(t, "spec", "--bundle", dir)
	root := sharedRootfs(t)
	changes = append([]change{terminal(false), rootfs(root), args("/bin/true")}, changes...)
	editSpec(t, dir, changes...)
	return dir
}

// editSpec changes the config.json of a bundle.
func editSpec(t testing.TB, dir string, changes ...change) {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	var spec specs.Spec
	if err := json.Unmarshal([]byte(testutil.ReadFile(t, path)), &spec); err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		c(&spec)
	}
	text, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, path, string(text))
}

func args(a ...string) change { return func(s *specs.Spec) { s.Process.Args = a } }

// script has the container run a shell script.
func script(lines ...string) change {
	return args("/bin/sh", "-c", strings.Join(lines, "\n"))
}

func terminal(on bool) change { return func(s *specs.Spec) { s.Process.Terminal = on } }

func rootfs(path string) change { return func(s *specs.Spec) { s.Root.Path = path } }

func writable(s *specs.Spec) { s.Root.Readonly = false }

func bind(source, destination string, options ...string) change {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{
			Type: "bind", Source: source, Destination: destination, Options: append([]string{"rbind"}, options...),
		})
	}
}

func capabilities(list ...string) change {
	return func(s *specs.Spec) {
		s.Process.Capabilities = &specs.LinuxCapabilities{
			Bounding: list, Effective: list, Permitted: list, Inheritable: list, Ambient: list,
		}
	}
}

func annotate(key, value string) change {
	return func(s *specs.Spec) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
	}
}

// idle is a process that runs until it is told to end, and says when it is
// ready to be told: PID 1 ignores every signal that it has no handler for. TERM
// makes it exit 42.
var idle = script(`trap "exit 42" TERM`, `echo ready`, forever)

// forever lets a shell's traps act at once.
const forever = `while :; do sleep 1000 & wait $!; done`

var shared struct {
	once sync.Once
	dir  string
}

// sharedRootfs is a root filesystem that no test writes to.
func sharedRootfs(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		dir := filepath.Join(scratch, "rootfs")
		makeRootfs(t, dir)
		shared.dir = dir
	})
	if shared.dir == "" {
		t.Skip("no root filesystem: see the first test that needed it")
	}
	return shared.dir
}

// newRootfs is a root filesystem that the test may write to.
func newRootfs(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	makeRootfs(t, dir)
	return dir
}

// makeRootfs makes a root filesystem of busybox and its applets.
func makeRootfs(t testing.TB, dir string) {
	t.Helper()
	const busybox = "/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	for _, d := range []string{"bin", "dev", "etc", "home/user", "proc", "root", "sys", "tmp", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	body, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), body, 0o755); err != nil {
		t.Fatal(err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(applets)) {
		if name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	testutil.WriteFile(t, filepath.Join(dir, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")
	testutil.WriteFile(t, filepath.Join(dir, "etc/group"), "root:x:0:\nuser:x:1000:\n")
}
