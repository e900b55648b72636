package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// memoryHungry has the guest's kernel kill the process that runs it.
const memoryHungry = "exec tail /dev/zero"

var smallMemory = limits(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(64 * mib))}})

// watchOOM listens as engines do to the kernel's word that a process in the
// container's cgroup was killed for want of memory: containerd and conmon know no
// other. The channel is closed with the first.
func watchOOM(t testing.TB, c *container) <-chan struct{} {
	t.Helper()
	told := make(chan struct{})
	groups := cgroupsOf(t, c.pid)
	path, v2 := groups[""]
	if v2 {
		go awaitOOMKill(filepath.Join("/sys/fs/cgroup", path, "memory.events"), told)
		return told
	}
	dir := filepath.Join("/sys/fs/cgroup/memory", groups["memory"])
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(event), "eventfd")
	testutil.WriteFile(t, filepath.Join(dir, "cgroup.event_control"), fmt.Sprintf("%d %d", event, control.Fd()))
	go func() {
		defer file.Close()
		count := make([]byte, 8)
		// The end of the cgroup is an event as well, and comes later.
		if _, err := file.Read(count); err == nil && binary.NativeEndian.Uint64(count) > 0 && exists(dir) {
			close(told)
		}
	}()
	return told
}

// awaitOOMKill waits under v2 until the file counts a kill, or is gone.
func awaitOOMKill(file string, told chan<- struct{}) {
	for {
		f, err := os.Open(file)
		if err != nil {
			return
		}
		text, _ := os.ReadFile(file)
		if strings.Contains(string(text), "oom_kill ") && !strings.Contains(string(text), "oom_kill 0") {
			f.Close()
			close(told)
			return
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}, 100)
		f.Close()
	}
}

// oomKills is how many processes the host's kernel has killed in the cgroup.
func oomKills(t testing.TB, memory string) int {
	t.Helper()
	for _, file := range []string{"/sys/fs/cgroup/memory" + memory + "/memory.oom_control", "/sys/fs/cgroup" + memory + "/memory.events"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "oom_kill ")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("no memory cgroup ", memory)
	return 0
}

// The guest's OOM killer ends the container: the engine is told before it hears of
// the exit, and the exit is the container's own.
func TestOOM(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		path := cgroupName(t)
		c := r.create(t, r.bundle(t, script(memoryHungry), smallMemory, cgroupsPath(path)), options{})
		told := watchOOM(t, c)
		c.start(t)
		receive(t, "word of the OOM kill", told)
		if !r.isVM() {
			c.expect(t, 137)
			c.delete(t)
			return
		}
		c.expect(t, 137)
		// The victim, not QEMU.
		if got := oomKills(t, path); got != 1 {
			t.Errorf("%d processes were killed on the host, not 1", got)
		}
		c.delete(t)
	})
}

// A shell whose child was killed ends as the child did.
func TestOOMOfChild(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.create(t, r.bundle(t, script("tail /dev/zero", "exit $?"), smallMemory, cgroupsPath(cgroupName(t))), options{})
	told := watchOOM(t, c)
	c.start(t)
	receive(t, "word of the OOM kill", told)
	c.expect(t, 137)
	c.delete(t)
}

// A process that is killed beside init is told by events; the machine goes on, and
// the host's cgroup has nothing to say.
func TestOOMBesideInit(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	path := cgroupName(t)
	in, gate := pipe(t)
	c := r.create(t, r.bundle(t, script(
		`trap "exit 42" TERM`, `echo ready`, `read line`, `sh -c "exec tail /dev/zero"`, `echo survived`, forever,
	), smallMemory, cgroupsPath(path)), options{stdin: in})
	events := followEvents(t, c, "--interval", "100ms")
	c.start(t)
	// From the first figures on, a kill counts.
	events.wait(t, `"type":"stats"`)
	if _, err := gate.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	c.stdout.wait(t, "survived\n")
	events.wait(t, `"type":"oom"`)
	c.kill(t, "TERM")
	c.expect(t, 42)
	if got := oomKills(t, path); got != 0 {
		t.Errorf("%d processes were killed on the host", got)
	}
	c.delete(t)
}

// Who is killed first when the host has no memory is the engine's wish.
func TestOOMScore(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.create(t, r.bundle(t, idle, func(s *specs.Spec) { s.Process.OOMScoreAdj = new(500) }), options{})
		pids := []int{c.pid}
		if r.isVM() {
			pids = append(pids, qemuOf(t, c))
		}
		for _, pid := range pids {
			if got := strings.TrimSpace(testutil.ReadFile(t, fmt.Sprintf("/proc/%d/oom_score_adj", pid))); got != "500" {
				t.Errorf("oom_score_adj of %q is %s, not 500", commandLine(pid)[0], got)
			}
		}
		c.end(t)
	})
}

// A host that has no memory for QEMU says so to the engine by itself.
func TestHostOOM(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	path := cgroupName(t)
	c := r.startNew(t, idle, smallMemory, cgroupsPath(path))
	c.stdout.wait(t, "ready\n")
	// Nobody frees as much: QEMU is the largest.
	if file := filepath.Join("/sys/fs/cgroup", path, "memory.max"); exists(file) {
		testutil.WriteFile(t, file, strconv.Itoa(64*mib))
	} else {
		squeezeV1(t, filepath.Join("/sys/fs/cgroup/memory", path))
		if out := c.exec(t, "/bin/dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=40"); out.Code == 0 {
			t.Error("there was memory")
		}
	}
	c.expect(t, 137)
	c.delete(t)
}

// squeezeV1 lowers the limit to what is in use, whatever changes meanwhile.
func squeezeV1(t testing.TB, dir string) {
	t.Helper()
	// The kernel would rather give up cache, bit by bit, than kill somebody.
	testutil.WriteFile(t, filepath.Join(dir, "memory.force_empty"), "0")
	eventually(t, patience, "a limit at what is used", func() bool {
		usage, err := strconv.Atoi(strings.TrimSpace(testutil.ReadFile(t, filepath.Join(dir, "memory.usage_in_bytes"))))
		if err != nil {
			t.Fatal(err)
		}
		return os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte(strconv.Itoa(usage+mib)), 0) == nil
	})
}
