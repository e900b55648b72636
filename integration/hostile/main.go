// Command hostile is the agent of a guest that means harm. It is built into a
// guest as PID 1 in place of vmagent, and does what the file named behaviour in
// the container's root filesystem says.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// unprepared tells on the console that no harm was done, so that tests fail.
const unprepared = "unprepared"

func main() {
	if err := run(); err != nil {
		fmt.Println("hostile:", err)
	}
	powerOff()
}

func run() error {
	for _, m := range []struct{ kind, target string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if probing() {
		return nil
	}
	name, err := readBehaviour()
	if err != nil {
		return fmt.Errorf("%s: %w", unprepared, err)
	}
	behave, ok := behaviours[name]
	if !ok {
		return fmt.Errorf("%s: no behaviour is named %q", unprepared, name)
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	return behave(port)
}

func loadModules() error {
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(order)) {
		file, err := os.Open("/modules/" + name)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil {
			fmt.Println("hostile: module", name, err)
		}
		file.Close()
	}
	return nil
}

// probing tells whether the guest is only asked to prove that it boots.
func probing() bool {
	line, err := os.ReadFile("/proc/cmdline")
	return err == nil && slices.Contains(strings.Fields(string(line)), protocol.ProbeWord)
}

// readBehaviour looks into the root filesystem of the one container.
func readBehaviour() (string, error) {
	const share = "/run/share"
	if err := os.MkdirAll(share, 0o755); err != nil {
		return "", err
	}
	if err := unix.Mount(protocol.ShareTag, share, "9p", unix.MS_RDONLY, "trans=virtio,version=9p2000.L"); err != nil {
		return "", fmt.Errorf("mount the share: %w", err)
	}
	files, _ := filepath.Glob(share + "/*.rootfs/behaviour")
	if len(files) != 1 {
		return "", fmt.Errorf("%d files named behaviour", len(files))
	}
	text, err := os.ReadFile(files[0])
	return strings.TrimSpace(string(text)), err
}

// openPort opens the agent channel and waits until the host is at its other
// end.
func openPort() (*os.File, error) {
	for {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err == nil && strings.TrimSpace(string(text)) == protocol.PortName {
				return connect("/dev/" + filepath.Base(filepath.Dir(name)))
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func connect(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, err := unix.Poll(poll, -1); err == nil && poll[0].Revents&unix.POLLHUP == 0 {
			return os.NewFile(uintptr(fd), path), nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	sleep()
}

// panicKernel ends PID 1, which no kernel survives.
func panicKernel() { os.Exit(1) }

// sleep never returns.
func sleep() {
	for {
		time.Sleep(time.Hour)
	}
}
