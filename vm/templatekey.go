package vm

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// terms are what a clone needs to be as they were when its template was saved,
// beside the domain XML, which is in the template's name.
type terms struct {
	// Files are the kernel, the initramfs, the firmware, the emulator wrapper and QEMU.
	Files map[string]FileID `json:"files"`
	// Libvirt is the library's version.
	Libvirt uint32 `json:"libvirt"`
	// Host is the release of the host's kernel, CPU its CPU with all features.
	Host string `json:"host"`
	CPU  string `json:"cpu"`
}

// TemplateKey sums up the terms on which a template of machines like c is saved
// here. libvirt is the version of the library that starts them.
func TemplateKey(c Config, libvirt uint32) (string, error) {
	key, err := templateKey(c, libvirt)
	if err != nil {
		return "", fmt.Errorf("key of a template: %w", err)
	}
	return key, nil
}

func templateKey(c Config, libvirt uint32) (string, error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", err
	}
	t := terms{Files: map[string]FileID{}, Libvirt: libvirt}
	files := []string{c.Kernel, c.Initramfs, c.Emulator, qemu}
	if c.Firmware != "" {
		files = append(files, c.Firmware)
	}
	for _, path := range files {
		if t.Files[path], err = fileID(path); err != nil {
			return "", err
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	t.Host = unix.ByteSliceToString(name.Release[:])
	if t.CPU, err = cpuModel("/proc/cpuinfo"); err != nil {
		return "", err
	}
	text, err := json.Marshal(t)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// cpuModel is what the host's first CPU says of itself, without what changes by
// itself (proc_cpuinfo(5)).
func cpuModel(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	var model []string
	lines := bufio.NewScanner(file)
	for lines.Scan() && lines.Text() != "" {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(name) {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "address sizes":
			model = append(model, strings.TrimSpace(value))
		}
	}
	return strings.Join(model, "\n"), lines.Err()
}
