package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newProcess(t *testing.T) (*process, []*os.File) {
	t.Helper()
	p := &process{exited: make(chan struct{}), reaper: newReaper()}
	child, err := p.openStdio()
	must(t, err)
	t.Cleanup(func() { closeAll(child); p.close() })
	return p, child
}

// TestDrain: what was written before the end arrives, and a descendant that
// keeps the pipe open holds nothing up.
func TestDrain(t *testing.T) {
	p, child := newProcess(t)
	serve, err := p.attach(1)
	must(t, err)
	if _, err := p.attach(1); err == nil {
		t.Error("a stream is given twice")
	}
	here, there := net.Pipe()
	go serve(there)
	_, err = child[1].WriteString("before")
	must(t, err)
	got := make([]byte, 6)
	_, err = io.ReadFull(here, got)
	must(t, err)
	_, err = child[1].Write(bytes.Repeat([]byte("x"), 60000))
	must(t, err)
	p.finish(0)
	rest, err := io.ReadAll(here)
	must(t, err)
	if len(rest) != 60000 {
		t.Errorf("%d bytes came after the end", len(rest))
	}
	p.outputs.Wait()
}

func TestLateAttach(t *testing.T) {
	p, child := newProcess(t)
	_, err := child[2].WriteString("late")
	must(t, err)
	p.finish(0)
	serve, err := p.attach(2)
	must(t, err)
	here, there := net.Pipe()
	go serve(there)
	if text, err := io.ReadAll(here); err != nil || string(text) != "late" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestInputUnread: a process that does not want its input does not block the
// host.
func TestInputUnread(t *testing.T) {
	p, child := newProcess(t)
	serve, err := p.attach(0)
	must(t, err)
	here, there := net.Pipe()
	go serve(there)
	must(t, child[0].Close())
	must(t, here.SetDeadline(time.Now().Add(10*time.Second)))
	for range 4 {
		// A net.Pipe, unlike a yamux stream, is closed in both directions.
		if _, err := here.Write(make([]byte, 100000)); errors.Is(err, io.ErrClosedPipe) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaper(t *testing.T) {
	r := newReaper()
	if err := r.kill(1<<22+1, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a stranger is signalled: %v", err)
	}
	if _, err := r.spawn(func() (int, error) { return 0, os.ErrInvalid }, nil); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("spawn says %v", err)
	}
	for status, want := range map[unix.WaitStatus]int{0: 0, 7 << 8: 7, 9: 137, 11 | 0x80: 139} {
		if got := exitCode(status); got != want {
			t.Errorf("status %#x is %d", status, got)
		}
	}
}

func TestFrameWriter(t *testing.T) {
	var chunks []string
	var mu sync.Mutex
	w := &frameWriter{ReadWriteCloser: writerFunc(func(p []byte) { mu.Lock(); chunks = append(chunks, string(p)); mu.Unlock() })}
	data := "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03"
	window := "\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03"
	empty := "\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00"
	for _, p := range []string{data, "abc", window, empty, data, "twelve bytes"} {
		n, err := w.Write([]byte(p))
		if must(t, err); n != len(p) {
			t.Errorf("%d of %d bytes", n, len(p))
		}
	}
	want := []string{data + "abc", window, empty, data + "twelve bytes"}
	if len(chunks) != len(want) {
		t.Fatalf("%q", chunks)
	}
	for i := range want {
		if chunks[i] != want[i] {
			t.Errorf("write %d is %q", i, chunks[i])
		}
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
func (f writerFunc) Read([]byte) (int, error)    { return 0, io.EOF }
func (f writerFunc) Close() error                { return nil }

func TestFindPort(t *testing.T) {
	class := t.TempDir()
	if got := findPort(class); got != "" {
		t.Errorf("a port %q without any", got)
	}
	for port, name := range map[string]string{"vport1p1": "other\n", "vport2p1": "org.vmruntime.agent.0\n"} {
		must(t, os.Mkdir(class+"/"+port, 0o755))
		must(t, os.WriteFile(class+"/"+port+"/name", []byte(name), 0o644))
	}
	if got := findPort(class); got != "vport2p1" {
		t.Errorf("port %q", got)
	}
}
