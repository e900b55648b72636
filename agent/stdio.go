package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a container's init or an exec, from the start of its stage on.
type process struct {
	reaper   *reaper
	pid      int
	terminal bool
	// control is the socket to the stage, until execve.
	control *net.UnixConn
	// exited is closed at the end of the process, when code is set.
	exited chan struct{}
	code   int

	mu sync.Mutex
	// stdio are our ends of the process's descriptors 0 to 2. With a terminal 0
	// and 1 are its master.
	stdio    [3]*os.File
	attached [3]bool
	outputs  streams
}

// streams counts output streams that are still being copied.
type streams struct {
	mu   sync.Mutex
	list []chan struct{}
}

func (s *streams) add() (done func()) {
	end := make(chan struct{})
	s.mu.Lock()
	s.list = append(s.list, end)
	s.mu.Unlock()
	return func() { close(end) }
}

// Wait returns when all streams that were added have ended.
func (s *streams) Wait() {
	s.mu.Lock()
	list := s.list
	s.mu.Unlock()
	for _, end := range list {
		<-end
	}
}

// copyBuffer is the size in bytes of one read of input or output. With its yamux
// header a full one fills whole writes to the port, each of which costs an exit to
// the host.
const copyBuffer = 4*portWrite - yamuxHeader

// firstBuffer is the size in bytes of the first read: most processes say little, and
// pages that nobody has used before cost a guest time.
const firstBuffer = 4 << 10

// grown is the buffer for a read after one that gave n bytes.
func grown(buffer []byte, n int) []byte {
	if n < len(buffer) || len(buffer) == copyBuffer {
		return buffer
	}
	return make([]byte, copyBuffer)
}

// outputPipe is the capacity in bytes of a pipe that the process writes to: it runs
// on for that long before it has to wait for the agent.
const outputPipe = 256 << 10

// openStdio makes the process's pipes and returns its own ends. With a terminal
// it begins on /dev/null until it has made one.
func (p *process) openStdio() ([]*os.File, error) {
	if p.terminal {
		return openNull()
	}
	var child []*os.File
	for fd := range p.stdio {
		theirs, ours, err := openPipe(fd == 0)
		if err != nil {
			closeAll(child)
			p.close()
			return nil, fmt.Errorf("pipe: %w", err)
		}
		p.stdio[fd] = ours
		child = append(child, theirs)
	}
	return child, nil
}

func openNull() ([]*os.File, error) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/null: %w", err)
	}
	file := os.NewFile(uintptr(fd), "/dev/null")
	return []*os.File{file, file, file}, nil
}

// openPipe makes a pipe of which only our end is non-blocking.
func openPipe(input bool) (theirs, ours *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	their, our := fds[1], fds[0]
	if input {
		their, our = our, their
	} else {
		// A smaller one does as well.
		_, _ = unix.FcntlInt(uintptr(our), unix.F_SETPIPE_SZ, outputPipe)
	}
	if err := unix.SetNonblock(our, true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(their), "|"), os.NewFile(uintptr(our), "|"), nil
}

// attach claims a descriptor. The function that it returns serves the stream
// that was asked for it until either side has enough.
func (p *process) attach(fd int) (func(net.Conn), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd < 0 || fd > 2 || p.stdio[fd] == nil {
		return nil, fmt.Errorf("stdio: the process has no stream %d", fd)
	}
	if p.attached[fd] {
		return nil, fmt.Errorf("stdio: stream %d is taken", fd)
	}
	p.attached[fd] = true
	file := p.stdio[fd]
	if fd == 0 {
		return func(stream net.Conn) { p.input(stream, file) }, nil
	}
	done := p.outputs.add()
	return func(stream net.Conn) {
		defer done()
		p.output(stream, file)
	}, nil
}

// input copies the host's stream to the process. What comes when the process
// wants no more is thrown away, so that the host never blocks on it.
func (p *process) input(stream net.Conn, file *os.File) {
	defer stream.Close()
	// A failure is either the stream's end or that nobody reads any more.
	copyInput(file, stream)
	if !p.terminal || !p.ended() {
		// For a terminal this is a hangup; its output is lost then, as it is on
		// a real one.
		file.Close()
	}
	stream.Close()
	_, _ = io.Copy(io.Discard, stream)
}

func copyInput(file io.Writer, stream io.Reader) {
	buffer := make([]byte, firstBuffer)
	for {
		n, err := stream.Read(buffer)
		if n > 0 {
			if _, err := file.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		buffer = grown(buffer, n)
	}
}

// output copies what the process writes to the host. A host that closes the
// stream reads no more: the process gets SIGPIPE for what it writes then.
func (p *process) output(stream net.Conn, file *os.File) {
	defer stream.Close()
	go guarded(func() {
		_, _ = io.Copy(io.Discard, stream)
		file.Close()
		// A write that waits for the host to make room would wait for ever.
		stream.Close()
	})
	p.copyOutput(stream, file)
}

func (p *process) copyOutput(w io.Writer, file *os.File) {
	buffer := make([]byte, firstBuffer)
	for {
		if err := moveOutput(w, file); err != nil {
			file.Close()
			return
		}
		n, err := file.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				file.Close()
				return
			}
		}
		switch {
		case err == nil:
			buffer = grown(buffer, n)
		case errors.Is(err, os.ErrDeadlineExceeded):
			drain(w, file, buffer)
			return
		case errors.Is(err, unix.EIO) && !p.ended():
			// Nobody has the terminal open; somebody may open it again.
			p.pause()
		default:
			return
		}
	}
}

// pause waits a moment, or for the end of the process.
func (p *process) pause() {
	select {
	case <-p.exited:
	case <-time.After(50 * time.Millisecond):
	}
}

// drain copies what is there after the end of the process. It does not wait for
// more, which only a descendant could write that has outlived it.
func drain(w io.Writer, file *os.File, buffer []byte) {
	_ = file.SetReadDeadline(time.Time{})
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buffer)
			return true
		})
		if errors.Is(readErr, unix.EINTR) {
			continue
		}
		if err != nil || readErr != nil || n <= 0 {
			return
		}
		if _, err := w.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// resize sets the window size of the process's terminal.
func (p *process) resize(rows, cols uint16) error {
	p.mu.Lock()
	master := p.stdio[0]
	p.mu.Unlock()
	if !p.terminal || master == nil {
		return errors.New("the process has no terminal")
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	var resizeErr error
	err = raw.Control(func(fd uintptr) {
		resizeErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err := errors.Join(err, resizeErr); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}
