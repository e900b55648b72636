package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// files runs fio in the share's root filesystem, the volume bound into it, as a
// container has both, and writes what fio says to the port.
func files(port *os.File, options string) error {
	const share, root = "/run", "/run/rootfs"
	for _, m := range []mount{
		{"vmruntime", "9p", share, options},
		{"devtmpfs", "devtmpfs", root + "/dev", ""},
		{"proc", "proc", root + "/proc", ""},
		{"tmpfs", "tmpfs", root + "/tmp", ""},
		{share + "/volume", "bind", root + "/volume", ""},
	} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	fio := exec.Command("/usr/bin/fio", "--output-format=json", "/volume/files.fio")
	fio.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	fio.Dir = "/"
	fio.Stdout, fio.Stderr = port, os.Stderr
	if err := fio.Run(); err != nil {
		return fmt.Errorf("fio: %w", err)
	}
	return nil
}
