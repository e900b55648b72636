package agent

import (
	"context"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// A reaper collects every child of this process: those that it was told of and
// the orphans that PID 1 inherits. Nothing else in the program may wait.
type reaper struct {
	mu sync.Mutex
	// children are those whose exit somebody waits for, by pid.
	children map[int]func(unix.WaitStatus)
}

func newReaper() *reaper {
	return &reaper{children: map[int]func(unix.WaitStatus){}}
}

// spawn starts a child by start and has its exit reported to exited. The lock
// is held across both, so that not even the fastest exit is lost.
func (r *reaper) spawn(start func() (int, error), exited func(unix.WaitStatus)) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := start()
	if err != nil {
		return 0, err
	}
	r.children[pid] = exited
	return pid, nil
}

// adopt has the exit of a child that was spawned before reported to another. It tells whether the
// child was there.
func (r *reaper) adopt(pid int, exited func(unix.WaitStatus)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[pid] == nil {
		return false
	}
	r.children[pid] = exited
	return true
}

// alive calls do while pid cannot be reaped, so that the number means the child
// that was spawned and nothing later. It tells whether the child was there.
func (r *reaper) alive(pid int, do func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[pid] == nil {
		return false
	}
	do()
	return true
}

// kill sends a signal to a child.
func (r *reaper) kill(pid int, signal unix.Signal) error {
	var err error = unix.ESRCH
	r.alive(pid, func() { err = unix.Kill(pid, signal) })
	return err
}

// run reaps until ctx ends. A goroutine that waits in waitid(2) would hold on to the scheduler's only
// processor until the runtime's monitor comes by, see slowMonitor: others that the end of
// a child concerns would wait for that.
func (r *reaper) run(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.reap()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}

// reap collects all children that have ended.
func (r *reaper) reap() {
	for {
		r.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		exited := r.children[pid]
		delete(r.children, pid)
		r.mu.Unlock()
		if err != nil || pid <= 0 {
			return
		}
		if exited != nil {
			exited(status)
		}
	}
}

// exitCode is a status as the host wants it: the exit code, or 128 plus the
// signal.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
