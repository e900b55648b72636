package shim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OOMWord is the first on the command line of the process that dies so that an
// engine learns of an OOM kill inside (vmruntime-shim).
const OOMWord = "oom"

const (
	// goneTimeout bounds how long a machine may take to end, and oomTimeout how
	// long all of telling an OOM kill takes afterwards: engines wait for the exit.
	goneTimeout = 5 * time.Second
	oomTimeout  = 3 * time.Second
	// oomNotice is how long an engine has to read the kernel's word before it
	// hears of the exit, which comes another way.
	oomNotice = 500 * time.Millisecond
	oomMost   = 256 << 20
)

// tellOOM has the host's kernel say of the container's cgroup what the guest's has
// done: engines listen to nothing else. The machine has to be gone before, with
// its memory: there is nobody left to kill but the shim and the victim. What goes
// wrong is for the log, the container has ended all the same.
func (c *container) tellOOM() {
	if err := c.oom(); err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime shim: the engine does not learn of the OOM kill:", err)
	}
}

func (c *container) oom() error {
	go func() { _ = c.machine.Destroy() }()
	select {
	case <-c.machine.gone:
	case <-time.After(goneTimeout):
		return errors.New("the machine does not end")
	}
	victim, err := startVictim()
	if err != nil {
		return fmt.Errorf("victim: %w", err)
	}
	defer victim.end()
	spareSelf()
	if err := c.cgroup.Squeeze(); err != nil {
		return err
	}
	if err := victim.die(); err != nil {
		return err
	}
	time.Sleep(oomNotice)
	return nil
}

// A victim is a process that the OOM killer prefers to all others.
type victim struct {
	cmd   *exec.Cmd
	word  io.WriteCloser
	ready io.ReadCloser
}

// startVictim starts it in the shim's cgroup, and waits until it needs no more
// memory than it has.
func startVictim() (*victim, error) {
	cmd := exec.Command("/proc/self/exe", OOMWord)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Env = []string{"GOGC=off", "GOMAXPROCS=1"}
	word, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	v := &victim{cmd, word, ready}
	timer := time.AfterFunc(oomTimeout, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if _, err := bufio.NewReader(ready).ReadByte(); err != nil {
		v.end()
		return nil, fmt.Errorf("it is not ready: %w", err)
	}
	return v, nil
}

// die has it take memory until it is killed.
func (v *victim) die() error {
	timer := time.AfterFunc(oomTimeout, func() { _ = v.cmd.Process.Kill() })
	defer timer.Stop()
	// It may be dead already, which Wait tells.
	_, _ = v.word.Write([]byte{0})
	err := v.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() && timer.Stop() {
		return nil
	}
	return fmt.Errorf("the kernel has not killed the victim: %v", v.cmd.ProcessState)
}

func (v *victim) end() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// Victim is the victim's process. It returns its exit status if nobody has killed it.
func Victim() int {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return failureCode
	}
	memory, err := unix.Mmap(-1, 0, oomMost, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return failureCode
	}
	if _, err := os.Stdout.Write([]byte{0}); err != nil {
		return failureCode
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return failureCode
	}
	for at := 0; at < len(memory); at += os.Getpagesize() {
		memory[at] = 1
	}
	return 0
}
