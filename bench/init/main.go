// Command init is PID 1 of the bare machines that containers are compared with:
// it loads the modules of its initramfs, does the job that the kernel's command
// line names, and powers off.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// run does the job. What the kernel does not know on its command line it puts
// into our environment.
func run() error {
	if err := loadModules(); err != nil {
		return err
	}
	for _, m := range []mount{{"devtmpfs", "devtmpfs", "/dev", ""}, {"sysfs", "sysfs", "/sys", ""}} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	switch job := os.Getenv("bench_job"); job {
	case "stdio":
		return stdio(port, os.Getenv("bench_options"))
	case "files":
		return files(port, os.Getenv("bench_options"))
	case "network":
		return network(port, os.Getenv("bench_options"))
	default:
		return fmt.Errorf("there is no job %q", job)
	}
}

func loadModules() error {
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(order)) {
		file, err := os.Open(filepath.Join("/modules", name))
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		file.Close()
	}
	return nil
}

// openPort opens the only virtio-serial port.
func openPort() (*os.File, error) {
	ports, err := filepath.Glob("/sys/class/virtio-ports/*")
	if err != nil {
		return nil, err
	}
	if len(ports) != 1 {
		return nil, fmt.Errorf("%d virtio-serial ports", len(ports))
	}
	return os.OpenFile(filepath.Join("/dev", filepath.Base(ports[0])), os.O_RDWR, 0)
}

// A mount is one call of mount(2).
type mount struct{ source, kind, target, options string }

func (m mount) mount() error {
	flags := uintptr(0)
	if m.kind == "bind" {
		flags = unix.MS_BIND
	}
	err := unix.Mount(m.source, m.target, m.kind, flags, m.options)
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}
