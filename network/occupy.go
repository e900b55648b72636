package network

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrOccupied is for a namespace that has a VM.
var ErrOccupied = errors.New("it is the network of another VM")

// occupied is the name of a Unix socket, which every network namespace has its own of
// (unix(7), abstract sockets; network_namespaces(7)). Nobody listens to it.
const occupied = "@vmruntime"

// Occupy makes the calling thread's namespace that of one VM, until leave is called or
// the process ends. That it is another VM's is ErrOccupied: the kernel decides between
// two that come at once.
func Occupy() (leave func() error, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	leave = func() error { return unix.Close(fd) }
	switch err := unix.Bind(fd, &unix.SockaddrUnix{Name: occupied}); {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, errors.Join(ErrOccupied, leave())
	case err != nil:
		return nil, errors.Join(os.NewSyscallError("bind", err), leave())
	}
	return leave, nil
}
