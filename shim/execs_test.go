package shim

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// standIn starts a program that stands for an exec; its stdin is the exec's
// connection. It is reaped some time after its end.
func standIn(t *testing.T, program string, args ...string) running {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		awaitPidfd(pidfd, -1)
		// Where a supervisor finds time for it later than the kernel.
		time.Sleep(50 * time.Millisecond)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		<-reaped
		unix.Close(pidfd)
	})
	return running{conn.(*net.UnixConn), cmd.Process.Pid, pidfd}
}

func (r running) reaped() bool {
	return errors.Is(unix.PidfdSendSignal(r.pidfd, 0, nil, 0), unix.ESRCH)
}

// TestDismiss: execs are gone for their supervisor before the container is, whether
// they end by themselves or their connection is closed.
func TestDismiss(t *testing.T) {
	ending, waiting := standIn(t, "true"), standIn(t, "cat")
	e := execs{running: map[string]running{"exec-1": ending, "exec-2": waiting}}
	e.dismiss()
	if !ending.reaped() || !waiting.reaped() {
		t.Errorf("reaped: %v, %v", ending.reaped(), waiting.reaped())
	}
	if !e.over {
		t.Error("another exec could begin")
	}
	// An OOM kill has it done before the container's end does.
	e.dismiss()
}

// TestDismissDeaf: an exec that does not go holds up nothing for long.
func TestDismissDeaf(t *testing.T) {
	deaf := standIn(t, "sleep", "1000")
	e := execs{running: map[string]running{"exec-1": deaf}}
	begin := time.Now()
	e.dismiss()
	if waited := time.Since(begin); waited > 10*dismissTimeout || deaf.reaped() {
		t.Errorf("after %v; reaped: %v", waited, deaf.reaped())
	}
}

func TestAddAfterDismiss(t *testing.T) {
	e := execs{over: true}
	if _, err := e.add(nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}
