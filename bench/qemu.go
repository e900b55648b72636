package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vmruntime/vmruntime/vm"
)

// A machine is the command line of a container's QEMU: bare ones are made of it,
// so that they have the same CPU, memory, kernel and devices.
type machine []string

// machineOf is the QEMU that runs as a child of the container's shim.
func machineOf(c *container) (machine, error) {
	pid, err := qemuOf(c.pid)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}

// qemuOf is the pid of a shim's QEMU.
func qemuOf(shim int) (int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", shim))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		// A thread may have ended.
		text, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(text)) {
			name, _ := os.ReadFile(filepath.Join("/proc", word, "cmdline"))
			if bytes.Contains(name, []byte(vm.QEMU+"\x00")) {
				return strconv.Atoi(word)
			}
		}
	}
	return 0, fmt.Errorf("shim %d has no QEMU", shim)
}

// example starts a container that stays, and gives its machine.
func (l *lab) example(ctx context.Context, p program) (*container, machine, error) {
	bundle, err := l.bundle([]string{"sleep", "infinity"})
	if err != nil {
		return nil, nil, err
	}
	c, err := l.start(ctx, p, bundle)
	if err != nil {
		return nil, nil, err
	}
	m, err := machineOf(c)
	return c, m, err
}

// option is the value of an option that occurs once.
func (m machine) option(name string) string {
	if i := slices.Index(m, name); i >= 0 && i+1 < len(m) {
		return m[i+1]
	}
	return ""
}

// bare is a QEMU with the machine's CPU and memory that boots this kernel and
// initramfs, with these words behind the usual ones for the kernel, and no devices
// but those of args.
func (m machine) bare(ctx context.Context, kernel, initramfs string, words []string, args ...string) *exec.Cmd {
	line := []string{"-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "null"}
	for _, name := range []string{"-accel", "-cpu", "-m", "-smp"} {
		if value := m.option(name); value != "" {
			line = append(line, name, value)
		}
	}
	line = append(line, "-kernel", kernel, "-initrd", initramfs,
		"-append", vm.Cmdline(words...))
	cmd := exec.CommandContext(ctx, vm.QEMU, append(line, args...)...)
	cmd.SysProcAttr = dieWithUs()
	return cmd
}

// share are the options that give a bare machine the lab's share as the
// container's machine has its own.
func (m machine) share(l *lab) ([]string, error) {
	const device = `"virtio-9p-pci"`
	i := slices.IndexFunc(m, func(arg string) bool { return strings.Contains(arg, device) })
	fsdev := m.option("-fsdev")
	if i < 0 || fsdev == "" {
		return nil, fmt.Errorf("the container's machine has no 9p share: %q", m)
	}
	fields := strings.Split(fsdev, ",")
	for n, f := range fields {
		if strings.HasPrefix(f, "path=") {
			fields[n] = "path=" + l.share()
		}
	}
	return []string{"-fsdev", strings.Join(fields, ","), "-device", m[i]}, nil
}
