package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// newLink is a socket whose first end is a file like the port, that takes pages, and
// whose other one is the host's.
func newLink(t *testing.T) (*os.File, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	inside, outside := os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "host")
	defer outside.Close()
	host, err := net.FileConn(outside)
	must(t, err)
	return inside, host
}

func dataHeader(stream uint32, length int) []byte {
	header := make([]byte, yamuxHeader)
	binary.BigEndian.PutUint32(header[4:], stream)
	binary.BigEndian.PutUint32(header[8:], uint32(length))
	return header
}

// A frame of a stream that has a pipe carries what that holds, those of others their
// own bodies, and one whose pipe has too little is filled.
func TestMove(t *testing.T) {
	inside, host := newLink(t)
	defer inside.Close()
	defer host.Close()
	pipe, in, err := os.Pipe()
	must(t, err)
	defer pipe.Close()
	w := &frameWriter{ReadWriteCloser: inside, port: inside}
	w.moved.Store(uint32(7), pipe)
	_, err = in.WriteString("from the pipe")
	must(t, err)
	for _, frame := range []struct {
		stream     uint32
		body, want string
	}{
		{7, "12345678", "from the"},
		{9, "12345678", "12345678"},
		{7, "\x00\x00\x00\x00\x00\x00\x00\x00", " pipe\x00\x00\x00"},
	} {
		for _, part := range [][]byte{dataHeader(frame.stream, len(frame.body)), []byte(frame.body)} {
			n, err := w.Write(part)
			must(t, err)
			if n != len(part) {
				t.Errorf("%d bytes of %d", n, len(part))
			}
		}
		got := make([]byte, yamuxHeader+len(frame.body))
		_, err := io.ReadFull(host, got)
		must(t, err)
		if want := append(dataHeader(frame.stream, len(frame.body)), frame.want...); !bytes.Equal(got, want) {
			t.Errorf("stream %d: %q, not %q", frame.stream, got, want)
		}
	}
}

// A host that is gone ends a move that waits for room.
func TestMoveToNobody(t *testing.T) {
	inside, host := newLink(t)
	defer inside.Close()
	must(t, host.Close())
	pipe, in, err := os.Pipe()
	must(t, err)
	defer pipe.Close()
	_, err = in.WriteString("x")
	must(t, err)
	w := &frameWriter{ReadWriteCloser: inside, port: inside}
	if err := w.move(dataHeader(1, 1), pipe, []byte{0}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("error is %v", err)
	}
}
