package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Output that comes in quantity is not copied: splice(2) moves the pages of the
// process's pipe to the port. yamux wants to see every byte of a frame, so it is
// given a body of zeros, and the frameWriter moves as many bytes in its place.

// moveFrom is how much must be in a pipe, in bytes, for it to be worth the calls.
const moveFrom = portWrite

// errMoved means that bytes have left the relay and did not get to the port.
var errMoved = errors.New("the agent channel has lost output")

// A mover is a stream whose bytes may come straight from a pipe.
type mover struct {
	net.Conn
	id    uint32
	port  *frameWriter
	zeros []byte
}

// moveOutput moves what a pipe holds, as long as that is much.
func moveOutput(w io.Writer, pipe *os.File) error {
	m, ok := w.(*mover)
	if !ok {
		return nil
	}
	for n := waiting(pipe); n >= moveFrom; n = waiting(pipe) {
		if err := m.move(pipe, n); err != nil {
			return err
		}
	}
	return nil
}

// move sends the next n bytes of the pipe, which it must hold.
func (m *mover) move(pipe *os.File, n int) error {
	n = min(n, outputPipe)
	if m.zeros == nil {
		m.zeros = make([]byte, outputPipe)
	}
	m.port.moved.Store(m.id, pipe)
	defer m.port.moved.Delete(m.id)
	_, err := m.Write(m.zeros[:n])
	return err
}

// waiting is how many bytes a pipe holds.
func waiting(pipe *os.File) int {
	n := 0
	raw, err := pipe.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { n = waitingIn(fd) })
	}
	return n
}

func waitingIn(fd uintptr) int {
	n, _ := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	return n
}

// moving is the pipe that the frame with this header takes its body from.
func (w *frameWriter) moving(header []byte) *os.File {
	pipe, _ := w.moved.Load(binary.BigEndian.Uint32(header[4:]))
	file, _ := pipe.(*os.File)
	return file
}

// move writes a frame's header and moves the frame's body from the pipe.
func (w *frameWriter) move(header []byte, pipe *os.File, body []byte) error {
	if w.relay == nil {
		relay, err := newRelay()
		if err != nil {
			return fmt.Errorf("agent channel: %w", err)
		}
		w.relay = relay
	}
	if _, err := w.ReadWriteCloser.Write(header); err != nil {
		return err
	}
	for len(body) > 0 {
		n := w.relay.take(pipe, len(body))
		if n == 0 {
			// Somebody inside has read what was there: the frame has to be filled.
			_, err := w.ReadWriteCloser.Write(body)
			return err
		}
		if err := w.relay.give(w.port, n); err != nil {
			return fmt.Errorf("agent channel: %w", err)
		}
		body = body[n:]
	}
	return nil
}

// A relay is a pipe between a process's pipe and the port. The port takes all that a
// pipe holds or breaks: virtio_console makes as many descriptors as the pipe has
// pages, however few are asked for. So the relay holds what one frame takes.
type relay struct{ in, out int }

func newRelay() (*relay, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, outputPipe); err != nil {
		return nil, err
	}
	return &relay{in: fds[1], out: fds[0]}, nil
}

// take moves up to n bytes of a pipe into the relay, as many as there are and fit.
func (r *relay) take(pipe *os.File, n int) (taken int) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		count, err := unix.Splice(int(fd), nil, r.in, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err == nil {
			taken = int(count)
		}
	})
	return taken
}

// give moves all n bytes of the relay to the port.
func (r *relay) give(port *os.File, n int) error {
	raw, err := port.SyscallConn()
	if err != nil {
		return err
	}
	for n > 0 {
		var count int64
		writeErr := raw.Write(func(fd uintptr) bool {
			count, err = unix.Splice(r.out, nil, int(fd), nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			return !errors.Is(err, unix.EAGAIN)
		})
		if err := errors.Join(err, writeErr); err != nil {
			return err
		}
		if count <= 0 {
			return errMoved
		}
		n -= int(count)
	}
	return nil
}
