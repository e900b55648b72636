package vm

import (
	"errors"
	"os/exec"
)

// virtiofsds are where distributions put QEMU's own virtiofsd, which takes other
// options than its successor in Rust.
var virtiofsds = []string{"/usr/lib/qemu/virtiofsd"}

// FindVirtiofsd is the file server of the transport virtiofs.
func FindVirtiofsd() (string, error) {
	for _, path := range virtiofsds {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", errors.New("QEMU's virtiofsd is not installed: apt install qemu-system-common (up to Debian 12), or set transport to 9p")
}
