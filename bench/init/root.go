package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Where the share is mounted, and its root filesystem.
const share, root = "/run", "/run/rootfs"

// mountRoot mounts the share with these options and makes its root filesystem ready
// for programs.
func mountRoot(options string) error {
	for _, m := range []mount{
		{"vmruntime", "9p", share, options},
		{"devtmpfs", "devtmpfs", root + "/dev", ""},
		{"proc", "proc", root + "/proc", ""},
		{"tmpfs", "tmpfs", root + "/tmp", ""},
	} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	return nil
}

// inRoot runs a program in the root filesystem, between the ends of the port.
func inRoot(port *os.File, line ...string) error {
	cmd := exec.Command(line[0], line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = port, port, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", line[0], err)
	}
	return nil
}
