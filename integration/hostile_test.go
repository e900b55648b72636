package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// shimMemory is how much a guest may make the shim use, in KiB.
const shimMemory = 64 << 10

// hostile is the runtime with a guest that means harm.
func hostile(t testing.TB) runtime {
	t.Helper()
	return machines(t).withHostileGuest(t)
}

func (r runtime) withHostileGuest(t testing.TB) runtime {
	t.Helper()
	return vmruntime(t, map[string]string{uriVariable: r.uri, "guest": hostileGuest(t)})
}

var hostileBuild struct {
	once sync.Once
	dir  string
}

// hostileGuest builds the guest of integration/hostile once.
func hostileGuest(t testing.TB) string {
	t.Helper()
	hostileBuild.once.Do(func() {
		kernels, _ := filepath.Glob(filepath.Join(checkout(t), "build/kernel/*.deb"))
		if len(kernels) == 0 {
			t.Fatal("no kernel package in build/kernel (make setup)")
		}
		agent, dir := filepath.Join(scratch, "hostile"), filepath.Join(scratch, "hostile-guest")
		t.Logf("$ CGO_ENABLED=0 go build -o %s ./hostile", agent)
		build := exec.Command("go", "build", "-o", agent, "./hostile")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		line := []string{"guest", "build", "--agent", agent, "-o", dir}
		for _, k := range kernels {
			line = append(line, "--kernel", k)
		}
		run(t, program(t), line...)
		hostileBuild.dir = dir
	})
	if hostileBuild.dir == "" {
		t.Skip("no hostile guest: see the first test that needed it")
	}
	return hostileBuild.dir
}

// hostileBundle has the guest behave so.
func (r runtime) hostileBundle(t testing.TB, behaviour string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, filepath.Join(dir, "behaviour"), behaviour)
	return r.bundle(t, rootfs(dir))
}

// What a guest does instead of talking to the host, and what create says of it.
var hostileBoots = []struct {
	behaviour string
	want      string
	// long ones keep create waiting until it loses patience.
	long bool
}{
	// First, because it takes as long as all the others.
	{behaviour: "silent", want: "does not answer"},
	{behaviour: "garbage", want: "broke the protocol"},
	{behaviour: "noise", want: "broke the protocol"},
	{behaviour: "power-off", want: "machine ended"},
	{behaviour: "panic", want: "machine ended"},
	{behaviour: "other-version", want: "broke the protocol"},
	{behaviour: "unknown-type", want: "broke the protocol"},
	{behaviour: "unknown-stream", want: "broke the protocol"},
	{behaviour: "even-stream", want: "broke the protocol"},
	{behaviour: "opened-stream", want: "broke the protocol"},
	{behaviour: "opened-streams", want: "broke the protocol"},
	{behaviour: "long-frame", want: "broke the protocol"},
	{behaviour: "cut-off-frame", want: "machine ended"},
	{behaviour: "pings", want: "broke the protocol"},
	{behaviour: "window-updates"},
	{behaviour: "data-flood"},
	{behaviour: "empty-data", long: true},
	{behaviour: "reset-streams"},
	{behaviour: "finished-stream"},
	{behaviour: "go-away"},
	{behaviour: "go-away-flood", long: true},
	{behaviour: "long-answer", want: "over the limit"},
	{behaviour: "big-answer", want: "over the limit"},
	{behaviour: "endless-answer"},
	{behaviour: "deep-answer"},
	{behaviour: "cut-off-answer"},
	{behaviour: "no-json"},
	{behaviour: "empty-answer", want: "broke the protocol"},
	{behaviour: "long-error"},
	{behaviour: "control-error"},
	{behaviour: "other-protocol", want: "protocol 99"},
}

// A guest that breaks the protocol before there is a container: create fails
// with a sentence and leaves nothing.
func TestHostileBoot(t *testing.T) {
	r := hostile(t)
	nothingLeft(t)
	for _, test := range hostileBoots {
		if test.long && !soak() {
			continue
		}
		t.Run(test.behaviour, func(t *testing.T) {
			t.Parallel()
			bundle, id := r.hostileBundle(t, test.behaviour), r.newID(t)
			memory := watchShim(id)
			got := r.tryCreateAs(t, id, bundle)
			memory.check(t)
			message := refusal(t, got)
			if !strings.Contains(message, test.want) {
				t.Errorf("%q does not say %q", message, test.want)
			}
			if strings.Contains(message, "unprepared") {
				t.Errorf("the guest has not done what it was to do: %s", message)
			}
			checkSentence(t, message)
		})
	}
}

// checkSentence wants an error that a person can read on a terminal, whatever
// the guest has put into it.
func checkSentence(t testing.TB, message string) {
	t.Helper()
	if len(message) > 8<<10 {
		t.Errorf("a message of %d bytes", len(message))
	}
	for _, c := range message {
		if c < ' ' || c == 0x7f {
			t.Errorf("the control character %q in %s", c, testutil.Abbreviate(message))
			break
		}
	}
}

// A guest that turns on the host once its container is started.
func TestHostileRun(t *testing.T) {
	r := hostile(t)
	nothingLeft(t)
	for _, behaviour := range []string{"start-garbage", "start-pings", "start-closed", "start-exit", "start-no-exit", "start-error"} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			c := r.create(t, r.hostileBundle(t, behaviour), options{})
			memory := watchShim(c.id)
			c.start(t)
			if got := c.wait(t); got == 0 {
				t.Error("it exited 0")
			}
			memory.check(t)
			checkGone(t, c)
		})
	}
}

// A machine that ends by itself is noticed at once.
func TestGuestEnds(t *testing.T) {
	needVM(t)
	for _, behaviour := range []string{"start-power-off", "start-panic"} {
		t.Run(behaviour, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, r runtime) { guestEnds(t, r.withHostileGuest(t), behaviour) })
		})
	}
}

func guestEnds(t *testing.T, r runtime, behaviour string) {
	c := r.create(t, r.hostileBundle(t, behaviour), options{})
	qemu := qemuOf(t, c)
	// start may fail: its answer and the end of the machine race.
	r.call(t, "start", c.id)
	awaitDeath(t, patience, "QEMU", qemu)
	begin := time.Now()
	if got := c.wait(t); got == 0 {
		t.Error("it exited 0")
	}
	if got := c.status(t); got != "stopped" {
		t.Errorf("status %s, not stopped", got)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v, more than 2 s, until state said stopped", took)
	}
	checkGone(t, c)
}

// A guest that ignores that its channel is closed dies with the shim all the
// same.
func TestDeafGuestDiesWithTheShim(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		r = r.withHostileGuest(t)
		c := r.create(t, r.hostileBundle(t, "start-deaf"), options{})
		c.start(t)
		qemu := qemuOf(t, c)
		c.process.kill(t, unix.SIGKILL)
		awaitDeath(t, 5*time.Second, "QEMU", qemu)
		c.expect(t, 137)
		checkGone(t, c)
	})
}

// SIGKILL needs nobody's consent: podman gives it five seconds.
func TestDeafGuestIsKilled(t *testing.T) {
	r := hostile(t)
	nothingLeft(t)
	for _, behaviour := range []string{"start-deaf", "start-stays"} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			c := r.create(t, r.hostileBundle(t, behaviour), options{})
			c.start(t)
			begin := time.Now()
			c.kill(t, "KILL")
			c.expect(t, 137)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			c.delete(t)
		})
	}
}

// Output without end and without a reader stays in the guest.
func TestEndlessOutput(t *testing.T) {
	r := hostile(t)
	nothingLeft(t)
	unread, out := pipe(t)
	c := r.create(t, r.hostileBundle(t, "start-output"), options{stdout: out})
	out.Close()
	memory := watchShim(c.id)
	c.start(t)
	awaitFull(t, unread)
	// The state is the shim's to tell, which so has had its turn.
	for range 20 {
		c.status(t)
	}
	c.kill(t, "KILL")
	c.expect(t, 137)
	memory.check(t)
	c.delete(t)
}

// A memoryWatch follows the most that a shim has ever used.
type memoryWatch struct {
	stop chan struct{}
	most chan int
}

// watchShim watches the shim of a container, from its birth on if there is none
// yet.
func watchShim(id string) memoryWatch {
	w := memoryWatch{stop: make(chan struct{}), most: make(chan int, 1)}
	most, pid := 0, 0
	look := func() {
		if pid == 0 {
			pid, _ = shimOf(id)
		}
		if pid != 0 {
			most = max(most, highWater(pid))
		}
	}
	// One that is there may be gone before the goroutine runs.
	look()
	go func() {
		for ; ; look() {
			select {
			case <-w.stop:
				w.most <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return w
}

// highWater is the most memory that a process has ever used, in KiB.
func highWater(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(text), "\nVmHWM:")
	if !ok {
		return 0
	}
	return atoi(strings.Fields(rest)[0])
}

func (w memoryWatch) check(t testing.TB) {
	t.Helper()
	close(w.stop)
	most := <-w.most
	t.Logf("the shim used up to %d KiB", most)
	if most == 0 {
		t.Error("the shim's memory was never seen")
	}
	if most > shimMemory {
		t.Errorf("the shim used %d KiB, more than %d", most, shimMemory)
	}
}
