package agent

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// performed forks a child for the row and gives its exit code and outcome.
func performed(t *testing.T, r *row) (int, error) {
	t.Helper()
	pid, err := r.fork(0, -1)
	must(t, err)
	err = r.outcome()
	var status unix.WaitStatus
	_, waitErr := unix.Wait4(pid, &status, 0, nil)
	must(t, waitErr)
	return exitCode(status), err
}

// A step that fails ends the row and is named; nothing after it is done.
func TestRowFails(t *testing.T) {
	r, err := newRow(3)
	must(t, err)
	defer r.close()
	out, in, err := os.Pipe()
	must(t, err)
	word := []byte("x")
	r.must("write", unix.SYS_WRITE, in.Fd(), argument(r, &word[0]), 1)
	r.must("chdir /nosuch", unix.SYS_CHDIR, argument(r, &[]byte("/nosuch\x00")[0]))
	r.must("write", unix.SYS_WRITE, in.Fd(), argument(r, &word[0]), 1)
	code, err := performed(t, r)
	if !errors.Is(err, unix.ENOENT) || err.Error() != "chdir /nosuch: no such file or directory" || code != 1 {
		t.Errorf("%v, exit code %d", err, code)
	}
	in.Close()
	if written, _ := io.ReadAll(out); string(written) != "x" {
		t.Errorf("written: %q", written)
	}
}

// Steps that may fail take those with them that need them, and results are passed on.
func TestRowSkips(t *testing.T) {
	r, err := newRow(3)
	must(t, err)
	defer r.close()
	file := t.TempDir() + "/file"
	must(t, os.WriteFile(file, nil, 0o600))
	word := []byte("x")
	for _, path := range []string{"/nosuch/file", file} {
		text, err := r.text(path)
		must(t, err)
		r.try("open", 1, unix.SYS_OPEN, text, unix.O_WRONLY|unix.O_APPEND)
		r.must("write", unix.SYS_WRITE, 0, argument(r, &word[0]), 1).result = true
	}
	code, err := performed(t, r)
	if !errors.Is(err, errRowEnds) || code != 1 {
		t.Errorf("%v, exit code %d", err, code)
	}
	if text, _ := os.ReadFile(file); string(text) != "x" {
		t.Errorf("written: %q", text)
	}
}

// A path outside of the root is not one.
func TestRowRooted(t *testing.T) {
	for where, want := range map[string]error{"/tmp\x00": errRowEnds, "(unreachable)/tmp\x00": unix.ENOENT} {
		r, err := newRow(3)
		must(t, err)
		path := []byte(where)
		r.must("getcwd", unix.SYS_GETPID).rooted = &path[0]
		if _, err := performed(t, r); !errors.Is(err, want) {
			t.Errorf("%q: %v", where, err)
		}
		r.close()
	}
}

// A program that is executed closes the report, and so does a death.
func TestRowEnds(t *testing.T) {
	r, err := newRow(3)
	must(t, err)
	defer r.close()
	path, err := r.text("/bin/sh")
	must(t, err)
	args, err := r.texts([]string{"sh", "-c", "exit 7"})
	must(t, err)
	r.must("exec", unix.SYS_EXECVE, path, args, 0)
	if code, err := performed(t, r); err != nil || code != 7 {
		t.Errorf("%v, exit code %d", err, code)
	}
	dies, err := newRow(3)
	must(t, err)
	defer dies.close()
	dies.must("exit", unix.SYS_EXIT_GROUP, 9)
	if code, err := performed(t, dies); err != nil || code != 9 {
		t.Errorf("%v, exit code %d", err, code)
	}
}

// The order is the stage's: what takes a right comes before it goes, and nothing
// leads out of the container when its program is looked for.
func TestExecRowOrder(t *testing.T) {
	score, mask := 5, uint32(0o27)
	p := &specs.Process{
		Args: []string{"true"}, Env: []string{"PATH=/bin:/usr/bin"}, Cwd: "/tmp",
		User:         specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}, Umask: &mask},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}},
		OOMScoreAdj:  &score,
		Capabilities: &specs.LinuxCapabilities{Ambient: []string{"CAP_KILL"}},
	}
	config := stageConfig{Process: p, Container: protocol.Container{ID: "c", Seccomp: make([]byte, 8)}}
	for noNewPrivileges, want := range map[bool]string{
		false: "RLIMIT_NOFILE chdir /tmp getcwd seccomp PR_CAPBSET_DROP prctl(PR_SET_KEEPCAPS) setgroups setgid setuid prctl(PR_SET_KEEPCAPS) capset PR_CAP_AMBIENT_CLEAR_ALL PR_CAP_AMBIENT_RAISE",
		true:  "RLIMIT_NOFILE chdir /tmp getcwd prctl(PR_SET_NO_NEW_PRIVS) PR_CAPBSET_DROP prctl(PR_SET_KEEPCAPS) setgroups setgid setuid prctl(PR_SET_KEEPCAPS) capset PR_CAP_AMBIENT_CLEAR_ALL PR_CAP_AMBIENT_RAISE seccomp",
	} {
		p.NoNewPrivileges = noNewPrivileges
		r, err := newExecRow(config, p.Env, []int{3, 4, 5}, 6, rowNamespaces)
		must(t, err)
		var names []string
		for _, s := range r.steps {
			if len(names) == 0 || names[len(names)-1] != s.name {
				names = append(names, s.name)
			}
		}
		r.close()
		want := "prctl(PR_SET_DUMPABLE) setsid standard descriptor keyring oom_score_adj join namespaces close_range chdir / prctl(PR_SET_TIMERSLACK) umask sigaction sigprocmask " +
			want + " openat faccessat2 exec /bin/true openat faccessat2 exec /usr/bin/true"
		if diff := cmp.Diff(want, strings.Join(names, " ")); diff != "" {
			t.Error(diff)
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name, path string
		want       []string
	}{
		{"./x", "/bin", []string{"./x"}},
		{"x", "/bin:/usr/bin/", []string{"/bin/x", "/usr/bin/x"}},
		{"x", "/bin:bin", nil},
		{"x", "/bin:", nil},
		{"x", "", nil},
	} {
		if diff := cmp.Diff(c.want, places(c.name, c.path)); diff != "" {
			t.Errorf("%s in %s: %s", c.name, c.path, diff)
		}
	}
}

// What a row does not know of takes a stage.
func TestRowCovers(t *testing.T) {
	spec := &specs.Spec{Linux: &specs.Linux{}}
	if !rowCovers(spec, shell("true")) {
		t.Error("a plain process takes a stage")
	}
	for name, change := range map[string]func(*specs.Spec, *specs.Process){
		"terminal":       func(_ *specs.Spec, p *specs.Process) { p.Terminal = true },
		"scheduler":      func(_ *specs.Spec, p *specs.Process) { p.Scheduler = &specs.Scheduler{} },
		"ioPriority":     func(_ *specs.Spec, p *specs.Process) { p.IOPriority = &specs.LinuxIOPriority{} },
		"execCPU":        func(_ *specs.Spec, p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{} },
		"personality":    func(s *specs.Spec, _ *specs.Process) { s.Linux.Personality = &specs.LinuxPersonality{} },
		"user namespace": func(s *specs.Spec, _ *specs.Process) { s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "user"}} },
		"time offsets": func(s *specs.Spec, _ *specs.Process) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "time"}}
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}}
		},
	} {
		s, p := &specs.Spec{Linux: &specs.Linux{}}, shell("true")
		change(s, p)
		if rowCovers(s, p) {
			t.Errorf("%s: a row is thought to do", name)
		}
	}
}

// TestExecWays: a process cannot tell a row from a stage.
func TestExecWays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	a, g := localGuest(t)
	config := g.config(shell("sleep 1000"))
	config.Seccomp = allowAll()
	init := g.container(config)
	g.start(config.ID)
	c, err := a.find(config.ID)
	must(t, err)
	for name, p := range processes() {
		t.Run(name, func(t *testing.T) {
			outer := g.t
			g.t = t
			defer func() { g.t = outer }()
			a.home = nil
			stage := g.exec(config.ID, "stage", p)
			codeOfStage := stage.end()
			must(t, a.findHome())
			tried, err := c.launchRow(stageConfig{Container: c.execConfig(), Process: inherit(p, config.Spec.Process), Exec: true})
			if err != nil {
				t.Fatalf("the row fails: %v", err)
			}
			<-tried.exited
			tried.close()
			row := g.exec(config.ID, "row", p)
			code := row.end()
			if code != codeOfStage || row.stdout.String() != stage.stdout.String() || row.stderr.String() != stage.stderr.String() {
				t.Errorf("row: %d %s, stage: %d %s\n%s", code, &row.stderr, codeOfStage, &stage.stderr, cmp.Diff(stage.stdout.String(), row.stdout.String()))
			}
			if code == 0 && !strings.Contains(stage.stdout.String(), "CapEff") {
				t.Errorf("nothing to compare: %s", &stage.stdout)
			}
		})
	}
	must(t, g.signal(config.ID, "", 9))
	init.end()
}

// processes are execs that differ in what they ask for.
func processes() map[string]*specs.Process {
	const tell = `grep -Ev '^(Pid|PPid|SigQ|NSpid|Tgid|NStgid|NSpgid|NSsid|Ngid|Vm|Rss|.*ctxt|Cpus|Mems|voluntary|Threads|THP)' /proc/self/status
		cat /proc/self/limits /proc/self/oom_score_adj; id; umask; env; readlink /proc/self/cwd
		for n in pid net ipc uts cgroup mnt user; do readlink /proc/self/ns/$n; done
		ls /proc/self/fd; stat -c '%u %g %a' -L /proc/self/fd/0 /proc/self/fd/1; cat /proc/self/cgroup; grep -c . /proc/self/mountinfo`
	caps := []string{"CAP_KILL", "CAP_CHOWN", "CAP_SETPCAP"}
	score, mask := 77, uint32(0o007)
	plain := func(change func(*specs.Process)) *specs.Process {
		p := shell(tell)
		change(p)
		return p
	}
	return map[string]*specs.Process{
		"plain": plain(func(*specs.Process) {}),
		"user": plain(func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{3, 4}, Umask: &mask}
			p.Cwd = "/home"
		}),
		"capabilities": plain(func(p *specs.Process) {
			p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		}),
		"ambient": plain(func(p *specs.Process) {
			p.User.UID = 1000
			p.NoNewPrivileges = true
			p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: append(slices.Clone(caps), "CAP_SYS_ADMIN")}
		}),
		"limits": plain(func(p *specs.Process) {
			p.OOMScoreAdj = &score
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 99, Hard: 100}, {Type: "RLIMIT_CORE"}}
		}),
		"environment": plain(func(p *specs.Process) { p.Env = append(p.Env, "A=1", "A=2", "HOME=", "TERM=x y") }),
		"exit code":   shell("exit 77"),
		"signal":      shell("kill -9 $$"),
	}
}

func allowAll() []byte { return []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f} }
