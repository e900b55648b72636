package integration

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A stream collects what arrives on a descriptor and lets tests wait for it.
type stream struct {
	name string

	mu    sync.Mutex
	bytes []byte
	ended bool
	// changed is closed and replaced whenever something has arrived.
	changed chan struct{}
}

// collect reads from until it ends, and closes it.
func collect(name string, from io.ReadCloser) *stream {
	s := &stream{name: name, changed: make(chan struct{})}
	go func() {
		defer from.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			s.add(buffer[:n], err != nil)
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *stream) add(p []byte, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes = append(s.bytes, p...)
	s.ended = end
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) now() (text string, ended bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.bytes), s.ended, s.changed
}

// text is what has arrived so far.
func (s *stream) text() string {
	text, _, _ := s.now()
	return text
}

// wait returns once the text has arrived.
func (s *stream) wait(t testing.TB, want string) {
	t.Helper()
	s.await(t, "the text "+testutil.Abbreviate(want), func(text string, ended bool) bool {
		if ended && !strings.Contains(text, want) {
			t.Fatalf("%s ended without %s: %s", s.name, testutil.Abbreviate(want), testutil.Abbreviate(text))
		}
		return strings.Contains(text, want)
	})
}

// all returns everything once the stream has ended.
func (s *stream) all(t testing.TB) string {
	t.Helper()
	return s.await(t, "its end", func(_ string, ended bool) bool { return ended })
}

func (s *stream) await(t testing.TB, what string, done func(text string, ended bool) bool) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		text, ended, changed := s.now()
		if done(text, ended) {
			return text
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: %s did not come: %s", s.name, what, testutil.Abbreviate(text))
		}
	}
}

// pipe returns its ends, closed with the test.
func pipe(t testing.TB) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		read.Close()
		write.Close()
	})
	return read, write
}
