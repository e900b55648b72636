package agent

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cgroup2 has no file for devices: a BPF program of the cgroup decides on each
// open and mknod (kernel's admin-guide/cgroup-v2, "Device controller").

// bpfInstruction is struct bpf_insn.
type bpfInstruction struct {
	code uint8
	// registers are the destination in the lower and the source in the upper half.
	registers uint8
	offset    int16
	immediate int32
}

// The instructions of linux/bpf.h that are used here.
const (
	bpfLoadWord   = 0x61 // dst = *(u32 *)(src + offset)
	bpfMove       = 0xbc // dst = src, 32 bits
	bpfSet        = 0xb4 // dst = immediate, 32 bits
	bpfAnd        = 0x54 // dst &= immediate, 32 bits
	bpfShift      = 0x74 // dst >>= immediate, 32 bits
	bpfJumpUnlike = 0x56 // goto +offset if dst != immediate, 32 bits
	bpfJumpEqual  = 0x16 // goto +offset if dst == immediate, 32 bits
	bpfExit       = 0x95
)

// The program's registers: r0 is the verdict, r1 the context at the beginning.
const (
	regVerdict = iota
	regContext
	// regAccess holds the kinds of access that no rule has allowed yet.
	regAccess
	regType
	regMajor
	regMinor
	regScratch
)

// Bits of struct bpf_cgroup_dev_ctx's access_type.
const (
	devBlock, devChar           = 1, 2
	devMknod, devRead, devWrite = 1, 2, 4
	devAll                      = devMknod | devRead | devWrite
)

// deviceRule is one rule of the devices cgroup.
type deviceRule struct {
	allow bool
	// kind is devBlock or devChar, 0 for both.
	kind int32
	// major and minor are nil for any.
	major, minor *int64
	access       int32
}

// defaultRules are what every container may use, as runc has it: making nodes
// does no harm, and the default devices and terminals are always there.
func defaultRules() []deviceRule {
	rules := []deviceRule{{allow: true, access: devMknod}}
	for _, d := range defaultDevices {
		rules = append(rules, deviceRule{allow: true, kind: devChar, major: &d.Major, minor: &d.Minor, access: devAll})
	}
	terminals, multiplexers, multiplexer := int64(136), int64(5), int64(2)
	return append(rules,
		deviceRule{allow: true, kind: devChar, major: &terminals, access: devAll},
		deviceRule{allow: true, kind: devChar, major: &multiplexers, minor: &multiplexer, access: devAll})
}

// deviceRules are those of linux.resources.devices and the default ones after
// them. Of two that fit the later counts.
func deviceRules(list []specs.LinuxDeviceCgroup) ([]deviceRule, error) {
	var rules []deviceRule
	for i, d := range list {
		rule, err := newDeviceRule(d)
		if err != nil {
			return nil, fmt.Errorf("linux.resources.devices[%d].%w", i, err)
		}
		rules = append(rules, rule)
	}
	return append(rules, defaultRules()...), nil
}

func newDeviceRule(d specs.LinuxDeviceCgroup) (deviceRule, error) {
	rule := deviceRule{allow: d.Allow, major: d.Major, minor: d.Minor}
	kinds := map[string]int32{"": 0, "a": 0, "b": devBlock, "c": devChar}
	kind, ok := kinds[d.Type]
	if !ok {
		return rule, fmt.Errorf("type: %q must be a, b or c", d.Type)
	}
	rule.kind = kind
	for _, letter := range d.Access {
		bit := map[rune]int32{'r': devRead, 'w': devWrite, 'm': devMknod}[letter]
		if bit == 0 {
			return rule, fmt.Errorf("access: %q must be of the letters r, w and m", d.Access)
		}
		rule.access |= bit
	}
	return rule, nil
}

// deviceFilter is the program of these rules. It goes through them from the last
// to the first: a rule that fits allows what it has of the access, or denies all
// of it. What no rule allows is denied.
func deviceFilter(rules []deviceRule) []bpfInstruction {
	program := []bpfInstruction{
		load(regAccess, 0), load(regMajor, 4), load(regMinor, 8),
		{code: bpfMove, registers: regType | regAccess<<4},
		{code: bpfAnd, registers: regType, immediate: 0xffff},
		{code: bpfShift, registers: regAccess, immediate: 16},
	}
	for _, rule := range slices.Backward(rules) {
		program = append(program, rule.instructions()...)
	}
	return append(program, verdict(0)...)
}

func load(register uint8, offset int16) bpfInstruction {
	return bpfInstruction{code: bpfLoadWord, registers: register | regContext<<4, offset: offset}
}

func verdict(v int32) []bpfInstruction {
	return []bpfInstruction{{code: bpfSet, registers: regVerdict, immediate: v}, {code: bpfExit}}
}

func (r deviceRule) instructions() []bpfInstruction {
	body := r.decide()
	// Each check jumps behind the body, and so over the checks that follow it.
	for _, check := range r.checks() {
		check.code, check.offset = bpfJumpUnlike, int16(len(body))
		body = append([]bpfInstruction{check}, body...)
	}
	return body
}

func (r deviceRule) checks() []bpfInstruction {
	var checks []bpfInstruction
	if r.kind != 0 {
		checks = append(checks, bpfInstruction{registers: regType, immediate: r.kind})
	}
	if r.major != nil && *r.major != -1 {
		checks = append(checks, bpfInstruction{registers: regMajor, immediate: int32(*r.major)})
	}
	if r.minor != nil && *r.minor != -1 {
		checks = append(checks, bpfInstruction{registers: regMinor, immediate: int32(*r.minor)})
	}
	return checks
}

// decide ends the program if the rule settles the matter.
func (r deviceRule) decide() []bpfInstruction {
	if r.allow {
		// What is left of the access; nothing: it is allowed.
		return append([]bpfInstruction{
			{code: bpfAnd, registers: regAccess, immediate: ^r.access},
			{code: bpfJumpUnlike, registers: regAccess, offset: 2},
		}, verdict(1)...)
	}
	return append([]bpfInstruction{
		{code: bpfMove, registers: regScratch | regAccess<<4},
		{code: bpfAnd, registers: regScratch, immediate: r.access},
		{code: bpfJumpEqual, registers: regScratch, offset: 2},
	}, verdict(0)...)
}

// filterDevices has the cgroup decide on devices by these rules, for its life: no
// update changes them, as with runc.
func (c cgroup) filterDevices(r *specs.LinuxResources) error {
	if c.path == "" {
		return nil
	}
	var list []specs.LinuxDeviceCgroup
	if r != nil {
		list = r.Devices
	}
	rules, err := deviceRules(list)
	if err != nil {
		return err
	}
	program, err := loadDeviceFilter(deviceFilter(rules))
	if err != nil {
		return fmt.Errorf("linux.resources.devices: %w", err)
	}
	// The cgroup keeps it.
	defer program.Close()
	if err := attachDeviceFilter(c.path, program); err != nil {
		return fmt.Errorf("linux.resources.devices: %w", err)
	}
	return nil
}

// bpfLoad is the beginning of union bpf_attr for BPF_PROG_LOAD.
type bpfLoad struct {
	kind, instructions uint32
	program, license   uint64
	logLevel, logSize  uint32
	log                uint64
}

// bpfAttach is the beginning of union bpf_attr for BPF_PROG_ATTACH.
type bpfAttach struct{ target, program, kind, flags uint32 }

func loadDeviceFilter(program []bpfInstruction) (*os.File, error) {
	license, log := []byte("Apache-2.0\x00"), make([]byte, 1<<16)
	attr := bpfLoad{
		kind:         unix.BPF_PROG_TYPE_CGROUP_DEVICE,
		instructions: uint32(len(program)),
		program:      uint64(uintptr(unsafe.Pointer(&program[0]))),
		license:      uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		// Once more, with the verifier's reasons.
		attr.logLevel, attr.logSize, attr.log = 1, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0])))
		fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if err != nil {
		return nil, fmt.Errorf("load the device filter: %w %s", err, strings.TrimSpace(unix.ByteSliceToString(log)))
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "device filter"), nil
}

// attachDeviceFilter leaves cgroups below free to have further filters, which can
// only take away.
func attachDeviceFilter(path string, program *os.File) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	attr := bpfAttach{
		target: uint32(dir.Fd()), program: uint32(program.Fd()),
		kind: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI,
	}
	if _, err = bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach the device filter: %w", err)
	}
	return nil
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
