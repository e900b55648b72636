package agent

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFilter is the kernel's limit of instructions, BPF_MAXINSNS.
const maxFilter = 4096

// loadSeccomp loads the container's filter into the calling thread, the one that
// is going to execute the container's process.
func (s *stage) loadSeccomp() error {
	if len(s.Container.Seccomp) == 0 {
		return nil
	}
	filter, err := parseFilter(s.Container.Seccomp)
	if err != nil {
		return fmt.Errorf("linux.seccomp: %w", err)
	}
	if s.Container.SeccompFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		return errors.New("linux.seccomp: a listener is not supported inside the VM")
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(s.Container.SeccompFlags), uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("linux.seccomp: load the filter: %w", errno)
	}
	return nil
}

// parseFilter reads an array of struct sock_filter in host byte order.
func parseFilter(b []byte) ([]unix.SockFilter, error) {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(b)%size != 0 || len(b)/size > maxFilter {
		return nil, fmt.Errorf("a filter of %d bytes is not valid", len(b))
	}
	filter := make([]unix.SockFilter, len(b)/size)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), len(b)), b)
	return filter, nil
}
