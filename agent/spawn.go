package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A launch is one stage to be started.
type launch struct {
	config stageConfig
	// flags are the namespaces that the stage is cloned into.
	flags uintptr
	// join are descriptors of the namespaces that the stage joins itself; pidNS
	// it is born into.
	join   []*os.File
	pidNS  *os.File
	cgroup cgroup
	// exited is called after the end of the process.
	exited func()
}

// spawn starts a stage and waits until it stands before its execve or, for an
// exec, behind it.
func (a *agent) spawn(l launch) (*process, error) {
	p := &process{
		reaper:   a.reaper,
		terminal: l.config.Process.Terminal,
		exited:   make(chan struct{}),
	}
	child, err := p.openStdio()
	if err != nil {
		return nil, err
	}
	defer closeAll(child)
	theirs, err := p.openControl()
	if err != nil {
		p.close()
		return nil, err
	}
	defer theirs.Close()
	files := append(append(child, theirs), l.join...)
	p.pid, err = a.reaper.spawn(func() (int, error) { return a.fork(l, files) }, func(status unix.WaitStatus) {
		p.finish(exitCode(status))
		l.exited()
	})
	if err == nil {
		theirs.Close()
		closeAll(child)
		err = p.prepare(l.config)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// fork starts the stage with files as its descriptors from 0.
func (a *agent) fork(l launch, files []*os.File) (int, error) {
	attr := &syscall.ProcAttr{
		Dir: "/",
		// The stage is short-lived and small.
		Env: []string{"GOGC=off", "GOMAXPROCS=1"},
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: l.flags},
	}
	for _, file := range files {
		attr.Files = append(attr.Files, file.Fd())
	}
	if l.cgroup.path != "" {
		dir, err := os.Open(l.cgroup.path)
		if err != nil {
			return 0, fmt.Errorf("cgroup: %w", err)
		}
		defer dir.Close()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	}
	pid, err := forkInto(l.pidNS, func() (int, error) {
		return syscall.ForkExec(a.self, []string{l.config.title()}, attr)
	})
	runtime.KeepAlive(files)
	if err != nil {
		return 0, fmt.Errorf("start the set-up process: %w", err)
	}
	return pid, nil
}

// forkInto calls fork on a thread whose children are born into a pid namespace.
// The thread is spoilt for anything else: it ends with the goroutine that never
// unlocks it.
func forkInto(pidNS *os.File, fork func() (int, error)) (int, error) {
	if pidNS == nil {
		return fork()
	}
	var pid int
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(int(pidNS.Fd()), unix.CLONE_NEWPID); err == nil {
			pid, err = fork()
		}
	}()
	<-done
	return pid, err
}

// openControl makes the socket between agent and stage and returns the stage's
// end.
func (p *process) openControl() (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "stage"), os.NewFile(uintptr(fds[1]), "agent")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	p.control = conn.(*net.UnixConn)
	return theirs, nil
}

// prepare hands the stage its work and waits until it is done.
func (p *process) prepare(config stageConfig) error {
	// A stage that is gone has said why, or has an exit status.
	_ = protocol.WriteMessage(p.control, config)
	for {
		word, err := p.listen()
		switch {
		case err != nil:
			<-p.exited
			return err
		case word == saysReady:
			return nil
		case word == 0 && config.Exec:
			// The socket was closed by execve.
			p.control.Close()
			return nil
		case word == 0:
			<-p.exited
			return fmt.Errorf("the set-up process ended with status %d; is the memory limit too low?", p.code)
		}
	}
}

// listen takes one word of the stage; 0 means that it has closed the socket.
func (p *process) listen() (byte, error) {
	var word [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := p.control.ReadMsgUnix(word[:], oob)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || err == nil && n == 0:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("set-up process: %w", err)
	case word[0] == saysTerminal:
		return word[0], p.takeTerminal(oob[:oobn])
	case word[0] == saysError:
		text, _ := io.ReadAll(p.control)
		return 0, errors.New(string(text))
	}
	return word[0], nil
}

// takeTerminal receives the master of the process's terminal.
func (p *process) takeTerminal(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return errors.New("terminal: no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return errors.New("terminal: no descriptor came")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	master := os.NewFile(uintptr(fds[0]), "ptmx")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stdio = [3]*os.File{master, master, nil}
	return nil
}

// release lets a prepared init go on to its execve and waits for that.
func (p *process) release() error {
	defer p.control.Close()
	if _, err := p.control.Write([]byte{saysStart}); err != nil {
		return errNotRunning
	}
	_, err := p.listen()
	return err
}

// finish records the end of the process and lets its streams run dry.
func (p *process) finish(code int) {
	p.code = code
	close(p.exited)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, file := range p.stdio {
		if file != nil {
			_ = file.SetDeadline(time.Unix(1, 0))
		}
	}
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// close lets go of a process that came to nothing.
func (p *process) close() {
	closeAll(p.stdio[:])
	if p.control != nil {
		p.control.Close()
	}
}

func closeAll(files []*os.File) {
	for _, file := range files {
		if file != nil {
			file.Close()
		}
	}
}
