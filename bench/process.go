package main

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/cgroup"
)

// dieWithUs has the kernel end a QEMU whose bench was killed. It goes by the
// thread that starts it, which is why main keeps its own.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
}

// launch starts a command in the group, which may be none.
func launch(cmd *exec.Cmd, group *cgroup.Group) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := group.Add(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return nil
}
