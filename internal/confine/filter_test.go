package confine

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// filtered is set in the process that the filter is tried in: it cannot be
// taken off again.
const filtered = "TEST_FILTERED_VICTIM"

// A process behind the filter reaches itself and nobody else.
func TestFilter(t *testing.T) {
	victim, err := strconv.Atoi(os.Getenv(filtered))
	if err != nil {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFilter$", "-test.v")
		cmd.Env = append(os.Environ(), filtered+"="+strconv.Itoa(os.Getpid()))
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := Calls(); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGUSR1)
	self := os.Getpid()
	var limit unix.Rlimit
	for name, c := range map[string]struct{ got, want error }{
		"kill another":  {unix.Kill(victim, 0), unix.EPERM},
		"kill itself":   {unix.Kill(self, unix.SIGUSR1), nil},
		"kill a group":  {unix.Kill(-victim, 0), unix.EPERM},
		"kill everyone": {unix.Kill(-1, 0), unix.EPERM},
		"tgkill itself": {unix.Tgkill(self, unix.Gettid(), unix.SIGUSR1), nil},
		"prlimit":       {unix.Prlimit(victim, unix.RLIMIT_CORE, nil, &limit), unix.EPERM},
		"own prlimit":   {unix.Prlimit(0, unix.RLIMIT_CORE, nil, &limit), nil},
		"ptrace":        {unix.PtraceSeize(victim), unix.EPERM},
		"namespace":     {unix.Unshare(unix.CLONE_NEWUSER), unix.EPERM},
		"both":          {unix.Unshare(unix.CLONE_NEWUSER | unix.CLONE_FS), unix.EPERM},
		"own directory": {unix.Unshare(unix.CLONE_FS), nil},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if _, err := unix.PidfdOpen(victim, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("pidfd_open: %v", err)
	}
}
