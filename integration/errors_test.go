package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A document is config.json as JSON sees it: what is broken does not fit into
// the specification's types.
type document map[string]any

func (d document) set(value any, path ...string) {
	object := map[string]any(d)
	for _, key := range path[:len(path)-1] {
		object = object[key].(map[string]any)
	}
	object[path[len(path)-1]] = value
}

func (d document) remove(path ...string) {
	object := map[string]any(d)
	for _, key := range path[:len(path)-1] {
		object = object[key].(map[string]any)
	}
	delete(object, path[len(path)-1])
}

// add appends to the list at path.
func (d document) add(value any, path ...string) {
	object := map[string]any(d)
	for _, key := range path[:len(path)-1] {
		object = object[key].(map[string]any)
	}
	list, _ := object[path[len(path)-1]].([]any)
	object[path[len(path)-1]] = append(list, value)
}

func (d document) namespaces(keep func(kind string) bool) {
	linux := d["linux"].(map[string]any)
	var kept []any
	for _, n := range linux["namespaces"].([]any) {
		if keep(n.(map[string]any)["type"].(string)) {
			kept = append(kept, n)
		}
	}
	linux["namespaces"] = kept
}

type object = map[string]any

// Each is refused in create by one sentence that names the field.
var brokenConfigs = []struct {
	name  string
	spoil func(document)
	want  []string
}{
	{"root missing", func(d document) { d.remove("root") }, []string{"root"}},
	{"root.path missing", func(d document) { d.remove("root", "path") }, []string{"root.path"}},
	{"root.path does not exist", func(d document) { d.set("/no/such/root", "root", "path") }, []string{"root.path", "/no/such/root"}},
	{"root.path a file", func(d document) { d.set("/etc/passwd", "root", "path") }, []string{"root.path", "/etc/passwd", "directory"}},
	{"process missing", func(d document) { d.remove("process") }, []string{"process"}},
	{"args empty", func(d document) { d.set([]string{}, "process", "args") }, []string{"process.args"}},
	{"args missing", func(d document) { d.remove("process", "args") }, []string{"process.args"}},
	{"args wrong", func(d document) { d.set("true", "process", "args") }, []string{"process.args", "array", "string"}},
	{"cwd missing", func(d document) { d.remove("process", "cwd") }, []string{"process.cwd"}},
	{"cwd relative", func(d document) { d.set("tmp", "process", "cwd") }, []string{"process.cwd", `"tmp"`, "absolute"}},
	{"uid negative", func(d document) { d.set(-1, "process", "user", "uid") }, []string{"process.user.uid", "-1"}},
	{"uid a string", func(d document) { d.set("root", "process", "user", "uid") }, []string{"process.user.uid", "string"}},
	{"terminal a string", func(d document) { d.set("yes", "process", "terminal") }, []string{"process.terminal", "true or false"}},
	{"env wrong", func(d document) { d.set(object{"A": "b"}, "process", "env") }, []string{"process.env"}},
	{"rlimit unknown", func(d document) {
		d.set([]any{object{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}}, "process", "rlimits")
	}, []string{"process.rlimits[0]", "RLIMIT_NOSUCH"}},
	{"version missing", func(d document) { d.remove("ociVersion") }, []string{"ociVersion"}},
	{"version unknown", func(d document) { d.set("2.0.0", "ociVersion") }, []string{"ociVersion", "2.0.0"}},
	{"version nonsense", func(d document) { d.set("new", "ociVersion") }, []string{"ociVersion", "new"}},
	{"version a number", func(d document) { d.set(1, "ociVersion") }, []string{"ociVersion", "string"}},
	{"linux a string", func(d document) { d.set("x", "linux") }, []string{"linux", "object", "string"}},
	{"mounts an object", func(d document) { d.set(object{}, "mounts") }, []string{"mounts", "array"}},
	{"mount without destination", func(d document) { d.add(object{"type": "tmpfs", "source": "tmpfs"}, "mounts") }, []string{"mounts[", "destination"}},
	{"bind without source", func(d document) {
		d.add(object{"type": "bind", "destination": "/mnt", "options": []string{"bind"}}, "mounts")
	}, []string{"mounts[", "source"}},
	{"bind of nothing", func(d document) {
		d.add(object{"type": "bind", "destination": "/mnt", "source": "/no/such/source", "options": []string{"bind"}}, "mounts")
	}, []string{"mounts[", "source", "/no/such/source"}},
	{"bind of a device", func(d document) {
		d.add(object{"type": "bind", "destination": "/mnt", "source": "/dev/null", "options": []string{"bind"}}, "mounts")
	}, []string{"mounts[", "source", "/dev/null", "device"}},
	{"hook relative", func(d document) {
		d.set(object{"prestart": []any{object{"path": "hook"}}}, "hooks")
	}, []string{"hooks.prestart[0].path", `"hook"`, "absolute"}},
	{"namespace twice", func(d document) { d.add(object{"type": "pid"}, "linux", "namespaces") }, []string{"linux.namespaces", "pid"}},
	{"seccomp action unknown", func(d document) {
		d.set(object{"defaultAction": "SCMP_ACT_NOSUCH"}, "linux", "seccomp")
	}, []string{"linux.seccomp", "SCMP_ACT_NOSUCH"}},
}

// What would be lost silently in a VM is refused by a sentence that says so.
var foreignConfigs = []struct {
	name  string
	spoil func(document)
	want  []string
}{
	{"host network", func(d document) { d.namespaces(func(kind string) bool { return kind != "network" }) }, []string{"linux.namespaces", "host's network"}},
	{"host network by path", func(d document) {
		d.namespaces(func(kind string) bool { return kind != "network" })
		d.add(object{"type": "network", "path": "/proc/self/ns/net"}, "linux", "namespaces")
	}, []string{"linux.namespaces", "host's network"}},
	{"network of nobody", func(d document) {
		d.namespaces(func(kind string) bool { return kind != "network" })
		d.add(object{"type": "network", "path": "/run/netns/nosuch"}, "linux", "namespaces")
	}, []string{"linux.namespaces", "/run/netns/nosuch"}},
	{"host pid", func(d document) { d.namespaces(func(kind string) bool { return kind != "pid" }) }, []string{"linux.namespaces", "host's processes"}},
	{"host ipc", func(d document) { d.namespaces(func(kind string) bool { return kind != "ipc" }) }, []string{"linux.namespaces", "host's IPC"}},
	{"host uts", func(d document) { d.namespaces(func(kind string) bool { return kind != "uts" }) }, []string{"linux.namespaces", "host's name"}},
	{"pid by path", func(d document) {
		d.namespaces(func(kind string) bool { return kind != "pid" })
		d.add(object{"type": "pid", "path": "/proc/self/ns/pid"}, "linux", "namespaces")
	}, []string{"linux.namespaces", "pid", "VM"}},
	{"no namespaces", func(d document) { d.remove("linux", "namespaces") }, []string{"linux.namespaces"}},
	{"user namespace without mappings", func(d document) { d.add(object{"type": "user"}, "linux", "namespaces") }, []string{"linux.uidMappings", "user namespace"}},
	{"network devices", func(d document) { d.set(object{"eth0": object{}}, "linux", "netDevices") }, []string{"linux.netDevices", "VM"}},
	{"device of the host", func(d document) {
		// The first terminal, which any kernel with a console has.
		d.add(object{"path": "/dev/tty0", "type": "c", "major": 4, "minor": 0}, "linux", "devices")
	}, []string{"linux.devices[0]", "/dev/tty0", "VM"}},
	{"id-mapped mount", func(d document) {
		d.add(object{"type": "bind", "destination": "/mnt", "source": "/etc", "options": []string{"bind"},
			"uidMappings": []any{object{"containerID": 0, "hostID": 1000, "size": 1}}}, "mounts")
	}, []string{"mounts[", "uidMappings", "VM"}},
	{"hook inside without time", func(d document) {
		d.set(object{"startContainer": []any{object{"path": "/bin/true", "timeout": 0}}}, "hooks")
	}, []string{"hooks.startContainer[0].timeout", "0"}},
	{"intelRdt", func(d document) { d.set(object{"closID": "x"}, "linux", "intelRdt") }, []string{"linux.intelRdt", "VM"}},
}

func TestBrokenConfig(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	for _, test := range append(brokenConfigs, foreignConfigs...) {
		t.Run(test.name, func(t *testing.T) {
			bundle := r.bundle(t)
			spoil(t, bundle, test.spoil)
			checkRefusal(t, r.tryCreate(t, bundle), test.want...)
		})
	}
}

// checkRefusal wants one sentence that holds all of these texts and none that
// engines would misread.
func checkRefusal(t testing.TB, r result, want ...string) {
	t.Helper()
	message := refusal(t, r)
	for _, text := range want {
		if !strings.Contains(message, text) {
			t.Errorf("%q does not say %q", message, text)
		}
	}
	if strings.Contains(strings.TrimSpace(message), "\n") {
		t.Errorf("more than one line: %q", message)
	}
	for _, text := range []string{"no such file or directory", "permission denied", "executable file not found", "is a directory"} {
		if strings.Contains(message, text) {
			t.Errorf("%q has a text by which engines choose the exit codes 126 and 127", message)
		}
	}
	if r.Out != "" {
		t.Errorf("it wrote to the container's stdout: %q", r.Out)
	}
}

func spoil(t testing.TB, bundle string, how func(document)) {
	t.Helper()
	path := filepath.Join(bundle, "config.json")
	var d document
	if err := json.Unmarshal([]byte(testutil.ReadFile(t, path)), &d); err != nil {
		t.Fatal(err)
	}
	how(d)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, path, string(text))
}

func TestConfigThatIsNoConfig(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"empty":             {"", []string{"config.json", "empty"}},
		"not JSON":          {"{\n  \"ociVersion\": \"1.0.2\",\n  root\n}", []string{"config.json", "line 3", "not JSON"}},
		"cut off":           {`{"ociVersion": "1.0.2"`, []string{"config.json", "not JSON"}},
		"a list":            {`[]`, []string{"config.json", "object"}},
		"null":              {`null`, []string{"config.json", "object"}},
		"two objects":       {`{} {}`, []string{"config.json", "not JSON"}},
		"garbage":           {"\x7fELF\x00\x01", []string{"config.json", "not JSON"}},
		"nothing but empty": {`{}`, []string{"config.json", "ociVersion"}},
	} {
		t.Run(name, func(t *testing.T) {
			bundle := r.bundle(t)
			testutil.WriteFile(t, filepath.Join(bundle, "config.json"), test.text)
			checkRefusal(t, r.tryCreate(t, bundle), test.want...)
		})
	}
	t.Run("missing", func(t *testing.T) {
		checkRefusal(t, r.tryCreate(t, t.TempDir()), "config.json")
	})
	t.Run("no bundle", func(t *testing.T) {
		checkRefusal(t, r.tryCreate(t, "/no/such/bundle"), "/no/such/bundle")
	})
}

// Descriptors of the host end at the VM.
func TestInheritedDescriptorsAreRefused(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	t.Run("preserve-fds", func(t *testing.T) {
		checkRefusal(t, r.tryCreate(t, r.bundle(t), "--preserve-fds", "1"), "--preserve-fds", "VM")
	})
	t.Run("LISTEN_FDS", func(t *testing.T) {
		// As systemd does it: LISTEN_PID says whom they are for.
		result := r.callWith(t, func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh"}, cmd.Args...)
			cmd.Path = "/bin/sh"
		}, "run", "--bundle", r.bundle(t), r.newID(t))
		checkRefusal(t, result, "LISTEN_FDS", "VM")
	})
}

// run fails as create does, and leaves as little.
func TestRunRefuses(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	bundle := r.bundle(t)
	spoil(t, bundle, func(d document) { d.set("tmp", "process", "cwd") })
	checkRefusal(t, r.call(t, "run", "--bundle", bundle, r.newID(t)), "process.cwd")
	message := r.refuse(t, "run", "--bundle", r.bundle(t, args("nosuch")), r.newID(t))
	if want := `exec: "nosuch": executable file not found in $PATH`; !strings.Contains(message, want) {
		t.Errorf("%q does not say %q", message, want)
	}
}

// Missing executables are found in create, before anything is told to run.
func TestMissingExecutable(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	for executable, want := range map[string]string{
		"nosuch":      `exec: "nosuch": executable file not found in $PATH`,
		"/etc/passwd": `exec: "/etc/passwd": permission denied`,
		"/no/such":    `exec: "/no/such": stat /no/such: no such file or directory`,
	} {
		message := refusal(t, r.tryCreate(t, r.bundle(t, args(executable))))
		if !strings.Contains(message, want) {
			t.Errorf("%q does not say %q", message, want)
		}
	}
}

// A failed create leaves no pid file for the engine to trust.
func TestFailedCreateLeavesNoPidFile(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	path := filepath.Join(t.TempDir(), "pid")
	refusal(t, r.tryCreate(t, r.bundle(t, args("nosuch")), "--pid-file", path))
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("pid file after a failed create: %v", err)
	}
}

// The destinations of mounts are looked up inside the root: links that an image
// holds lead nowhere else.
func TestLinksStayInTheRoot(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	root, outside := newRootfs(t), t.TempDir()
	testutil.WriteFile(t, filepath.Join(outside, "untouched"), "before")
	source := t.TempDir()
	testutil.WriteFile(t, filepath.Join(source, "mounted"), "from the mount")
	for name, target := range map[string]string{
		"absolute": "/home",
		"outside":  outside,
		"upwards":  strings.Repeat("../", 20) + strings.TrimPrefix(outside, "/"),
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, outside)
	c := r.startNew(t, rootfs(root), writable,
		bind(source, "/absolute/a"), bind(source, "/outside/b"), bind(source, "/upwards/c"),
		script("cat /home/a/mounted "+outside+"/b/mounted "+outside+"/c/mounted"))
	c.expect(t, 0)
	if got, want := c.stdout.all(t), strings.Repeat("from the mount", 3); got != want {
		t.Errorf("read through the links: %q; %s", got, c.stderr.text())
	}
	if diff := cmp.Diff(before, tree(t, outside)); diff != "" {
		t.Errorf("the host's directory changed:\n%s", diff)
	}
	if got := testutil.ReadFile(t, filepath.Join(outside, "untouched")); got != "before" {
		t.Errorf("the host's file changed: %q", got)
	}
	c.delete(t)
}
