package agent

import (
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// access is struct bpf_cgroup_dev_ctx.
type access struct{ kind, bits, major, minor uint32 }

// interpret runs a device filter as the kernel would.
func interpret(t *testing.T, program []bpfInstruction, a access) bool {
	t.Helper()
	context := map[int16]uint32{0: a.kind | a.bits<<16, 4: a.major, 8: a.minor}
	var r [16]uint32
	for at := 0; at < len(program); at++ {
		i := program[at]
		to, from := i.registers&15, i.registers>>4
		switch i.code {
		case bpfLoadWord:
			r[to] = context[i.offset]
		case bpfMove:
			r[to] = r[from]
		case bpfSet:
			r[to] = uint32(i.immediate)
		case bpfAnd:
			r[to] &= uint32(i.immediate)
		case bpfShift:
			r[to] >>= uint32(i.immediate)
		case bpfJumpUnlike:
			if r[to] != uint32(i.immediate) {
				at += int(i.offset)
			}
		case bpfJumpEqual:
			if r[to] == uint32(i.immediate) {
				at += int(i.offset)
			}
		case bpfExit:
			return r[regVerdict] == 1
		default:
			t.Fatalf("instruction %#x", i.code)
		}
	}
	t.Fatal("the program has no end")
	return false
}

// allowed is what the rules say, one kind of access after another.
func allowed(rules []deviceRule, a access) bool {
	for bit := uint32(1); bit <= devWrite; bit <<= 1 {
		if a.bits&bit == 0 {
			continue
		}
		verdict := false
		for _, r := range rules {
			if fits(r, a) && uint32(r.access)&bit != 0 {
				verdict = r.allow
			}
		}
		if !verdict {
			return false
		}
	}
	return true
}

func fits(r deviceRule, a access) bool {
	number := func(want *int64, got uint32) bool { return want == nil || *want == -1 || uint32(*want) == got }
	return (r.kind == 0 || uint32(r.kind) == a.kind) && number(r.major, a.major) && number(r.minor, a.minor)
}

// The program does what the rules say, whatever they are.
func TestDeviceFilter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	numbers := []*int64{nil}
	for _, n := range []int64{-1, 0, 1, 5, 4294967295} {
		numbers = append(numbers, &n)
	}
	for range 300 {
		var rules []deviceRule
		for range random.IntN(6) {
			rules = append(rules, deviceRule{
				allow: random.IntN(2) == 0, kind: random.Int32N(3), access: random.Int32N(8),
				major: numbers[random.IntN(len(numbers))], minor: numbers[random.IntN(len(numbers))],
			})
		}
		program := deviceFilter(rules)
		for range 100 {
			a := access{kind: 1 + random.Uint32N(2), bits: 1 + random.Uint32N(7), major: random.Uint32N(7), minor: random.Uint32N(7)}
			if random.IntN(5) == 0 {
				a.major = 4294967295
			}
			if got, want := interpret(t, program, a), allowed(rules, a); got != want {
				t.Fatalf("rules %+v: access %+v gives %v, want %v", rules, a, got, want)
			}
		}
	}
}

func TestDeviceRules(t *testing.T) {
	const r, w, m = devRead, devWrite, devMknod
	sda, fuse := access{kind: devBlock, bits: r, major: 8}, access{kind: devChar, bits: r | w, major: 10, minor: 229}
	null := access{kind: devChar, bits: r | w, major: 1, minor: 3}
	node := access{kind: devBlock, bits: m, major: 8}
	ten, minor := int64(10), int64(229)
	for name, test := range map[string]struct {
		list []specs.LinuxDeviceCgroup
		want map[access]bool
	}{
		"none":       {nil, map[access]bool{sda: false, fuse: false, null: true, node: true}},
		"deny all":   {[]specs.LinuxDeviceCgroup{{Access: "rwm"}}, map[access]bool{sda: false, fuse: false, null: true, node: true}},
		"privileged": {[]specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "a", Access: "rwm"}}, map[access]bool{sda: true, fuse: true}},
		"device":     {[]specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: &ten, Minor: &minor, Access: "rw"}}, map[access]bool{sda: false, fuse: true}},
		"read only":  {[]specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: &ten, Access: "r"}}, map[access]bool{fuse: false}},
	} {
		rules, err := deviceRules(test.list)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for a, want := range test.want {
			if got := interpret(t, deviceFilter(rules), a); got != want {
				t.Errorf("%s: access %+v gives %v", name, a, got)
			}
		}
	}
	for _, bad := range []specs.LinuxDeviceCgroup{{Type: "p"}, {Access: "x"}} {
		if _, err := deviceRules([]specs.LinuxDeviceCgroup{bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
