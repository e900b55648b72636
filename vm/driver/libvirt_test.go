package driver

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A zombie would still take a signal.
func TestReap(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	stop := reap(pidFile)
	defer stop()
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !errors.Is(unix.Kill(child.Process.Pid, 0), unix.ESRCH); {
		if time.Now().After(end) {
			t.Fatal("it is still there")
		}
		time.Sleep(time.Millisecond)
	}
}
