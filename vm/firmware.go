package vm

import "os"

// qboot (https://github.com/bonzini/qboot) does nothing but start a kernel. QEMU's own
// firmware, SeaBIOS, looks for disks first, and gives each PCI device addresses that
// the kernel can give as well.
const qboot = "/usr/share/qemu/qboot.rom"

// FindFirmware is the firmware for Config, if QEMU's packages have brought it.
func FindFirmware() string {
	if _, err := os.Stat(qboot); err != nil {
		return ""
	}
	return qboot
}
