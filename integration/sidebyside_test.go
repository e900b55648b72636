package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A transcript is what a runtime answered to a series of commands, without what
// has to differ from runtime to runtime and from call to call.
type transcript struct {
	steps []step
	// hidden are texts and what they are replaced by.
	hidden *strings.Replacer
}

type step struct {
	Command string
	Code    int
	Out     string
	Message string
}

func newTranscript(c *container) *transcript {
	return &transcript{hidden: strings.NewReplacer(c.id, "ID", c.bundle, "BUNDLE", filepath.Join(scratch, "rootfs"), "ROOTFS", fmt.Sprint(c.pid), "PID")}
}

var (
	timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	version   = regexp.MustCompile(`"ociVersion": *"[^"]*"`)
	// runc tells the phase in front of what went wrong.
	phase  = regexp.MustCompile(`^(runc (create|run) failed|exec failed|create): (unable to start container process: )?`)
	caller = regexp.MustCompile(`^` + runcPath + `: `)
	blanks = regexp.MustCompile(` {2,}`)
)

func (s *transcript) add(command string, r result) {
	clean := func(text string) string {
		text = timestamp.ReplaceAllString(s.hidden.Replace(text), "TIME")
		text = version.ReplaceAllString(text, `"ociVersion": VERSION`)
		return blanks.ReplaceAllString(text, "  ")
	}
	if strings.HasPrefix(r.Out, "Incorrect Usage") {
		// The help that follows is everybody's own.
		r.Out = ""
	}
	message := caller.ReplaceAllString(phase.ReplaceAllString(clean(r.Message), ""), "")
	s.steps = append(s.steps, step{s.hidden.Replace(command), r.Code, clean(r.Out), message})
}

// do runs a command, ID standing for the container, and checks what no runtime
// may do: fail without a word.
func (s *transcript) do(t testing.TB, c *container, command ...string) {
	t.Helper()
	line := make([]string, len(command))
	for i, word := range command {
		line[i] = strings.NewReplacer("ID", c.id, "BUNDLE", c.bundle).Replace(word)
	}
	r := c.call(t, line...)
	if r.Code != 0 && r.Message == "" {
		t.Errorf("it failed without a word: %s", r)
	}
	s.add(strings.Join(command, " "), r)
}

// sameAsRunc has both runtimes go through the same and compares what they said.
// A bundle of runc's making serves both.
func sameAsRunc(t *testing.T, scenario func(t testing.TB, r runtime, bundle string) *transcript) {
	r, ref := machines(t), reference(t)
	nothingLeft(t)
	bundle := ref.bundle(t, idle)
	want := scenario(t, ref, bundle)
	got := scenario(t, r, bundle)
	if diff := cmp.Diff(want.steps, got.steps); diff != "" {
		t.Errorf("vmruntime answers other than runc (-runc +vmruntime):\n%s", diff)
	}
}

func TestSameLifeAsRunc(t *testing.T) {
	sameAsRunc(t, func(t testing.TB, r runtime, bundle string) *transcript {
		c := r.create(t, bundle, options{})
		s := newTranscript(c)
		s.do(t, c, "state", "ID")
		s.do(t, c, "list")
		s.do(t, c, "list", "--format", "json")
		s.do(t, c, "resume", "ID")
		s.do(t, c, "create", "--bundle", "BUNDLE", "ID")
		s.do(t, c, "start", "ID")
		c.stdout.wait(t, "ready\n")
		s.do(t, c, "start", "ID")
		s.do(t, c, "state", "ID")
		s.do(t, c, "delete", "ID")
		s.do(t, c, "list", "--quiet")
		s.do(t, c, "pause", "ID")
		s.do(t, c, "state", "ID")
		s.do(t, c, "pause", "ID")
		s.do(t, c, "exec", "ID", "/bin/true")
		s.do(t, c, "start", "ID")
		s.do(t, c, "delete", "ID")
		s.do(t, c, "resume", "ID")
		s.do(t, c, "resume", "ID")
		s.do(t, c, "kill", "ID", "TERM")
		s.add("exit status", result{Code: c.wait(t)})
		s.do(t, c, "state", "ID")
		s.do(t, c, "list")
		s.do(t, c, "list", "--format", "json")
		s.do(t, c, "kill", "ID", "TERM")
		s.do(t, c, "kill", "--all", "ID", "9")
		s.do(t, c, "start", "ID")
		s.do(t, c, "pause", "ID")
		s.do(t, c, "resume", "ID")
		s.do(t, c, "exec", "ID", "/bin/true")
		s.do(t, c, "create", "--bundle", "BUNDLE", "ID")
		s.do(t, c, "delete", "ID")
		s.do(t, c, "delete", "ID")
		s.do(t, c, "delete", "--force", "ID")
		s.do(t, c, "state", "ID")
		s.do(t, c, "list")
		s.do(t, c, "list", "--format", "json")
		return s
	})
}

func TestSameErrorsAsRunc(t *testing.T) {
	sameAsRunc(t, func(t testing.TB, r runtime, bundle string) *transcript {
		// Where no other test has made it, list would speak of that.
		if err := os.MkdirAll(r.root, 0o700); err != nil {
			t.Fatal(err)
		}
		c := &container{runtime: r, id: "nosuch", bundle: bundle}
		s := newTranscript(c)
		for _, command := range []string{
			"state ID", "start ID", "kill ID 15", "kill --all ID 9", "delete ID", "delete --force ID", "pause ID", "resume ID",
			"ps --format json ID", "exec ID /bin/true", "state", "start", "kill", "delete", "pause", "create", "exec", "exec ID",
			"list --format nonsense",
		} {
			s.do(t, c, strings.Fields(command)...)
		}
		for _, id := range []string{"", ".", "..", "a/b", "../../etc", "a b", "ä", "-x"} {
			c.id = id
			s.do(t, c, "create", "--bundle", "BUNDLE", "ID")
		}
		return s
	})
}

// The texts by which engines choose an exit code.
func TestSameExecErrorsAsRunc(t *testing.T) {
	sameAsRunc(t, func(t testing.TB, r runtime, bundle string) *transcript {
		c := r.create(t, bundle, options{})
		c.start(t)
		s := newTranscript(c)
		for _, command := range []string{
			"exec ID nosuch", "exec ID /no/such", "exec ID /etc/passwd", "exec ID bin/true",
			"exec --detach ID nosuch", "exec --cwd /nosuch ID /bin/true",
		} {
			s.do(t, c, strings.Fields(command)...)
		}
		c.end(t)
		return s
	})
}

// create looks the executable up: afterwards nobody would be told.
func TestSameCreateErrorsAsRunc(t *testing.T) {
	sameAsRunc(t, func(t testing.TB, r runtime, bundle string) *transcript {
		s := &transcript{hidden: strings.NewReplacer()}
		for _, executable := range []string{"nosuch", "/no/such", "/etc/passwd", "relative/true"} {
			editSpec(t, bundle, args(executable))
			s.add("create with "+executable, r.tryCreate(t, bundle))
		}
		return s
	})
}

// tryCreate creates a container that a test expects to fail. What it printed is
// read from files: had it succeeded, a pipe would not end.
func (r runtime) tryCreate(t testing.TB, bundle string, more ...string) result {
	t.Helper()
	return r.tryCreateAs(t, r.newID(t), bundle, more...)
}

func (r runtime) tryCreateAs(t testing.TB, id, bundle string, more ...string) result {
	t.Helper()
	dir := t.TempDir()
	outPath, errPath := filepath.Join(dir, "out"), filepath.Join(dir, "err")
	result := r.callWith(t, func(cmd *exec.Cmd) {
		cmd.Stdout, cmd.Stderr = createFile(t, outPath), createFile(t, errPath)
	}, append(append([]string{"create", "--bundle", bundle}, more...), id)...)
	result.Out, result.Err = testutil.ReadFile(t, outPath), testutil.ReadFile(t, errPath)
	if result.Code == 0 {
		r.must(t, "delete", "--force", id)
	}
	return result
}

func createFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The configuration that spec writes says the same, apart from what newer runc
// does as well: no ambient capabilities, and a cgroup namespace.
func TestSameSpecAsRunc(t *testing.T) {
	r, ref := machines(t), reference(t)
	read := func(r runtime) document {
		dir := t.TempDir()
		r.must(t, "spec", "--bundle", dir)
		var spec document
		if err := json.Unmarshal([]byte(testutil.ReadFile(t, filepath.Join(dir, "config.json"))), &spec); err != nil {
			t.Fatal(err)
		}
		spec.remove("ociVersion")
		spec.remove("hostname")
		spec.remove("process", "capabilities", "ambient")
		spec.namespaces(func(kind string) bool { return kind != "cgroup" })
		return spec
	}
	if diff := cmp.Diff(read(ref), read(r)); diff != "" {
		t.Errorf("spec (-runc +vmruntime):\n%s", diff)
	}
}
