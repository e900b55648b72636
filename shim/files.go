package shim

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
)

// A fileServer is the virtiofsd of a machine. 9p has none: QEMU serves the files
// itself, and every method of the nil fileServer does nothing.
type fileServer struct {
	process *os.Process
	log     string
	// gone is closed when it has ended.
	gone chan struct{}
}

// serveFiles starts the file server of a machine whose directory is dir, if its
// transport has one. It listens when this returns.
func serveFiles(dir string, c vm.Config) (*fileServer, error) {
	if c.Transport != vm.Virtiofs {
		return nil, nil
	}
	program, err := vm.FindVirtiofsd()
	if err != nil {
		return nil, err
	}
	socket, err := listenBlocking(c.ShareSocket)
	if err != nil {
		return nil, fmt.Errorf("socket of virtiofsd: %w", err)
	}
	defer socket.Close()
	f := &fileServer{log: filepath.Join(dir, "virtiofsd.log"), gone: make(chan struct{})}
	output, err := os.OpenFile(f.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd := exec.Command(c.Virtiofsd, program, c.Share)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{socket}
	if err := f.start(cmd); err != nil {
		return nil, err
	}
	go boundLog(f.log, f.gone)
	return f, nil
}

// start runs the server on a thread of its own that waits for its end: the kernel
// kills it when the thread that has started it ends, or the shim.
func (f *fileServer) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(f.gone)
		err := start(cmd)
		f.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start of virtiofsd: %w", err)
	}
	return nil
}

// listenBlocking is a socket for a program that waits in accept. Go's own ones do
// not wait.
func listenBlocking(path string) (*os.File, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return blocking(l)
}

func blocking(l *net.UnixListener) (*os.File, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(int(file.Fd()), false); err != nil {
		file.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	return file, nil
}

// follow ends the server with the machine, and the machine with the server:
// everything in it would wait for its files for ever.
func (f *fileServer) follow(m *machine) {
	if f == nil {
		return
	}
	go func() {
		select {
		case <-f.gone:
			_ = m.Destroy()
		case <-m.gone:
			_ = f.end()
		}
	}()
}

// end kills the server, waits until it has gone, and gives back what it said.
func (f *fileServer) end() error {
	if f == nil {
		return nil
	}
	_ = f.process.Kill()
	<-f.gone
	text, err := os.ReadFile(f.log)
	if err == nil && len(text) > 0 {
		err = fmt.Errorf("virtiofsd: %s", plain(strings.TrimSpace(string(text))))
	}
	return err
}

// sourceOption is the argument of virtiofsd by which it is told from others; see
// vmruntime-virtiofsd.
func sourceOption(dir string) string { return "source=" + filepath.Join(dir, "share") }
