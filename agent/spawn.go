package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A launch is one stage to be started.
type launch struct {
	config stageConfig
	// preforked is set for a stage that waits for more than its config.
	preforked bool
	// flags are the namespaces that the stage is cloned into, owned by the user
	// namespace with these mappings if that is among them.
	flags uintptr
	users userMappings
	// clocks are the offsets of the time namespace that it is born into.
	clocks map[string]specs.LinuxTimeOffset
	// born are the namespaces of others that it is born into; those that it joins
	// by itself are among files, its descriptors from joinFD.
	born   []namespace
	files  []*os.File
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
	if !p.terminal {
		if err := l.users.own(child, l.config.Process.User.UID); err != nil {
			p.close()
			return nil, err
		}
	}
	if err = a.begin(p, l, child); err == nil {
		setOOMScore(p.pid, l.config.Process.OOMScoreAdj)
		closeAll(child)
		err = p.prepare(l.config)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// begin gives p a stage with these standard descriptors: the preforked one if it fits, or a
// new one.
func (a *agent) begin(p *process, l launch, stdio []*os.File) error {
	exited := func(status unix.WaitStatus) {
		l.exited()
		p.finish(exitCode(status))
	}
	if stage := a.takePreforked(); stage != nil {
		if l.fitsPreforked() && stage.lend(p, l, stdio, exited) == nil {
			return nil
		}
		stage.dismiss()
	}
	theirs, err := p.openControl()
	if err != nil {
		return err
	}
	defer theirs.Close()
	files := slices.Concat(stdio, []*os.File{theirs}, l.files)
	p.pid, err = a.reaper.spawn(func() (int, error) { return a.fork(l, files) }, exited)
	return err
}

// title is the stage's argv[0].
func (l launch) title() string {
	switch {
	case l.preforked:
		return preforkTitle
	case l.config.Exec:
		return stageTitle + "exec"
	}
	return stageTitle + "init"
}

// fork starts the stage with files as its descriptors from 0.
func (a *agent) fork(l launch, files []*os.File) (int, error) {
	cgroupFD := -1
	dir, err := l.cgroup.open()
	if err != nil {
		return 0, err
	}
	if dir != nil {
		defer dir.Close()
		cgroupFD = int(dir.Fd())
	}
	pid, err := l.onThread(func() (int, error) {
		if l.needsBareFork() {
			return l.bareFork(a.self, files, cgroupFD).start()
		}
		return l.forkExec(a.self, files, cgroupFD)
	})
	runtime.KeepAlive(files)
	if err != nil {
		return 0, fmt.Errorf("start the set-up process: %w", err)
	}
	return pid, nil
}

// stageEnv is for a process that is short-lived and small. Its first huge page would
// be 2 MiB that the host has to keep for the machine from then on, and nothing in it runs
// so long that the scheduler had to interrupt it by signals.
var stageEnv = []string{"GOGC=off", "GOMAXPROCS=1", "GODEBUG=disablethp=1,asyncpreemptoff=1"}

func (l launch) forkExec(path string, files []*os.File, cgroupFD int) (int, error) {
	attr := &syscall.ProcAttr{
		Dir: "/",
		Env: stageEnv,
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: l.flags},
	}
	for _, file := range files {
		attr.Files = append(attr.Files, file.Fd())
	}
	if cgroupFD >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, cgroupFD
	}
	if l.flags&unix.CLONE_NEWUSER != 0 {
		l.users.apply(attr.Sys)
	}
	return syscall.ForkExec(path, []string{l.title()}, attr)
}

// needsBareFork tells what a fork of package syscall cannot do, see bareFork. It
// shares no memory with a child that gets a new user namespace.
func (l launch) needsBareFork() bool {
	if len(l.clocks) > 0 && l.flags&unix.CLONE_NEWUSER == 0 {
		return true
	}
	return slices.ContainsFunc(l.born, func(n namespace) bool { return n.kind != unix.CLONE_NEWPID })
}

func (l launch) bareFork(path string, files []*os.File, cgroupFD int) bareFork {
	f := bareFork{path: path, name: l.title(), env: stageEnv, flags: uint64(l.flags), cgroup: cgroupFD, files: files}
	for _, n := range l.born {
		if n.kind != unix.CLONE_NEWPID {
			f.join = append(f.join, n)
			f.root = f.root || n.kind == unix.CLONE_NEWUSER
		}
	}
	return f
}

// onThread calls fork on a thread whose children are born into a pid or a new time
// namespace. The thread is spoilt for anything else: it ends with the goroutine
// that never unlocks it.
func (l launch) onThread(fork func() (int, error)) (int, error) {
	i := slices.IndexFunc(l.born, func(n namespace) bool { return n.kind == unix.CLONE_NEWPID })
	if i < 0 && len(l.clocks) == 0 {
		return fork()
	}
	var pid int
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if i >= 0 {
			err = unix.Setns(int(l.born[i].file.Fd()), unix.CLONE_NEWPID)
		}
		if err == nil && len(l.clocks) > 0 {
			err = unshareTime(l.clocks)
		}
		if err == nil {
			pid, err = fork()
		}
	}()
	<-done
	return pid, err
}

// setOOMScore is a best effort: lowering it may not be allowed.
func setOOMScore(pid int, score *int) {
	if score != nil {
		_ = writeFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), strconv.Itoa(*score))
	}
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
			return fmt.Errorf("the set-up process ended with status %d: is linux.resources.memory.limit too low?", p.code)
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

// passedFiles are the descriptors of the one message that came beside a word.
func passedFiles(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d messages in the place of one", len(messages))
	}
	return unix.ParseUnixRights(&messages[0])
}

// takeTerminal receives the master of the process's terminal.
func (p *process) takeTerminal(oob []byte) error {
	fds, err := passedFiles(oob)
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
