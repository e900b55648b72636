package runtime

import (
	"encoding/binary"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	retAllow = 0x7fff0000
	retErrno = 0x00050000
	retKill  = 0x00000000
	retTrap  = 0x00030000
	retLog   = 0x7ffc0000
	retTrace = 0x7ff00000
)

// A call is what the kernel shows a filter: struct seccomp_data.
type call struct {
	arch uint32
	nr   uint32
	args [6]uint64
}

// run interprets the program as the kernel does.
func (c call) run(t *testing.T, program []byte) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.NativeEndian.PutUint32(data[0:], c.nr)
	binary.NativeEndian.PutUint32(data[4:], c.arch)
	for i, a := range c.args {
		binary.NativeEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(program)/8; pc++ {
		raw := program[pc*8:]
		code, jt, jf, k := binary.NativeEndian.Uint16(raw), int(raw[2]), int(raw[3]), binary.NativeEndian.Uint32(raw[4:])
		branch := func(taken bool) {
			if taken {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.NativeEndian.Uint32(data[k:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= k
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(k)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(acc == k)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(acc > k)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(acc >= k)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			branch(acc&k != 0)
		case unix.BPF_RET | unix.BPF_K:
			return k
		default:
			t.Fatalf("instruction %d: code %#x", pc, code)
		}
	}
	t.Fatal("the program does not return")
	return 0
}

func compile(t *testing.T, s specs.LinuxSeccomp) ([]byte, uint) {
	t.Helper()
	program, flags, err := compileSeccomp(&s)
	if err != nil {
		t.Fatal(err)
	}
	if len(program) == 0 || len(program)%8 != 0 {
		t.Fatalf("program of %d bytes", len(program))
	}
	return program, flags
}

func native(nr uint32, args ...uint64) call {
	c := call{arch: unix.AUDIT_ARCH_X86_64, nr: nr}
	copy(c.args[:], args)
	return c
}

func number(n uint) *uint { return &n }

func TestSeccompActions(t *testing.T) {
	tests := map[specs.LinuxSeccompAction]uint32{
		specs.ActKill:        retKill,
		specs.ActKillThread:  retKill,
		specs.ActKillProcess: 0x80000000,
		specs.ActTrap:        retTrap,
		specs.ActErrno:       retErrno | uint32(unix.EPERM),
		specs.ActTrace:       retTrace | uint32(unix.EPERM),
		specs.ActLog:         retLog,
	}
	for action, want := range tests {
		program, _ := compile(t, specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"getppid", "no_such_call"}, Action: action}},
		})
		if got := native(unix.SYS_GETPPID).run(t, program); got != want {
			t.Errorf("%s: %#x, want %#x", action, got, want)
		}
		if got := native(unix.SYS_GETPID).run(t, program); got != retAllow {
			t.Errorf("%s: other calls %#x", action, got)
		}
	}
}

func TestSeccompDefault(t *testing.T) {
	allow := []specs.LinuxSyscall{
		{Names: []string{"read", "write", "getpid", "clone3", "statx"}, Action: specs.ActAllow},
		{Names: []string{"getppid"}, Action: specs.ActErrno, ErrnoRet: number(uint(unix.EACCES))},
	}
	program, _ := compile(t, specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Syscalls: allow,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
	})
	const eperm, enosys = retErrno | uint32(unix.EPERM), retErrno | uint32(unix.ENOSYS)
	for name, test := range map[string]struct {
		call call
		want uint32
	}{
		"allowed":              {native(unix.SYS_READ), retAllow},
		"last allowed":         {native(unix.SYS_CLONE3), retAllow},
		"with errno":           {native(unix.SYS_GETPPID), retErrno | uint32(unix.EACCES)},
		"forbidden":            {native(unix.SYS_MOUNT), eperm},
		"newer":                {native(unix.SYS_CLONE3 + 1), enosys},
		"of the future":        {native(100000), enosys},
		"i386 allowed":         {call{arch: unix.AUDIT_ARCH_I386, nr: 3}, retAllow},
		"i386 forbidden":       {call{arch: unix.AUDIT_ARCH_I386, nr: 21}, eperm},
		"i386 newer":           {call{arch: unix.AUDIT_ARCH_I386, nr: 436}, enosys},
		"x32 allowed":          {native(bitX32 + unix.SYS_WRITE), retAllow},
		"x32 forbidden":        {native(bitX32 + unix.SYS_MOUNT), eperm},
		"x32 newer":            {native(bitX32 + 600), enosys},
		"unknown machine":      {call{arch: 0x1234, nr: 0}, retKill},
		"i386 number natively": {native(3), eperm},
	} {
		if got := test.call.run(t, program); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
}

func TestSeccompWithoutStub(t *testing.T) {
	for name, s := range map[string]specs.LinuxSeccomp{
		"allow":  {DefaultAction: specs.ActAllow},
		"log":    {DefaultAction: specs.ActLog},
		"ENOSYS": {DefaultAction: specs.ActErrno, DefaultErrnoRet: number(uint(unix.ENOSYS))},
	} {
		if stub := enosysStub(&s); stub != nil {
			t.Errorf("%s: stub of %d bytes", name, len(stub))
		}
	}
	// Without x32 in the profile its calls are libseccomp's to refuse.
	program, _ := compile(t, specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}},
	})
	if got := native(bitX32+600).run(t, program); got != retKill {
		t.Errorf("x32 call: %#x", got)
	}
}

func TestSeccompArguments(t *testing.T) {
	program, _ := compile(t, specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: number(uint(unix.ENOSYS)),
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 8, Op: specs.OpEqualTo}}},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0x7e020000, Op: specs.OpMaskedEqual}}},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 1, Op: specs.OpEqualTo}, {Index: 1, Value: 2, Op: specs.OpEqualTo},
			}},
			// Two conditions on one argument: either is enough.
			{Names: []string{"kill"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 1, Value: 9, Op: specs.OpEqualTo}, {Index: 1, Value: 15, Op: specs.OpEqualTo},
			}},
		},
	})
	const enosys = retErrno | uint32(unix.ENOSYS)
	for name, test := range map[string]struct {
		call call
		want uint32
	}{
		"equal":              {native(unix.SYS_PERSONALITY, 8), retAllow},
		"not equal":          {native(unix.SYS_PERSONALITY, 9), enosys},
		"not equal above 32": {native(unix.SYS_PERSONALITY, 8|1<<32), enosys},
		"masked":             {native(unix.SYS_CLONE, 0x11), retAllow},
		"masked out":         {native(unix.SYS_CLONE, 0x10000000), enosys},
		"both":               {native(unix.SYS_SOCKET, 1, 2), retAllow},
		"one of both":        {native(unix.SYS_SOCKET, 1, 3), enosys},
		"first of one arg":   {native(unix.SYS_KILL, 1, 9), retAllow},
		"second of one arg":  {native(unix.SYS_KILL, 1, 15), retAllow},
		"neither of one arg": {native(unix.SYS_KILL, 1, 1), enosys},
	} {
		if got := test.call.run(t, program); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
}

func TestSeccompFlags(t *testing.T) {
	for name, test := range map[string]struct {
		flags []specs.LinuxSeccompFlag
		want  uint
	}{
		"none said":  {nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		"none":       {[]specs.LinuxSeccompFlag{}, 0},
		"log, tsync": {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, "SECCOMP_FILTER_FLAG_TSYNC"}, unix.SECCOMP_FILTER_FLAG_LOG},
	} {
		if _, got := compile(t, specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: test.flags}); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
}

func TestSeccompErrors(t *testing.T) {
	for want, s := range map[string]specs.LinuxSeccomp{
		`defaultAction: it is missing`:                          {},
		`defaultAction: "x" is not known`:                       {DefaultAction: "x"},
		`architectures[0]: "x" is not known`:                    {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"x"}},
		`flags[0]: "x" is not known`:                            {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"x"}},
		`syscalls[0].names must not be empty`:                   {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Action: specs.ActErrno}}},
		`syscalls[0].args[0].op: "x" is not known`:              {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "x"}}}}},
		`syscalls[0].names: the empty string is no system call`: {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{""}, Action: specs.ActErrno}}},
	} {
		if _, _, err := compileSeccomp(&s); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
