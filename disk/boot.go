package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/vmruntime/vmruntime/protocol"
)

// loaderFile is systemd-boot, which a UEFI starts by the name that it looks for on
// a disk that it does not know.
const loaderFile = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"

// commandLine has the last console for the container's output: the serial port
// where there is one.
const commandLine = "console=tty0 console=ttyS0 quiet panic=-1 cgroup_no_v1=all random.trust_cpu=on"

const (
	syslinuxConfig = "DEFAULT vmruntime\nPROMPT 0\nTIMEOUT 0\nLABEL vmruntime\n  LINUX /vmlinuz\n  INITRD /initramfs\n  APPEND " + commandLine + "\n"
	loaderConfig   = "timeout 0\neditor no\n"
	loaderEntry    = "title vmruntime\nlinux /vmlinuz\ninitrd /initramfs\noptions " + commandLine + "\n"
)

// tools are the programs and files that a disk is made with, and their packages of
// Debian.
var tools = []struct{ name, debian string }{
	{"mformat", "mtools"},
	{"syslinux", "syslinux"},
	{mbrFile, "syslinux-common"},
	{loaderFile, "systemd-boot-efi"},
}

func checkTools(format Format) error {
	needed := tools
	if format == QCOW2 {
		needed = append(needed[:len(needed):len(needed)], struct{ name, debian string }{"qemu-img", "qemu-utils"})
	}
	for _, tool := range needed {
		_, err := os.Stat(tool.name)
		if !filepath.IsAbs(tool.name) {
			_, err = exec.LookPath(tool.name)
		}
		if err != nil {
			return fmt.Errorf("%s is missing: install the package %s", filepath.Base(tool.name), tool.debian)
		}
	}
	return nil
}

const (
	// leastBoot is the size from which a file system can be a FAT32, rounded up, in
	// bytes; spareBoot is left for another kernel's initramfs and the like.
	leastBoot = 64 << 20
	spareBoot = 16 << 20
)

// bootSize is that of the first partition.
func (d Disk) bootSize() (int64, error) {
	size := int64(spareBoot)
	for _, file := range []string{d.Kernel, d.Initramfs} {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return max(align(size, alignment), leastBoot), nil
}

// writeBoot makes the FAT with all that boots. BIOS and UEFI start the same kernel
// with the same initramfs.
func (d Disk) writeBoot(ctx context.Context, file, work string, size int64, description protocol.BootDisk) error {
	initramfs := filepath.Join(work, "initramfs")
	if err := writeInitramfs(initramfs, d.Initramfs, description); err != nil {
		return err
	}
	if err := makeFAT(ctx, file, size); err != nil {
		return err
	}
	if err := run(ctx, "mmd", "-i", file, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"); err != nil {
		return err
	}
	for _, f := range []struct{ source, text, target string }{
		{source: d.Kernel, target: "vmlinuz"},
		{source: initramfs, target: "initramfs"},
		{source: loaderFile, target: "EFI/BOOT/BOOTX64.EFI"},
		{text: loaderConfig, target: "loader/loader.conf"},
		{text: loaderEntry, target: "loader/entries/vmruntime.conf"},
		{text: syslinuxConfig, target: "syslinux.cfg"},
	} {
		if f.text != "" {
			f.source = filepath.Join(work, "text")
			if err := os.WriteFile(f.source, []byte(f.text), 0o600); err != nil {
				return err
			}
		}
		if err := run(ctx, "mcopy", "-o", "-i", file, f.source, "::/"+f.target); err != nil {
			return err
		}
	}
	return run(ctx, "syslinux", "--install", file)
}

func makeFAT(ctx context.Context, file string, size int64) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(out.Truncate(size), out.Close()); err != nil {
		return err
	}
	// The BIOS' loader finds its own partition by the number of sectors before it.
	return run(ctx, "mformat", "-i", file, "-F", "-v", "VMRUNTIME", "-h", "255", "-s", "63",
		"-H", strconv.Itoa(alignment/sector), "-T", strconv.FormatInt(size/sector, 10), "::")
}

// writeInitramfs adds the description to a base, as one more archive: the kernel
// unpacks one after the other, each compressed in its own way or not.
func writeInitramfs(file, base string, description protocol.BootDisk) error {
	text, err := json.Marshal(description)
	if err != nil {
		return err
	}
	var added bytes.Buffer
	archive := cpio.NewWriter(&added)
	name := strings.TrimPrefix(protocol.DiskFile, "/")
	err = archive.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | 0o400, Size: int64(len(text)), Links: 1})
	if err == nil {
		_, err = archive.Write(text)
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		return err
	}
	whole, err := os.ReadFile(base)
	if err != nil {
		return err
	}
	// An archive begins at a multiple of four.
	for len(whole)%4 != 0 {
		whole = append(whole, 0)
	}
	return os.WriteFile(file, append(whole, added.Bytes()...), 0o600)
}

// run runs a tool that takes no settings from the user's home.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
