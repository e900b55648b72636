package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithUs has the kernel end a QEMU whose bench was killed. It goes by the
// thread that starts it, which is why main keeps its own.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
}
