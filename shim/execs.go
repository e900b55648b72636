package shim

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dismissGrace is how long execs have to end by themselves with the container,
	// and dismissTimeout how long the container's end waits for theirs.
	dismissGrace   = 300 * time.Millisecond
	dismissTimeout = 2 * time.Second
)

// execs are the further processes of a container.
type execs struct {
	mu      sync.Mutex
	running map[string]running
	next    int
	over    bool
}

// running is an exec by what stands for it on the host: a proxy, or the command
// that waits for it.
type running struct {
	conn  *net.UnixConn
	proxy int
	// pidfd pins the pid; it is -1 for a process that cannot be seen from here.
	pidfd int
}

// add names a new exec after nothing but its number.
func (e *execs) add(conn *net.UnixConn) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return "", ErrNotRunning
	}
	e.next++
	name := fmt.Sprintf("exec-%d", e.next)
	pid := peer(conn)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		fd = -1
	}
	if e.running == nil {
		e.running = map[string]running{}
	}
	e.running[name] = running{conn, pid, fd}
	return name, nil
}

// remove forgets an exec that has been told its end, once its proxy is gone.
func (e *execs) remove(name string) {
	e.mu.Lock()
	r := e.running[name]
	e.mu.Unlock()
	awaitReaped(r.pidfd, time.Now().Add(dismissTimeout))
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, name)
	if r.pidfd >= 0 {
		unix.Close(r.pidfd)
	}
}

func (e *execs) pids() []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	var pids []int
	for _, r := range e.running {
		pids = append(pids, r.proxy)
	}
	slices.Sort(pids)
	return pids
}

// dismiss sees to it that every proxy is gone, and its supervisor knows, before the
// container's own end can be seen. So it is with runc, where the kernel ends a pid
// namespace before its init; Docker 20.10 waits for ever for an exec of whose end it
// hears after its container's. Another call returns when the first has.
func (e *execs) dismiss() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	e.over = true
	grace, deadline := time.Now().Add(dismissGrace), time.Now().Add(dismissTimeout)
	for _, r := range e.running {
		awaitReaped(r.pidfd, grace)
	}
	for _, r := range e.running {
		r.conn.Close()
	}
	for _, r := range e.running {
		awaitReaped(r.pidfd, deadline)
	}
}

// awaitReaped waits until somebody has taken the exit status of a process: of two
// that have ended, a supervisor may find the later one first.
func awaitReaped(pidfd int, deadline time.Time) {
	if pidfd < 0 || !awaitPidfd(pidfd, max(0, int(time.Until(deadline).Milliseconds()))) {
		return
	}
	// The kernel has no event for it.
	for unix.PidfdSendSignal(pidfd, 0, nil, 0) == nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
}

// peer is the pid at the other end of the socket, 0 if the kernel does not say.
func peer(conn *net.UnixConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// processes are the host's pids that stand for the container's.
func (c *container) processes() []int { return append([]int{os.Getpid()}, c.execs.pids()...) }
