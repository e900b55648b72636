package agent

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// launchRow starts an exec by a row. It has been executed when launchRow returns.
func (c *container) launchRow(config stageConfig) (*process, error) {
	if c.agent.home == nil || !rowCovers(c.config.Spec, config.Process) {
		return nil, errNoRow
	}
	init, err := c.pidfd()
	if err != nil {
		return nil, err
	}
	defer init.Close()
	env, err := c.execEnv(config.Process)
	if err != nil {
		return nil, err
	}
	p := &process{reaper: c.agent.reaper, exited: make(chan struct{})}
	child, err := p.openStdio()
	if err != nil {
		return nil, err
	}
	defer closeAll(child)
	stdio := descriptors(child)
	err = giveStdio(stdio, int(config.Process.User.UID))
	if err == nil {
		err = c.perform(p, init, func() (*row, error) {
			return newExecRow(config, env, stdio, init.Fd(), kindsOf(c.config.Spec))
		})
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// perform has a child perform the row that build gives, next to init, and waits until
// it has become p's program.
func (c *container) perform(p *process, init *os.File, build func() (*row, error)) error {
	r, err := build()
	if err != nil {
		return err
	}
	defer r.close()
	born := func() (int, error) { return r.fork(0, -1) }
	cgroup, err := c.execCgroup().open()
	if err != nil {
		return err
	}
	if cgroup != nil {
		defer cgroup.Close()
		born = func() (int, error) { return r.fork(0, int(cgroup.Fd())) }
	}
	executed := sync.OnceValue(r.outcome)
	p.pid, err = c.agent.reaper.spawn(func() (int, error) { return c.inPIDNamespace(init, born) }, func(status unix.WaitStatus) {
		// The end of one that has failed is nobody's.
		if executed() == nil {
			p.finish(exitCode(status))
		}
	})
	if err != nil {
		return err
	}
	return executed()
}

// inPIDNamespace calls fork on a thread whose children are born into init's pid
// namespace, if it has one of its own. A thread that does not find back home is not
// used again.
func (c *container) inPIDNamespace(init *os.File, fork func() (int, error)) (pid int, err error) {
	if !hasNamespace(c.config.Spec, specs.PIDNamespace) {
		return fork()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(int(init.Fd()), unix.CLONE_NEWPID); err != nil {
			return
		}
		pid, err = fork()
		if unix.Setns(int(c.agent.home.Fd()), unix.CLONE_NEWPID) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	return pid, err
}

// findHome lets execs be rows. An agent whose limits are not those of its containers
// leaves it at stages, as package syscall keeps what Go has changed of them to itself.
func (a *agent) findHome() (err error) {
	a.home, err = os.Open("/proc/self/ns/pid")
	return err
}

// pidfd opens init.
func (c *container) pidfd() (*os.File, error) {
	init, err := c.process("")
	if err != nil {
		return nil, err
	}
	fd := -1
	if !c.agent.reaper.alive(init.pid, func() { fd, err = unix.PidfdOpen(init.pid, 0) }) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "init"), nil
}

// kindsOf are the namespaces of the container that a row joins.
func kindsOf(spec *specs.Spec) int {
	kinds := 0
	for _, k := range namespaceKinds {
		if hasNamespace(spec, k.kind) {
			kinds |= k.flag & rowNamespaces
		}
	}
	return kinds
}

// execEnv is the environment of an exec, with HOME.
func (c *container) execEnv(p *specs.Process) ([]string, error) {
	env, err := prepareEnv(p.Env)
	if err != nil || variable(env, "HOME") != "" {
		return env, err
	}
	home := "/"
	passwd, err := c.openFile("/etc/passwd")
	if err == nil {
		defer passwd.Close()
		home = homeOf(io.LimitReader(passwd, maxPasswd), int(p.User.UID))
	}
	return append(env, "HOME="+home), nil
}

// maxPasswd is how much of a container's /etc/passwd the agent reads, in bytes.
const maxPasswd = 1 << 20

// openFile opens a regular file of the container, which may be anything: a pipe would
// hold the agent up.
func (c *container) openFile(path string) (*os.File, error) {
	root, err := c.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := openInRoot(root, path, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(descriptorPath(int(file.Fd())))
}

// root is the root directory of init.
func (c *container) root() (*os.File, error) {
	init, err := c.process("")
	if err != nil {
		return nil, err
	}
	path, fd := fmt.Sprintf("/proc/%d/root", init.pid), -1
	if !c.agent.reaper.alive(init.pid, func() { fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) }) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func descriptors(files []*os.File) []int {
	var fds []int
	for _, file := range files {
		fds = append(fds, int(file.Fd()))
	}
	return fds
}
