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
	"time"

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

// pause is between two looks at what the kernel tells by no event.
const pause = time.Millisecond

// openPort opens the only virtio-serial port, which the driver makes when the host has
// told it of it, and waits for the host: what is read before that is its end.
func openPort() (*os.File, error) {
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(pause) {
		ports, err := filepath.Glob("/dev/vport*")
		if err != nil {
			return nil, err
		}
		if len(ports) == 1 {
			return connect(ports[0])
		}
	}
	return nil, errors.New("there is no virtio-serial port")
}

func connect(path string) (*os.File, error) {
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	for {
		poll := []unix.PollFd{{Fd: int32(port.Fd()), Events: unix.POLLOUT}}
		if _, err := unix.Poll(poll, -1); err == nil && poll[0].Revents&unix.POLLHUP == 0 {
			return port, nil
		}
		time.Sleep(pause)
	}
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
