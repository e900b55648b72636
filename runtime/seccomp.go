package runtime

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// compileSeccomp turns the profile into an array of struct sock_filter and the
// flags of seccomp(2), with the semantics of runc. Errors begin with the name
// of a field below linux.seccomp.
func compileSeccomp(s *specs.LinuxSeccomp) ([]byte, uint, error) {
	flags, err := seccompFlags(s)
	if err != nil {
		return nil, 0, err
	}
	// What the guest's kernel can do counts, not this one: the newest actions
	// are there since Linux 4.14.
	_ = libseccomp.SetAPI(6)
	action, err := seccompAction(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, 0, fmt.Errorf("defaultAction: %w", err)
	}
	filter, err := libseccomp.NewFilter(action)
	if err != nil {
		return nil, 0, fmt.Errorf("defaultAction: %w", err)
	}
	defer filter.Release()
	for i, name := range s.Architectures {
		if err := addArchitecture(filter, name); err != nil {
			return nil, 0, fmt.Errorf("architectures[%d]: %w", i, err)
		}
	}
	// A binary tree pays for long profiles only.
	if len(s.Syscalls) > 0 && countNames(s) > 32 {
		_ = filter.SetOptimize(2)
	}
	for i, rule := range s.Syscalls {
		if err := addRule(filter, rule, action); err != nil {
			return nil, 0, fmt.Errorf("syscalls[%d]%w", i, err)
		}
	}
	program, err := export(filter)
	if err != nil {
		return nil, 0, fmt.Errorf("syscalls: %w", err)
	}
	program = append(enosysStub(s), program...)
	if instructions := len(program) / 8; instructions > maxInstructions {
		return nil, 0, fmt.Errorf("syscalls: the filter has %d instructions, the kernel takes %d", instructions, maxInstructions)
	}
	return program, flags, nil
}

// maxInstructions is the kernel's BPF_MAXINSNS.
const maxInstructions = 4096

func countNames(s *specs.LinuxSeccomp) int {
	n := 0
	for _, rule := range s.Syscalls {
		n += len(rule.Names)
	}
	return n
}

// The flags of seccomp(2) that a filter without listener can have. TSYNC is not
// among them: the agent loads the filter with one thread left.
var seccompFlagBits = map[specs.LinuxSeccompFlag]uint{
	"SECCOMP_FILTER_FLAG_TSYNC":     0,
	specs.LinuxSeccompFlagLog:       unix.SECCOMP_FILTER_FLAG_LOG,
	specs.LinuxSeccompFlagSpecAllow: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
}

func seccompFlags(s *specs.LinuxSeccomp) (uint, error) {
	if s.Flags == nil {
		// As runc does where the profile says nothing.
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var flags uint
	for i, name := range s.Flags {
		bit, ok := seccompFlagBits[name]
		if !ok && name == specs.LinuxSeccompFlagWaitKillableRecv {
			return 0, fmt.Errorf("flags[%d]: %s is for seccomp listeners, which cannot see system calls inside a VM: remove it", i, name)
		}
		if !ok {
			return 0, fmt.Errorf("flags[%d]: %q is not known", i, name)
		}
		flags |= bit
	}
	return flags, nil
}

// seccompActions are those of the specification without NOTIFY.
var seccompActions = map[specs.LinuxSeccompAction]libseccomp.ScmpAction{
	specs.ActKill:        libseccomp.ActKillThread,
	specs.ActKillThread:  libseccomp.ActKillThread,
	specs.ActKillProcess: libseccomp.ActKillProcess,
	specs.ActTrap:        libseccomp.ActTrap,
	specs.ActErrno:       libseccomp.ActErrno,
	specs.ActTrace:       libseccomp.ActTrace,
	specs.ActAllow:       libseccomp.ActAllow,
	specs.ActLog:         libseccomp.ActLog,
}

func seccompAction(name specs.LinuxSeccompAction, code *uint) (libseccomp.ScmpAction, error) {
	action, ok := seccompActions[name]
	switch {
	case name == specs.ActNotify:
		return action, errors.New("SCMP_ACT_NOTIFY needs a seccomp listener, which cannot see system calls inside a VM: remove it")
	case name == "":
		return action, errors.New("it is missing")
	case !ok:
		return action, fmt.Errorf("%q is not known", name)
	}
	if name != specs.ActErrno && name != specs.ActTrace {
		return action, nil
	}
	if code == nil {
		return action.SetReturnCode(int16(unix.EPERM)), nil
	}
	if *code > math.MaxInt16 {
		return action, fmt.Errorf("%d is no error number", *code)
	}
	return action.SetReturnCode(int16(*code)), nil
}

// seccompArchitectures have names of their own in libseccomp-golang.
var seccompArchitectures = map[specs.Arch]libseccomp.ScmpArch{
	specs.ArchX86:         libseccomp.ArchX86,
	specs.ArchX86_64:      libseccomp.ArchAMD64,
	specs.ArchX32:         libseccomp.ArchX32,
	specs.ArchARM:         libseccomp.ArchARM,
	specs.ArchAARCH64:     libseccomp.ArchARM64,
	specs.ArchMIPS:        libseccomp.ArchMIPS,
	specs.ArchMIPS64:      libseccomp.ArchMIPS64,
	specs.ArchMIPS64N32:   libseccomp.ArchMIPS64N32,
	specs.ArchMIPSEL:      libseccomp.ArchMIPSEL,
	specs.ArchMIPSEL64:    libseccomp.ArchMIPSEL64,
	specs.ArchMIPSEL64N32: libseccomp.ArchMIPSEL64N32,
	specs.ArchPPC:         libseccomp.ArchPPC,
	specs.ArchPPC64:       libseccomp.ArchPPC64,
	specs.ArchPPC64LE:     libseccomp.ArchPPC64LE,
	specs.ArchRISCV64:     libseccomp.ArchRISCV64,
	specs.ArchS390:        libseccomp.ArchS390,
	specs.ArchS390X:       libseccomp.ArchS390X,
}

func addArchitecture(filter *libseccomp.ScmpFilter, name specs.Arch) error {
	arch, ok := seccompArchitectures[name]
	if !ok {
		return fmt.Errorf("%q is not known", name)
	}
	if err := filter.AddArch(arch); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// addRule adds what one entry says about its system calls. Names that are not
// known are left out: profiles list what some kernel or architecture has.
func addRule(filter *libseccomp.ScmpFilter, rule specs.LinuxSyscall, byDefault libseccomp.ScmpAction) error {
	action, err := seccompAction(rule.Action, rule.ErrnoRet)
	if err != nil {
		return fmt.Errorf(".action: %w", err)
	}
	if len(rule.Names) == 0 {
		return errors.New(".names must not be empty")
	}
	conditions, err := seccompConditions(rule.Args)
	if err != nil {
		return err
	}
	if action == byDefault {
		return nil
	}
	for _, name := range rule.Names {
		if name == "" {
			return errors.New(".names: the empty string is no system call")
		}
		call, err := libseccomp.GetSyscallFromName(name)
		if err != nil {
			continue
		}
		if err := addCall(filter, call, action, conditions); err != nil {
			return fmt.Errorf(".names: %s: %w", name, err)
		}
	}
	return nil
}

// addCall ands the conditions, except when two are about one argument, which
// libseccomp cannot express: then each is a rule of its own, as in runc.
func addCall(filter *libseccomp.ScmpFilter, call libseccomp.ScmpSyscall, action libseccomp.ScmpAction, all []libseccomp.ScmpCondition) error {
	if len(all) == 0 {
		return filter.AddRule(call, action)
	}
	if !repeats(all) {
		return filter.AddRuleConditional(call, action, all)
	}
	for _, one := range all {
		if err := filter.AddRuleConditional(call, action, []libseccomp.ScmpCondition{one}); err != nil {
			return err
		}
	}
	return nil
}

func repeats(conditions []libseccomp.ScmpCondition) bool {
	seen := map[uint]bool{}
	for _, c := range conditions {
		if seen[c.Argument] {
			return true
		}
		seen[c.Argument] = true
	}
	return false
}

var seccompOperators = map[specs.LinuxSeccompOperator]libseccomp.ScmpCompareOp{
	specs.OpNotEqual:     libseccomp.CompareNotEqual,
	specs.OpLessThan:     libseccomp.CompareLess,
	specs.OpLessEqual:    libseccomp.CompareLessOrEqual,
	specs.OpEqualTo:      libseccomp.CompareEqual,
	specs.OpGreaterEqual: libseccomp.CompareGreaterEqual,
	specs.OpGreaterThan:  libseccomp.CompareGreater,
	specs.OpMaskedEqual:  libseccomp.CompareMaskedEqual,
}

func seccompConditions(args []specs.LinuxSeccompArg) ([]libseccomp.ScmpCondition, error) {
	var conditions []libseccomp.ScmpCondition
	for i, a := range args {
		op, ok := seccompOperators[a.Op]
		if !ok {
			return nil, fmt.Errorf(".args[%d].op: %q is not known", i, a.Op)
		}
		c, err := libseccomp.MakeCondition(a.Index, op, a.Value, a.ValueTwo)
		if err != nil {
			return nil, fmt.Errorf(".args[%d]: %w", i, err)
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

// export has libseccomp write the program, which it only does to a file.
func export(filter *libseccomp.ScmpFilter) ([]byte, error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "seccomp")
	defer file.Close()
	if err := filter.ExportBPF(file); err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
}
