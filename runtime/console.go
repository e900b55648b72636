package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containerd/console"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/shim"
)

// checkConsole is runc's check of what goes with a terminal, in runc's words.
func checkConsole(terminal, detach bool, socket string) error {
	switch {
	case detach && terminal && socket == "":
		return errors.New("cannot allocate tty if vmruntime will detach without setting console socket")
	case (!detach || !terminal) && socket != "":
		return errors.New("cannot use console socket if vmruntime will not detach or allocate tty")
	}
	return nil
}

// A stdio is what a new process of the container is given: our own descriptors,
// or a terminal whose master somebody else is to have.
type stdio struct {
	shim.Stdio
	master console.Console
	name   string
	socket *net.UnixConn
}

// openStdio makes the terminal that the process wants and reaches the socket
// that its master goes to.
func openStdio(p *specs.Process, socket string) (*stdio, error) {
	if !p.Terminal {
		return &stdio{Stdio: shim.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}}, nil
	}
	s, err := openPTY(p.ConsoleSize)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if socket == "" {
		return s, nil
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("console socket %s cannot be reached: %s", socket, cause(err))
	}
	s.socket = conn
	return s, nil
}

// openPTY makes a terminal that changes nothing: the one inside does that.
func openPTY(size *specs.Box) (*stdio, error) {
	master, name, err := console.NewPty()
	if err != nil {
		return nil, err
	}
	s := &stdio{master: master, name: name}
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		s.close()
		return nil, err
	}
	s.Stdio = shim.Stdio{In: slave, Out: slave, Err: slave, Terminal: true}
	_, err = makeRaw(slave.Fd())
	if err == nil && size != nil && size.Width != 0 && size.Height != 0 {
		err = master.Resize(console.WinSize{Width: uint16(size.Width), Height: uint16(size.Height)})
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// send hands the master over: one message with one descriptor and the
// terminal's name.
func (s *stdio) send() error {
	if s.socket == nil {
		return nil
	}
	rights := unix.UnixRights(int(s.master.Fd()))
	if _, _, err := s.socket.WriteMsgUnix([]byte(s.name), rights, nil); err != nil {
		return fmt.Errorf("console socket: %w", err)
	}
	return nil
}

// closeSlave leaves the terminal's other end to the container alone: its end is
// the end of the output.
func (s *stdio) closeSlave() {
	if s.Terminal {
		s.In.Close()
	}
}

func (s *stdio) close() {
	if s.socket != nil {
		s.socket.Close()
	}
	if s.master != nil {
		s.master.Close()
	}
	s.closeSlave()
}

// cause is the innermost error, in runc's sense of what went wrong.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return reason(err)
		}
		err = inner
	}
}
