package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A fieldTest is one field of config.json and what a process inside finds of it.
// fieldGroups, in fieldtable_test.go, is the table; a unit test of package runtime
// holds it complete.
type fieldTest struct {
	// field is a name as in docs/config-json.md.
	field string
	// change sets the field.
	change change
	// look is a shell command inside, want its output.
	look, want string
	// exec has it run by an exec.
	exec bool
	// not is why runc does not show the same here.
	not string
	// elsewhere is the test of a field that has one of its own.
	elsewhere string
}

// A fieldGroup is one container, whose configuration sets all of its fields.
type fieldGroup struct {
	name  string
	tests []fieldTest
}

// Every field does inside what runc makes of it.
func TestFields(t *testing.T) {
	runtimes := []runtime{subject(t)}
	if runtimes[0].isVM() {
		runtimes = append(runtimes, reference(t))
	}
	nothingLeft(t)
	for _, group := range fieldGroups {
		for _, r := range runtimes {
			t.Run(group.name+"/"+r.name, func(t *testing.T) {
				t.Parallel()
				group.test(t, r)
			})
		}
	}
}

// test starts one container, which looks at one field after another, and has it
// execute what looks at the rest.
func (g fieldGroup) test(t *testing.T, r runtime) {
	var tests []fieldTest
	changes := []change{rootfs(newRootfs(t)), writable}
	for _, test := range g.tests {
		if test.elsewhere == "" && (r.isVM() || test.not == "") {
			tests = append(tests, test)
			changes = append(changes, test.change)
		}
	}
	if len(tests) == 0 {
		t.Skip("needs a runtime with VMs: ", g.tests[0].not)
	}
	c := r.startNew(t, append(changes, looks(tests))...)
	c.stdout.wait(t, mark("end"))
	out := c.stdout.text()
	for i, test := range tests {
		t.Run(test.field, func(t *testing.T) {
			got := between(out, mark(i), "\n@")
			if test.exec {
				got = c.execLooking(t, test).Out
			}
			if diff := cmp.Diff(test.want, strings.TrimSuffix(got, "\n")); diff != "" {
				t.Errorf("$ %s (-want +got):\n%s", test.look, diff)
			}
		})
	}
	c.end(t)
}

// mark is a line of its own between what the commands print.
func mark(of any) string { return fmt.Sprintf("@%v\n", of) }

// looks runs the commands that no exec does, each in a shell of its own.
func looks(tests []fieldTest) change {
	lines := []string{mounted}
	for i, test := range tests {
		if !test.exec {
			lines = append(lines, fmt.Sprintf("echo @%d; (%s\n) 2>&1; echo", i, test.look))
		}
	}
	return script(append(lines, "echo @end", "while :; do sleep 1000; done")...)
}

// mounted is a shell function: options, propagation, type or data of the mount at
// a path, from proc(5)'s mountinfo.
const mounted = `mounted() { awk -v path="$1" -v what="$2" '$5 == path {
	dash = 7; while ($dash != "-") dash++
	split($7, peer, ":"); told["options"] = $6; told["propagation"] = peer[1]
	told["type"] = $(dash + 1); told["data"] = $(dash + 3)
} END { print told[what] }' /proc/self/mountinfo; }`

// between is what stands between two texts.
func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

// execLooking executes the container's own process with another command.
func (c *container) execLooking(t *testing.T, test fieldTest) result {
	t.Helper()
	var spec specs.Spec
	if err := json.Unmarshal([]byte(testutil.ReadFile(t, filepath.Join(c.bundle, "config.json"))), &spec); err != nil {
		t.Fatal(err)
	}
	spec.Process.Args = []string{"/bin/sh", "-c", test.look}
	text, err := json.Marshal(spec.Process)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "process.json")
	testutil.WriteFile(t, path, string(text))
	return c.call(t, "exec", "--process", path, c.id)
}
