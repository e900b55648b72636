package runtime

import (
	"encoding/binary"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// enosysStub is what runc puts before a filter that forbids by default: a system
// call with a higher number than any the profile names is newer than the
// profile, and fails with ENOSYS so that programs fall back to what they did
// before there was such a call.
func enosysStub(s *specs.LinuxSeccomp) []byte {
	permissive := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActLog, specs.ActTrace}
	if slices.Contains(permissive, s.DefaultAction) {
		return nil
	}
	if s.DefaultErrnoRet != nil && *s.DefaultErrnoRet == uint(unix.ENOSYS) {
		return nil
	}
	var stub []unix.SockFilter
	if slices.Contains(s.Architectures, specs.ArchX86) {
		stub = append(stub, onArchitecture(unix.AUDIT_ARCH_I386, newerThan(lastCall(s, libseccomp.ArchX86)))...)
	}
	stub = append(stub, onArchitecture(unix.AUDIT_ARCH_X86_64, newer64(s))...)
	var raw []byte
	for _, i := range stub {
		raw = binary.NativeEndian.AppendUint16(raw, i.Code)
		raw = append(raw, i.Jt, i.Jf)
		raw = binary.NativeEndian.AppendUint32(raw, i.K)
	}
	return raw
}

const (
	// Offsets in struct seccomp_data.
	offsetNr   = 0
	offsetArch = 4
	// bitX32 marks a call of the x32 ABI.
	bitX32 = 0x40000000
	// noCall is above every number: nothing is newer.
	noCall = 0xffffffff

	retENOSYS = 0x00050000 | uint32(unix.ENOSYS)
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, Jt: yes, Jf: no, K: k}
}

// onArchitecture runs body for one architecture and falls through.
func onArchitecture(arch uint32, body []unix.SockFilter) []unix.SockFilter {
	head := []unix.SockFilter{load(offsetArch), jump(unix.BPF_JEQ, arch, 0, uint8(len(body)+1)), load(offsetNr)}
	return append(head, body...)
}

func newerThan(last uint32) []unix.SockFilter {
	return []unix.SockFilter{
		jump(unix.BPF_JGT, last, 0, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: retENOSYS},
	}
}

// newer64 tells the two ABIs of x86-64 apart, which count separately.
func newer64(s *specs.LinuxSeccomp) []unix.SockFilter {
	x32 := uint32(noCall)
	if slices.Contains(s.Architectures, specs.ArchX32) {
		x32 = lastCall(s, libseccomp.ArchX32)
	}
	native := newerThan(lastCall(s, libseccomp.ArchAMD64))
	// Past the check of the other ABI.
	native[0].Jf += 2
	body := append([]unix.SockFilter{jump(unix.BPF_JGE, bitX32, 2, 0)}, native...)
	return append(body, newerThan(x32)...)
}

// lastCall is the highest number that the profile names.
func lastCall(s *specs.LinuxSeccomp, arch libseccomp.ScmpArch) uint32 {
	last := libseccomp.ScmpSyscall(0)
	for _, rule := range s.Syscalls {
		for _, name := range rule.Names {
			if call, err := libseccomp.GetSyscallFromNameByArch(name, arch); err == nil {
				last = max(last, call)
			}
		}
	}
	if last == 0 {
		return noCall
	}
	return uint32(last)
}
