package confine

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is confined stays root among the host's processes, and the kernel lets
// root's processes signal and inspect each other without any capability. The
// filter takes that away.

// aboutSelf are the system calls that may name the caller's own process only, by
// the pid that is their first argument.
var aboutSelf = []uint32{
	unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PRLIMIT64,
}

// denied are those that neither QEMU nor virtiofsd has a use for: they reach other
// processes, root's keys, or namespaces that others have made.
var denied = []uint32{
	unix.SYS_TKILL, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_PROCESS_MRELEASE, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_KCMP,
	unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_SETNS, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
}

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
)

// x32 is the bit of system calls of the x32 ABI, which have other numbers.
const x32 = 0x40000000

const (
	refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	allow  = unix.SECCOMP_RET_ALLOW
)

// program is the filter of a process that will have the given pid.
func program(pid uint32) []unix.SockFilter {
	filter := []unix.SockFilter{
		load(dataArch),
		equal(unix.AUDIT_ARCH_X86_64, 1, 0),
		end(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNumber),
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32, Jt: 0, Jf: 1},
		end(refuse),
	}
	for _, number := range denied {
		filter = append(filter, equal(number, 0, 1), end(refuse))
	}
	// virtiofsd's threads have working directories of their own. A namespace, in
	// which the caller would have capabilities again, is another matter.
	filter = append(filter,
		equal(unix.SYS_UNSHARE, 0, 4),
		load(dataArg0),
		equal(unix.CLONE_FS, 0, 1),
		end(allow),
		end(refuse))
	for _, number := range aboutSelf {
		// 0 is the caller to prlimit, and the caller's group, its own, to kill.
		filter = append(filter,
			equal(number, 0, 5),
			load(dataArg0),
			equal(pid, 2, 0),
			equal(0, 1, 0),
			end(refuse),
			end(allow))
	}
	return append(filter, end(allow))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// equal skips yes instructions if the loaded word is k, and no if it is not.
func equal(k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func end(verdict uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
}

// Calls denies the calling thread, and what it executes, the system calls that
// reach other processes. It comes after Capabilities, which sets no_new_privs.
func Calls() error {
	filter := program(uint32(os.Getpid()))
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}
