package shim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
)

// holdDisks keeps other shims from the files that this machine writes to, until this
// one ends: two kernels would write to one file system.
func holdDisks(disks []vm.Disk) error {
	for _, d := range disks {
		if !d.File || d.ReadOnly {
			continue
		}
		// Never closed.
		fd, err := unix.Open(d.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: d.Path, Err: err}
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errors.New(`root.path: a running container has this root file system, and only one VM can write to a disk: stop it, or use rootfs = "share"`)
		}
		if err != nil {
			return fmt.Errorf("flock %s: %w", d.Path, err)
		}
	}
	return nil
}
