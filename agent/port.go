package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// portTimeout bounds the wait for the agent channel's device, which the driver
// makes when the host has told it the port's name.
const portTimeout = 30 * time.Second

// openPort opens the agent channel once the host is at its other end.
func openPort() (*os.File, error) {
	name := await(portTimeout, func() string { return findPort("/sys/class/virtio-ports") })
	if name == "" {
		return nil, fmt.Errorf("the VM has no virtio-serial port %s", protocol.PortName)
	}
	return connectPort("/dev/" + name)
}

// await looks for something with growing pauses until it is there or the time is
// up, and returns what the last look gave.
func await(timeout time.Duration, look func() string) string {
	deadline := time.Now().Add(timeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if found := look(); found != "" || time.Now().After(deadline) {
			return found
		}
		time.Sleep(pause)
	}
}

func findPort(class string) string {
	names, _ := filepath.Glob(filepath.Join(class, "*", "name"))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(text)) == protocol.PortName {
			return filepath.Base(filepath.Dir(name))
		}
	}
	return ""
}

// connectPort waits until the host is connected, because a read before that
// gives end of file.
func connectPort(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("agent channel %s: %w", path, err)
	}
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		_, err := unix.Poll(poll, -1)
		if err == nil && poll[0].Revents&unix.POLLHUP == 0 {
			return os.NewFile(uintptr(fd), path), nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A frameWriter joins each yamux header with the body that follows it: every
// write to the port costs an exit to the host. One goroutine writes.
type frameWriter struct {
	io.ReadWriteCloser
	frame []byte
	// port is the ReadWriteCloser where it takes pages of pipes, else nil, and moved
	// has the pipes by the ids of their streams.
	port  *os.File
	moved sync.Map
	relay *relay
}

const (
	yamuxHeader = 12
	yamuxData   = 0
	// portWrite is how much the driver takes of one write, in bytes.
	portWrite = 32 << 10
)

func (w *frameWriter) Write(p []byte) (int, error) {
	begins := len(w.frame) == 0 && len(p) == yamuxHeader
	if !begins && len(w.frame) == yamuxHeader {
		if pipe := w.moving(w.frame); pipe != nil {
			err := w.move(w.frame, pipe, p)
			w.frame = w.frame[:0]
			return len(p), err
		}
	}
	w.frame = append(w.frame, p...)
	if begins && p[1] == yamuxData && binary.BigEndian.Uint32(p[8:]) > 0 {
		return len(p), nil
	}
	_, err := w.ReadWriteCloser.Write(w.frame)
	w.frame = w.frame[:0]
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// A channel is the session with the host and what it is written to.
type channel struct {
	*yamux.Session
	writer *frameWriter
}

// newChannel speaks to the host. No timer runs on it: a VM may be paused for as
// long as its user likes.
func newChannel(conn io.ReadWriteCloser) (*channel, error) {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.ConnectionWriteTimeout = math.MaxInt64
	config.StreamOpenTimeout = 0
	config.StreamCloseTimeout = 0
	config.MaxStreamWindowSize = 1 << 20
	config.LogOutput = io.Discard
	writer := &frameWriter{ReadWriteCloser: conn}
	writer.port, _ = conn.(*os.File)
	session, err := yamux.Server(writer, config)
	if err != nil {
		return nil, fmt.Errorf("agent channel: %w", err)
	}
	return &channel{Session: session, writer: writer}, nil
}

// output is a stream of the channel as output is best written to it.
func (c *channel) output(stream *yamux.Stream) net.Conn {
	if c.writer.port == nil {
		return stream
	}
	return &mover{Conn: stream, id: stream.StreamID(), port: c.writer}
}
