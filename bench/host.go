package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// A Machine is what the values of a report depend on.
type Machine struct {
	CPU         string `json:"cpu"`
	CPUs        int    `json:"cpus"`
	MemoryMiB   uint64 `json:"memoryMiB"`
	Kernel      string `json:"kernel"`
	GuestKernel string `json:"guestKernel"`
	Accelerator string `json:"accelerator"`
	QEMU        string `json:"qemu"`
	Libvirt     string `json:"libvirt"`
	Runc        string `json:"runc"`
	Crun        string `json:"crun"`
	// Load is that of the last minute before the first measurement.
	Load string `json:"load"`
}

// thisMachine describes the one we run on.
func thisMachine(ctx context.Context, guestDir string) (Machine, error) {
	m := Machine{CPUs: goruntime.NumCPU()}
	image, err := guest.Open(guestDir)
	if err != nil {
		return m, err
	}
	m.GuestKernel = image.Release
	proof, err := vm.NewProof(image.Kernel, image.Initramfs)
	if err != nil {
		return m, err
	}
	verdict, err := vm.ProveKVM(ctx, proof)
	if err != nil {
		return m, err
	}
	m.Accelerator = "KVM"
	if verdict.Accelerator == vm.TCG {
		m.Accelerator = "TCG"
	}
	for _, of := range []struct {
		to   *string
		line []string
	}{
		{&m.QEMU, []string{vm.QEMU, "--version"}},
		{&m.Libvirt, []string{"virsh", "--version"}},
		{&m.Runc, []string{"runc", "--version"}},
		{&m.Crun, []string{"crun", "--version"}},
	} {
		if *of.to, err = versionOf(ctx, of.line); err != nil {
			return m, err
		}
	}
	err = m.look()
	return m, err
}

// look fills what the kernel tells.
func (m *Machine) look() error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return os.NewSyscallError("sysinfo", err)
	}
	m.MemoryMiB = info.Totalram * uint64(info.Unit) >> 20
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return os.NewSyscallError("uname", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	m.Load, _, _ = strings.Cut(string(load), " ")
	m.CPU, err = cpuName("/proc/cpuinfo")
	return err
}

func cpuName(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no model name", path)
}

// versionOf is the first word with a digit of the first line that a program prints
// about itself.
func versionOf(ctx context.Context, line []string) (string, error) {
	text, err := exec.CommandContext(ctx, line[0], line[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(line, " "), err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	for _, word := range strings.Fields(string(first)) {
		if word[0] >= '0' && word[0] <= '9' {
			return word, nil
		}
	}
	return "", fmt.Errorf("%s prints no version: %q", strings.Join(line, " "), first)
}
