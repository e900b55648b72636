package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// copyBuffer is the size of one read or write of stdio in bytes.
const copyBuffer = 64 << 10

// A processIO connects a process's streams in the guest with descriptors of the
// host. Every stream has its own goroutine: a reader that sleeps holds up
// nothing but its own stream.
type processIO struct {
	files    Stdio
	in       net.Conn
	outputs  sync.WaitGroup
	stop     *os.File
	stopped  *os.File
	stopOnce sync.Once
}

// attach opens the streams of a process and starts to pass its output on.
// The input begins with feed.
func attach(ctx context.Context, g *guest, t protocol.Target, files Stdio) (*processIO, error) {
	stopped, stop, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &processIO{files: files, stop: stop, stopped: stopped}
	if err := p.open(ctx, g, t); err != nil {
		p.close()
		stopped.Close()
		return nil, err
	}
	return p, nil
}

// open opens all streams at once: each takes a turn to the guest.
func (p *processIO) open(ctx context.Context, g *guest, t protocol.Target) error {
	files := []*os.File{p.files.In, p.files.Out, p.files.Err}
	if p.files.Terminal {
		files = files[:2]
	}
	streams := make([]net.Conn, len(files))
	var turns errgroup.Group
	for fd := range files {
		turns.Go(func() (err error) {
			streams[fd], err = g.stdio(ctx, t, fd)
			return err
		})
	}
	if err := turns.Wait(); err != nil {
		closeStreams(streams)
		return err
	}
	p.in = streams[0]
	for fd, stream := range streams[1:] {
		p.outputs.Go(func() {
			drain(files[fd+1], stream)
			if !p.files.Terminal {
				// A process that closes its output lives on: whoever reads it
				// must not wait for its end.
				files[fd+1].Close()
			}
		})
	}
	return nil
}

func closeStreams(streams []net.Conn) {
	for _, stream := range streams {
		if stream != nil {
			stream.Close()
		}
	}
}

// drain passes output on until the guest closes the stream or nobody reads any
// more, which the guest learns from our closing it.
func drain(file *os.File, stream net.Conn) {
	defer stream.Close()
	_, _ = io.CopyBuffer(struct{ io.Writer }{file}, stream, make([]byte, copyBuffer))
}

// feed passes the input on until it ends, or the process does.
func (p *processIO) feed() {
	go func() {
		defer p.in.Close()
		defer p.stopped.Close()
		input := &stoppable{file: p.files.In, stop: p.stopped}
		_, _ = io.CopyBuffer(struct{ io.Writer }{p.in}, input, make([]byte, copyBuffer))
	}()
}

// delivered is closed once all output has been passed on.
func (p *processIO) delivered() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		p.outputs.Wait()
		close(done)
	}()
	return done
}

// close stops the reading of input. The descriptors of input and terminal remain
// the caller's; those of output are closed when they have ended.
func (p *processIO) close() {
	p.stopOnce.Do(func() { p.stop.Close() })
	if p.in != nil {
		p.in.Close()
	}
}

// A stoppable reads a descriptor that others share. It may be a terminal of
// somebody's shell, so it is neither set non-blocking nor read without anything
// being there: closing the write end of stop ends a waiting Read.
type stoppable struct {
	file *os.File
	stop *os.File
}

func (s *stoppable) Read(p []byte) (n int, err error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	// A file that is closed meanwhile keeps its number until the read is over:
	// another exec's input must not get it.
	if closed := raw.Control(func(fd uintptr) { n, err = s.read(int(fd), p) }); closed != nil {
		return 0, closed
	}
	return n, err
}

func (s *stoppable) read(fd int, p []byte) (int, error) {
	for {
		poll := []unix.PollFd{
			{Fd: int32(fd), Events: unix.POLLIN},
			{Fd: int32(s.stop.Fd()), Events: unix.POLLIN},
		}
		_, err := unix.Poll(poll, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case poll[1].Revents != 0:
			return 0, io.EOF
		}
		n, err := unix.Read(fd, p)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
