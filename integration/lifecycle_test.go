package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

func TestLifecycle(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.create(t, r.bundle(t, idle), options{})
		checkState(t, c, "created")
		if text := c.stdout.text(); text != "" {
			t.Errorf("the process ran before start: it wrote %q", text)
		}
		c.start(t)
		checkState(t, c, "running")
		c.stdout.wait(t, "ready\n")
		c.kill(t, "TERM")
		c.expect(t, 42)
		checkState(t, c, "stopped")
		c.delete(t)
		if message := r.refuse(t, "state", c.id); !strings.Contains(message, "does not exist") {
			t.Errorf("state after delete: %q", message)
		}
	})
}

// checkState compares state with what is known of the container.
func checkState(t testing.TB, c *container, status string) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(c.must(t, "state", c.id)), &got); err != nil {
		t.Fatal(err)
	}
	created, err := time.Parse(time.RFC3339Nano, got["created"].(string))
	if err != nil || time.Since(created) > patience || time.Since(created) < 0 {
		t.Errorf("created %v: %v", got["created"], err)
	}
	delete(got, "created")
	delete(got, "ociVersion")
	pid := float64(c.pid)
	if status == "stopped" {
		pid = 0
	}
	want := map[string]any{
		"id": c.id, "pid": pid, "status": status, "bundle": c.bundle,
		"rootfs": filepath.Join(scratch, "rootfs"), "owner": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state %s (-want +got):\n%s", status, diff)
	}
}

// What engines delete is not always stopped.
func TestDeleteCreated(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.create(t, r.bundle(t, idle), options{})
	c.delete(t)
	receive(t, "exit of a container deleted before start", c.exited)
	r.must(t, "delete", "--force", c.id)
}

// A process that ends before start is an early exit, as engines may kill a
// container that is only created.
func TestKillCreated(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.create(t, r.bundle(t, idle), options{})
	c.kill(t, "KILL")
	c.expect(t, 137)
	c.delete(t)
}

func TestDeleteForceRunning(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle)
		r.must(t, "delete", "--force", c.id)
		if got := c.wait(t); got != 137 {
			t.Errorf("exited %d, not 137", got)
		}
		// Engines call it once more.
		r.must(t, "delete", "--force", c.id)
	})
}

func TestPause(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, script(`trap "echo got it" USR1`, `echo ready`, forever))
		c.stdout.wait(t, "ready\n")
		r.must(t, "pause", c.id)
		if got := c.status(t); got != "paused" {
			t.Errorf("status %s, not paused", got)
		}
		if message := refusal(t, c.exec(t, "/bin/true")); !strings.Contains(message, "cannot exec in a paused container") {
			t.Errorf("exec: %q", message)
		}
		// It is accepted, and acted on later.
		c.kill(t, "USR1")
		r.must(t, "resume", c.id)
		c.stdout.wait(t, "got it\n")
		if got := c.status(t); got != "running" {
			t.Errorf("status %s, not running", got)
		}
		r.must(t, "pause", c.id)
		// Nobody has to resume it for that.
		c.kill(t, "KILL")
		c.expect(t, 137)
		c.delete(t)
	})
}

func TestPs(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	c.stdout.wait(t, "ready\n")
	p := c.execDetached(t, options{}, "/bin/sleep", "1000")
	var pids []int
	if err := json.Unmarshal([]byte(r.must(t, "ps", "--format", "json", c.id)), &pids); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"the container": c.pid, "the exec": p.pid} {
		if !slices.Contains(pids, pid) {
			t.Errorf("ps lacks %d, which is %s: %v", pid, name, pids)
		}
	}
	// dockerd asks the host's ps about them.
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("ps has %d, which is no process of the host", pid)
		}
	}
	table := r.must(t, "ps", c.id)
	if first, _, _ := strings.Cut(table, "\n"); !regexp.MustCompile(`\bPID\b.*\bCMD\b`).MatchString(first) {
		t.Errorf("ps as a table begins with %q", first)
	}
	p.kill(t, unix.SIGKILL)
	p.wait(t)
	c.end(t)
}

func TestList(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	if out := r.must(t, "list", "--format", "json"); strings.TrimSpace(out) != "[]" && strings.TrimSpace(out) != "null" {
		t.Errorf("list without containers as JSON: %q", out)
	}
	c := r.create(t, r.bundle(t, idle, annotate("org.example", "yes")), options{})

	var list []map[string]any
	if err := json.Unmarshal([]byte(r.must(t, "list", "--format=json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 {
		t.Fatalf("%d containers, not 1: %v", len(list), list)
	}
	delete(list[0], "created")
	delete(list[0], "ociVersion")
	want := map[string]any{
		"id": c.id, "pid": float64(c.pid), "status": "created", "bundle": c.bundle,
		"rootfs": filepath.Join(scratch, "rootfs"), "owner": "root",
		"annotations": map[string]any{"org.example": "yes"},
	}
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Errorf("list --format=json (-want +got):\n%s", diff)
	}
	if got := r.must(t, "list", "-q"); got != c.id+"\n" {
		t.Errorf("list -q: %q", got)
	}
	c.end(t)
}

// Engines call without --root where they know of none.
func TestDefaultRoot(t *testing.T) {
	r := machines(t)
	r.root = "/run/vmruntime"
	nothingLeft(t)
	c := r.create(t, r.bundle(t), options{})
	withoutRoot := runtime{path: r.path}
	cmd := withoutRoot.plainCall(t, append(slices.Clone(r.options), "state", c.id)...)
	if !strings.Contains(cmd, `"created"`) {
		t.Errorf("state without --root: %q", cmd)
	}
	c.delete(t)
}

// plainCall runs the program with exactly these arguments.
func (r runtime) plainCall(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, r.path, args...)
}

// The pid of a container is what engines look at beyond the command line.
func TestPidIsTheContainer(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	root := newRootfs(t)
	testutil.WriteFile(t, filepath.Join(root, "etc/marker"), "of the container")
	c := r.create(t, r.bundle(t, rootfs(root), idle), options{})
	proc := "/proc/" + itoa(c.pid)

	// podman cp works on it, and must not find the host's files.
	if got := testutil.ReadFile(t, proc+"/root/etc/marker"); got != "of the container" {
		t.Errorf("%s/root/etc/marker: %q", proc, got)
	}
	for _, ns := range []string{"mnt", "net", "uts", "ipc"} {
		if link(t, proc+"/ns/"+ns) == link(t, "/proc/self/ns/"+ns) {
			t.Errorf("%s/ns/%s is the host's", proc, ns)
		}
	}
	if stat, _ := readStat(c.pid); stat.parent != os.Getpid() {
		t.Errorf("the parent of %d is %d, not the supervisor %d", c.pid, stat.parent, os.Getpid())
	}
	c.end(t)
}

func link(t testing.TB, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// containerd's shim leaves its own listener open at descriptor 3. Whoever keeps
// it keeps the engine's clients waiting.
func TestInheritedDescriptorsAreClosed(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	read, write := pipe(t)
	c := r.create(t, r.bundle(t, idle), options{files: []*os.File{write}})
	write.Close()
	if err := read.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error("something still holds a descriptor that create inherited: ", err)
	}
	c.end(t)
}

// The root filesystem belongs to the user: nothing of ours is written there but
// mount points that the image lacks.
func TestRootfsStaysAsItWas(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	root := newRootfs(t)
	want := append(tree(t, root), "mnt/", "mnt/made/", "tmp/file")
	c := r.startNew(t, rootfs(root), writable, bind(t.TempDir(), "/mnt/made"), script("echo hello > /tmp/file"))
	c.expect(t, 0)
	c.delete(t)
	slices.Sort(want)
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Errorf("root filesystem (-want +got):\n%s", diff)
	}
	if got := testutil.ReadFile(t, filepath.Join(root, "tmp/file")); got != "hello\n" {
		t.Errorf("what the container wrote: %q", got)
	}
}

// tree lists what is below dir, directories with a slash.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if info.IsDir() {
			name += "/"
		}
		list = append(list, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}
