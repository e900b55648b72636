package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// silentGuest is one that does not even read.
func silentGuest(t *testing.T) *guest {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	g, err := newGuest(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	return g
}

func TestSilentGuestIsNotWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := silentGuest(t).call(ctx, protocol.Request{Start: &protocol.Target{}})
	if !errors.Is(err, errSilent) {
		t.Errorf("error is %v", err)
	}
}

// Whatever a start waits for, the container has a state and can be killed, and
// who kills it has an answer.
func TestStartHoldsUpNothing(t *testing.T) {
	c := newContainer(Plan{}, "", silentGuest(t), nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error)
	go func() { started <- c.start(ctx) }()
	time.Sleep(50 * time.Millisecond)
	if got := c.state(); got != specs.StateCreated {
		t.Errorf("state %s", got)
	}
	if err := c.signal(ctx, protocol.Signal{Signal: int(unix.SIGKILL)}); err != nil {
		t.Errorf("kill: %v", err)
	}
	select {
	case code := <-c.exit:
		if code != 137 {
			t.Errorf("exit %d", code)
		}
	case <-time.After(2 * killTimeout):
		t.Error("the container was not killed")
	}
	cancel()
	if err := <-started; err == nil {
		t.Error("start went well")
	}
}

// The guest's words do not reach a terminal as commands.
func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"exec \"sh\": not found":      "exec \"sh\": not found",
		"\x1b[31mred\x1b]0;title\x07": "?[31mred?]0;title?",
		"two\nlines\x00":              "two?lines?",
		"grün":                        "grün",
		"\xff\u202e":                  "??",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := plain(strings.Repeat("x", 1<<20)); len(got) != maxText {
		t.Errorf("%d bytes are left", len(got))
	}
}

func TestConsoleIsPlain(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = io.WriteString(theirs, "first\r\n\x1b[2Jsecond\r\n")
		theirs.Close()
	}()
	var console tail
	console.follow(ours)
	if got, want := console.String(), "first\n?[2Jsecond"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTruncate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for size, want := range map[int64]int64{4: 4, 5: 0} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		truncate(path, 4)
		if info, err := os.Stat(path); err != nil || info.Size() != want {
			t.Errorf("%d bytes became %v, %v", size, info, err)
		}
	}
	truncate(path+".missing", 4)
}
