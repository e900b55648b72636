package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// The agent of a machine that becomes a template forks a stage before it is saved: what a clone
// would otherwise do first, and translate where there is no KVM, is the start of a Go program and
// that of a network namespace. The stage is born into the namespaces that nearly every container
// has, and waits for the descriptors of its first one; a container that wants others gets a
// stage of its own.

// preforkFlags are those namespaces.
const preforkFlags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// preforkTitle is such a stage's argv[0].
const preforkTitle = stageTitle + "preforked"

// maxPassed is how many descriptors a message takes (SCM_RIGHTS of unix(7)).
const maxPassed = 253

// prefork starts the stage and returns when it waits.
func (a *agent) prefork() error {
	warmUp()
	makeThreads(spareThreads)
	p := &process{reaper: a.reaper, exited: make(chan struct{})}
	null, err := openNull()
	if err != nil {
		return err
	}
	defer closeAll(null)
	theirs, err := p.openControl()
	if err != nil {
		return err
	}
	p.pid, err = a.reaper.spawn(func() (int, error) {
		return a.fork(launch{preforked: true, flags: preforkFlags}, append(null, theirs))
	}, func(status unix.WaitStatus) { p.finish(exitCode(status)) })
	theirs.Close()
	if err == nil {
		var word byte
		if word, err = p.listen(); err == nil && word != saysWaiting {
			err = errors.New("it has ended")
		}
	}
	if err != nil {
		p.close()
		return fmt.Errorf("preforked stage: %w", err)
	}
	a.preforked = p
	return nil
}

// spareThreads are more than a start has in system calls at once.
const spareThreads = 3

// makeThreads has the scheduler make as many threads, which it keeps for goroutines that
// find no other.
func makeThreads(n int) {
	var made, done sync.WaitGroup
	made.Add(n)
	done.Add(n)
	for range n {
		go func() {
			defer done.Done()
			// A thread is nobody else's while its goroutine waits.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			made.Done()
			made.Wait()
		}()
	}
	done.Wait()
}

// takePreforked gives the stage to its first asker, nil where there is none.
func (a *agent) takePreforked() *process {
	a.mu.Lock()
	defer a.mu.Unlock()
	stage := a.preforked
	a.preforked = nil
	return stage
}

// fitsPreforked tells whether a preforked stage can be the one of the launch.
func (l launch) fitsPreforked() bool {
	return l.flags == preforkFlags && len(l.born) == 0 && len(l.clocks) == 0 && !l.config.Exec && len(l.files)+3 <= maxPassed
}

// lend makes the preforked stage that of p, with the given standard descriptors.
func (stage *process) lend(p *process, l launch, stdio []*os.File, exited func(unix.WaitStatus)) error {
	if err := l.cgroup.enter(stage.pid); err != nil {
		return err
	}
	rights := unix.UnixRights(append(descriptors(stdio), descriptors(l.files)...)...)
	if _, _, err := stage.control.WriteMsgUnix([]byte{saysFiles}, rights, nil); err != nil {
		return err
	}
	if !stage.reaper.adopt(stage.pid, exited) {
		return errors.New("the preforked stage has ended")
	}
	p.pid, p.control = stage.pid, stage.control
	return nil
}

// dismiss ends a preforked stage that nobody wants.
func (stage *process) dismiss() {
	stage.control.Close()
	_ = stage.reaper.kill(stage.pid, unix.SIGKILL)
}

// wait is the preforked stage until it has its descriptors.
func (s *stage) wait() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	s.loopback = true
	warmUp()
	if _, err := unix.Write(controlFD, []byte{saysWaiting}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	fds, err := receiveFiles()
	if err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	for fd, received := range fds[:3] {
		if err := unix.Dup3(received, fd, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
		unix.Close(received)
	}
	s.rootfs.sources.received = fds[3:]
	return nil
}

// receiveFiles takes the descriptors that lend sends.
func receiveFiles() ([]int, error) {
	var word [1]byte
	oob := make([]byte, unix.CmsgSpace(4*maxPassed))
	n, oobn, _, _, err := unix.Recvmsg(controlFD, word[:], oob, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, oobn, _, _, err = unix.Recvmsg(controlFD, word[:], oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	if n == 0 || word[0] != saysFiles {
		return nil, errors.New("the agent is gone")
	}
	fds, err := passedFiles(oob[:oobn])
	if err == nil && len(fds) < 3 {
		err = fmt.Errorf("only %d", len(fds))
	}
	return fds, err
}

// warmUp has encoding/json look at the types of what agent, host and stage tell each other: it keeps
// what it finds out.
func warmUp() {
	for _, v := range []any{protocol.Request{}, protocol.Response{}, seed{}, stageConfig{}} {
		_, _ = json.Marshal(v)
	}
}
