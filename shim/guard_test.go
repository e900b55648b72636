package shim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/vmruntime/vmruntime/protocol"
)

func frame(version, kind byte, flags uint16, stream, length uint32) []byte {
	b := []byte{version, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

// A guest that sends what it has no reason to send ends its channel.
func TestGuardRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		sent []byte
		want string
	}{
		"version":       {frame(1, frameData, 0, 1, 0), "frame of version 1"},
		"ping":          {frame(0, 2, flagSYN, 0, 7), "frame of type 2"},
		"unknown type":  {frame(0, 9, 0, 1, 0), "frame of type 9"},
		"opens stream":  {frame(0, frameWindow, flagSYN, 2, 0), "it opened stream 2"},
		"even stream":   {frame(0, frameData, 0, 2, 0), "stream 2 was never opened"},
		"no stream":     {frame(0, frameData, 0, 0, 0), "stream 0 was never opened"},
		"future stream": {frame(0, frameData, 0, 5, 0), "stream 5 was never opened"},
		"huge window":   {frame(0, frameWindow, 0, 1, 1<<31), "frame of 2147483648 bytes"},
		"huge frame":    {frame(0, frameData, 0, 1, 1<<31), "frame of 2147483648 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guarding(c.sent)
			_, err := io.Copy(io.Discard, g)
			if !errors.Is(err, errHostile) || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
			if g.violation() == nil {
				t.Error("the violation is not remembered")
			}
		})
	}
}

func guarding(sent []byte) *guard {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Write(sent)
		theirs.Close()
	}()
	g := newGuard(ours)
	g.opened.Store(2)
	return g
}

// What a guest may send passes unchanged, however it is cut into pieces.
func TestGuardPasses(t *testing.T) {
	sent := append(frame(0, frameData, 0, 1, 5), "hello"...)
	sent = append(sent, frame(0, frameWindow, 0, 3, 1<<20)...)
	sent = append(sent, frame(0, frameData, 0, 3, 0)...)
	sent = append(sent, frame(0, frameGoAway, 0, 0, 0)...)
	got, err := io.ReadAll(struct{ io.Reader }{guarding(sent)})
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes passed, %v", len(got), len(sent), err)
	}
}

// Whatever bytes come, the session ends with an error within bounds.
func FuzzGuestChannel(f *testing.F) {
	f.Add(frame(0, frameData, 0, 1, 4))
	f.Add(append(frame(0, frameData, 0, 1, 8), "\x00\x00\x00\x04{}{}"...))
	f.Add(bytes.Repeat(frame(0, 2, flagSYN, 0, 1), 100))
	f.Add(append(frame(0, frameData, 0, 1, 4), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			_, _ = theirs.Write(sent)
			theirs.Close()
		}()
		g, err := newGuest(ours)
		if err != nil {
			t.Fatal(err)
		}
		defer g.close()
		done := make(chan error, 1)
		go func() { done <- g.greet(t.Context(), "fuzz", true) }()
		select {
		case err := <-done:
			if err == nil {
				t.Error("hello succeeded on garbage")
			}
		case <-time.After(10 * time.Second):
			t.Error("hello hangs")
		}
	})
}

// A guest that floods costs the shim no memory: not with pings, not with data
// nobody reads, not with window updates.
func TestFlood(t *testing.T) {
	floods := map[string]func() []byte{
		"pings":   func() []byte { return frame(0, 2, flagSYN, 0, rand.Uint32()) },
		"streams": func() []byte { return frame(0, frameWindow, flagSYN, rand.Uint32()|1, 0) },
		"windows": func() []byte { return frame(0, frameWindow, 0, 1, 1<<20) },
		"data":    func() []byte { return append(frame(0, frameData, 0, 1, 1<<20), make([]byte, 1<<20)...) },
	}
	for name, next := range floods {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			g, err := newGuest(ours)
			if err != nil {
				t.Fatal(err)
			}
			defer g.close()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			g.guard.opened.Add(1)
			if _, err := g.session.OpenStream(); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(2 * time.Second)
			sent := 0
			for time.Now().Before(deadline) && sent < 256<<20 {
				f := next()
				_ = theirs.SetWriteDeadline(deadline)
				if _, err := theirs.Write(f); err != nil {
					break
				}
				sent += len(f)
			}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			t.Logf("%d bytes sent, heap %d KiB, %d goroutines, session: %v", sent, m.HeapAlloc>>10, runtime.NumGoroutine(), g.guard.violation())
			if m.HeapAlloc > 48<<20 {
				t.Errorf("the heap has grown to %d MiB", m.HeapAlloc>>20)
			}
		})
	}
}

// A polite agent is understood through the guard.
func TestHello(t *testing.T) {
	ours, theirs := net.Pipe()
	server, err := yamux.Server(theirs, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		stream, err := server.Accept()
		if err != nil {
			return
		}
		var r protocol.Request
		_ = protocol.ReadMessage(stream, protocol.MaxRequest, &r)
		answer := *r.Hello
		answer.Kernel = "6.1.0"
		_ = protocol.WriteMessage(stream, protocol.Response{Hello: &answer})
	}()
	g, err := newGuest(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	if err := g.greet(t.Context(), "test", true); err != nil {
		t.Error(err)
	}
}
