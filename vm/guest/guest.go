// Package guest makes the guest that every container boots, and finds it again.
//
// A guest is a directory with five files: vmlinux, the uncompressed kernel of
// an ordinary distribution; initramfs, which holds vmagent as /init and the few
// modules it needs; vmlinuz and initramfs-disk, the same for disks that boot by
// themselves; and guest.json, which describes them. [Build] makes one, [Open]
// reads it, [DefaultDir] tells where it belongs.
package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vmruntime/vmruntime/protocol"
)

// The files of a guest.
const (
	kernelFile    = "vmlinux"
	initramfsFile = "initramfs"
	infoFile      = "guest.json"
	// Those of disks that boot by themselves.
	vmlinuzFile       = "vmlinuz"
	diskInitramfsFile = "initramfs-disk"
)

// errMissing is what Open's error wraps where there is no guest.
var errMissing = errors.New("no guest is built")

// Image is a guest that is ready to boot.
type Image struct {
	// Kernel and Initramfs are absolute paths.
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"`
	// Vmlinuz and DiskInitramfs are what disks boot, see [Image.CheckDisk].
	Vmlinuz       string `json:"vmlinuz"`
	DiskInitramfs string `json:"diskInitramfs"`
	Info
}

// Info is what guest.json says.
type Info struct {
	// Release is the kernel's `uname -r`.
	Release string `json:"release"`
	// Protocol is the protocol version that the guest was built for.
	Protocol int `json:"protocol"`
	// AgentBuild identifies the vmagent inside.
	AgentBuild string `json:"agentBuild"`
	// Modules are loaded at boot, in this order.
	Modules []string  `json:"modules"`
	Built   time.Time `json:"built"`
	// SHA256 holds the sums of the files, and of vmagent, in hex.
	SHA256 map[string]string `json:"sha256"`
}

// Open reads the guest in dir. It looks whether the files are there and fit
// this program, and takes their content on trust: a boot should not wait for
// sums of a hundred megabytes.
func Open(dir string) (Image, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Image{}, fmt.Errorf("open guest: %w", err)
	}
	image := Image{
		Kernel:        filepath.Join(dir, kernelFile),
		Initramfs:     filepath.Join(dir, initramfsFile),
		Vmlinuz:       filepath.Join(dir, vmlinuzFile),
		DiskInitramfs: filepath.Join(dir, diskInitramfsFile),
	}
	body, err := os.ReadFile(filepath.Join(dir, infoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("open guest %s: %w (remedy: vmruntime guest build)", dir, errMissing)
	}
	if err != nil {
		return Image{}, fmt.Errorf("open guest: %w", err)
	}
	if err := json.Unmarshal(body, &image.Info); err != nil {
		return Image{}, fmt.Errorf("open guest %s: %s: %w (remedy: vmruntime guest build)", dir, infoFile, err)
	}
	for _, path := range []string{image.Kernel, image.Initramfs} {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return Image{}, fmt.Errorf("open guest %s: %w: %s is not there (remedy: vmruntime guest build)", dir, errMissing, filepath.Base(path))
		}
	}
	if image.Protocol != protocol.Version {
		return Image{}, fmt.Errorf("open guest %s: it speaks protocol %d, this is %d (remedy: vmruntime guest build)", dir, image.Protocol, protocol.Version)
	}
	return image, nil
}

// CheckDisk tells whether the guest has what disks boot: one that was built by an
// older program has not.
func (i Image) CheckDisk() error {
	for _, path := range []string{i.Vmlinuz, i.DiskInitramfs} {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("guest %s: %w for disks: %s is not there (remedy: vmruntime guest build)", filepath.Dir(path), errMissing, filepath.Base(path))
		}
	}
	return nil
}

// DefaultDir is where the guest of the program exe belongs: build/guest in a
// checkout, lib/vmruntime/guest beside the bin directory of an installation.
func DefaultDir(exe string) string {
	if prefix, ok := checkout(exe); ok {
		return filepath.Join(prefix, "build", "guest")
	}
	return filepath.Join(prefix(exe), "lib", "vmruntime", "guest")
}

// DefaultAgent is the vmagent that belongs to the program exe.
func DefaultAgent(exe string) string { return helper(exe, "vmagent") }

// DefaultDiskAgent is the vmagent-disk that belongs to the program exe.
func DefaultDiskAgent(exe string) string { return helper(exe, "vmagent-disk") }

// DefaultEmulator is the emulator wrapper that belongs to the program exe.
func DefaultEmulator(exe string) string { return helper(exe, "vmruntime-qemu") }

// DefaultVirtiofsd is the wrapper of virtiofsd that belongs to the program exe.
func DefaultVirtiofsd(exe string) string { return helper(exe, "vmruntime-virtiofsd") }

// DefaultShim is the shim that belongs to the program exe.
func DefaultShim(exe string) string { return helper(exe, "vmruntime-shim") }

// helper is a program that belongs to exe: beside it in a checkout, in
// lib/vmruntime in an installation.
func helper(exe, name string) string {
	if prefix, ok := checkout(exe); ok {
		return filepath.Join(prefix, "bin", name)
	}
	return filepath.Join(prefix(exe), "lib", "vmruntime", name)
}

// checkout is the root of the source tree that exe was built in.
func checkout(exe string) (string, bool) {
	root := prefix(exe)
	if filepath.Base(filepath.Dir(resolve(exe))) != "bin" {
		return "", false
	}
	for _, name := range []string{"go.mod", "build"} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			return root, true
		}
	}
	return "", false
}

func prefix(exe string) string { return filepath.Dir(filepath.Dir(resolve(exe))) }

func resolve(exe string) string {
	if target, err := filepath.EvalSymlinks(exe); err == nil {
		return target
	}
	return exe
}
