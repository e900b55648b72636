package vm

import "path/filepath"

// qboot (https://github.com/bonzini/qboot) does nothing but start a kernel. QEMU's own
// firmware, SeaBIOS, looks for disks first, and gives each PCI device addresses that
// the kernel can give as well.
const qboot = "/usr/share/qemu/qboot.rom"

// FindFirmware is the firmware for Config, or empty for QEMU's own: with KVM, where qboot
// has not been measured; with a libvirtd, whose AppArmor profile may have no room for it;
// and where QEMU's packages have not brought it.
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
