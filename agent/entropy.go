package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reseed mixes entropy into the kernel's generator and has it draw a new key at
// once (random(4)). Machines cloned from one template would go on with the same
// random numbers without it.
func reseed(entropy []byte) error {
	device, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("reseed: %w", err)
	}
	defer device.Close()
	// struct rand_pool_info: bits of entropy, bytes of data, data.
	pool := binary.NativeEndian.AppendUint32(nil, uint32(8*len(entropy)))
	pool = binary.NativeEndian.AppendUint32(pool, uint32(len(entropy)))
	pool = append(pool, entropy...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool[0])))
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, device.Fd(), unix.RNDRESEEDCRNG, 0)
	}
	if errno != 0 {
		return fmt.Errorf("reseed: %w", errno)
	}
	return nil
}
