package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	for _, pid := range children(shim) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(name, []byte(vm.QEMU+"\x00")) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("shim %d has no QEMU", shim)
}

// children are those of all threads of a process.
func children(pid int) []int {
	// The pattern is sound.
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, file := range files {
		// A thread may have ended.
		text, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
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

// device is the first one of a driver.
func (m machine) device(driver string) string {
	i := slices.IndexFunc(m, func(arg string) bool { return strings.Contains(arg, `"driver":"`+driver+`"`) })
	if i < 0 {
		return ""
	}
	return m[i]
}

// accelerator is what decides the kernel's command line.
func (m machine) accelerator() vm.Accelerator {
	if strings.HasPrefix(m.option("-accel"), "kvm") {
		return vm.KVM
	}
	return vm.TCG
}

// bare is a QEMU with the machine's CPU and memory that boots this kernel and
// initramfs, with these words behind the usual ones for the kernel, and no devices
// but those of args.
func (m machine) bare(ctx context.Context, kernel, initramfs string, words []string, args ...string) *exec.Cmd {
	line := append(m.alike(), "-serial", "null")
	line = append(line, "-kernel", kernel, "-initrd", initramfs,
		"-append", vm.Cmdline(m.accelerator(), words...))
	cmd := exec.CommandContext(ctx, vm.QEMU, append(line, args...)...)
	cmd.SysProcAttr = dieWithUs()
	return cmd
}

// alike are the options for a QEMU with the machine's CPU, memory and firmware and no devices.
func (m machine) alike() []string {
	line := []string{"-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"}
	for _, name := range []string{"-accel", "-cpu", "-m", "-smp", "-bios"} {
		if value := m.option(name); value != "" {
			line = append(line, name, value)
		}
	}
	// In emulation it decides what asking for the time costs.
	const noHPET = "-no-hpet"
	if slices.Contains(m, noHPET) {
		line = append(line, noHPET)
	}
	return line
}

var maxPorts = regexp.MustCompile(`"max_ports":[0-9]+,`)

// plain is the machine as QEMU makes it when it is not told how to serve queues.
func (m machine) plain() machine {
	var line machine
	for i := range m {
		if !m.setsQueues(i) && !m.setsQueues(i+1) {
			line = append(line, maxPorts.ReplaceAllString(m[i], ""))
		}
	}
	return line
}

// globals are the settings for all virtio devices of a kind.
func (m machine) globals() []string {
	var args []string
	for i := range m {
		if m.setsQueues(i) {
			args = append(args, "-global", m[i])
		}
	}
	return args
}

// setsQueues tells whether an argument is the value of a -global for virtio devices.
func (m machine) setsQueues(i int) bool {
	return i > 0 && i < len(m) && m[i-1] == "-global" && strings.HasPrefix(m[i], "virtio-")
}

// nic are the options that give a bare machine the first NIC of the container's
// machine, with this tap and address.
func (m machine) nic(tap, mac string) ([]string, error) {
	var netdev struct {
		ID    string
		Vhost bool
	}
	if err := json.Unmarshal([]byte(m.option("-netdev")), &netdev); err != nil {
		return nil, fmt.Errorf("the container's machine has no NIC: %w: %q", err, m)
	}
	i := slices.IndexFunc(m, func(arg string) bool { return strings.Contains(arg, `"netdev":"`+netdev.ID+`"`) })
	if i < 0 {
		return nil, fmt.Errorf("the container's machine has no NIC for %s: %q", netdev.ID, m)
	}
	device := map[string]any{}
	if err := json.Unmarshal([]byte(m[i]), &device); err != nil {
		return nil, fmt.Errorf("the container's machine's NIC %s: %w", m[i], err)
	}
	device["mac"] = mac
	text, err := json.Marshal(device)
	backend := "tap,id=" + netdev.ID + ",ifname=" + tap + ",script=no,downscript=no"
	if netdev.Vhost {
		backend += ",vhost=on"
	}
	return []string{"-netdev", backend, "-device", string(text)}, err
}

// share are the options that give a bare machine the lab's share as the
// container's machine has its own.
func (m machine) share(l *lab) ([]string, error) {
	device := m.device("virtio-9p-pci")
	fsdev := m.option("-fsdev")
	if device == "" || fsdev == "" {
		return nil, fmt.Errorf("the container's machine has no 9p share: %q", m)
	}
	fields := strings.Split(fsdev, ",")
	for n, f := range fields {
		if strings.HasPrefix(f, "path=") {
			fields[n] = "path=" + l.share()
		}
	}
	return []string{"-fsdev", strings.Join(fields, ","), "-device", device}, nil
}
