package cloud

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// The IDE controller of QEMU's machine "pc", PIIX3: a channel is on when this bit is
// set in these bytes of its configuration space. Linux leaves a channel alone that
// is off.
const (
	piixID        = "8086:7010"
	channelOn     = 0x80
	firstChannel  = 0x41
	secondChannel = 0x43
)

// wakeChannels switches the channels on that the firmware has not: OVMF does so only
// with those that it boots from, and a configuration drive may be on another.
func wakeChannels(sys string) error {
	events, _ := filepath.Glob(filepath.Join(sys, "bus/pci/devices/*/uevent"))
	var all error
	for _, file := range events {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "PCI_ID="+piixID+"\n") {
			continue
		}
		dir := filepath.Dir(file)
		woken, err := switchOn(filepath.Join(dir, "config"))
		all = errors.Join(all, err)
		if woken {
			all = errors.Join(all, rescan(dir))
		}
	}
	return all
}

func switchOn(config string) (woken bool, err error) {
	file, err := os.OpenFile(config, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer file.Close()
	for _, at := range []int64{firstChannel, secondChannel} {
		value := make([]byte, 1)
		if _, err := file.ReadAt(value, at); err != nil {
			return woken, err
		}
		if value[0]&channelOn != 0 {
			continue
		}
		value[0] |= channelOn
		if _, err := file.WriteAt(value, at); err != nil {
			return woken, err
		}
		woken = true
	}
	return woken, nil
}

// rescan has the driver look again.
func rescan(device string) error {
	scans, _ := filepath.Glob(filepath.Join(device, "ata*/host*/scsi_host/host*/scan"))
	var all error
	for _, scan := range scans {
		all = errors.Join(all, os.WriteFile(scan, []byte("- - -"), 0))
	}
	return all
}
