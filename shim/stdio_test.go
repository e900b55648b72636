package shim

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// A read that waits ends when it is stopped, and takes nothing that comes later:
// the descriptor may be the terminal of somebody's shell.
func TestStoppableLeavesInput(t *testing.T) {
	input, typed := pipe(t)
	stopped, stop := pipe(t)
	done := make(chan error)
	go func() {
		_, err := (&stoppable{file: input, stop: stopped}).Read(make([]byte, 16))
		done <- err
	}()
	stop.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("read ended with %v", err)
	}
	if _, err := typed.WriteString("later"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 16)
	n, err := input.Read(got)
	if err != nil || string(got[:n]) != "later" {
		t.Errorf("%q is left, %v", got[:n], err)
	}
}

func TestStoppableReads(t *testing.T) {
	input, typed := pipe(t)
	stopped, _ := pipe(t)
	go func() {
		_, _ = typed.WriteString("hello")
		typed.Close()
	}()
	got, err := io.ReadAll(&stoppable{file: input, stop: stopped})
	if err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}

// When nobody reads any more the guest hears of it.
func TestDrainClosesStream(t *testing.T) {
	output, file := pipe(t)
	output.Close()
	ours, theirs := net.Pipe()
	go drain(file, ours)
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))
	for {
		if _, err := theirs.Write([]byte("nobody reads this")); err != nil {
			if !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("write ended with %v", err)
			}
			return
		}
	}
}
