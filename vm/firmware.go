package vm

import "path/filepath"

// qboot (https://github.com/bonzini/qboot) does nothing but start a kernel. QEMU's own
// firmware, SeaBIOS, looks for disks first, and gives each PCI device addresses that
// the kernel can give as well.
const qboot = "/usr/share/qemu/qboot.rom"

// FindFirmware is the firmware for Config, or empty for QEMU's own: where KVM runs that in
// no time, where a libvirtd's AppArmor profile has no room for another, and where QEMU's
// packages have not brought it.
func FindFirmware(a Accelerator, libvirtURI string) string {
	if a != TCG || libvirtURI != URIEmbed {
		return ""
	}
	path, err := filepath.EvalSymlinks(qboot)
	if err != nil {
		return ""
	}
	return path
}
