package agent

import (
	"errors"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An exec is a row where everything that it asks for is known in advance; anything
// else takes a stage, and so does a row that fails: what went wrong is told by one
// program only. Row and stage do the same in the same order, see stage.go and
// finalize.

// errNoRow says that an exec takes a stage.
var errNoRow = errors.New("the process takes a stage")

// rowNamespaces are the kinds that a row joins, at once. The child is born into the
// pid namespace; the others are not for a row, see rowCovers.
const rowNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// firstOther is the first descriptor that a program is not given.
const firstOther = 3

// rowCovers tells whether a row can do all that is asked of an exec. What is not
// listed here it cannot.
func rowCovers(c *specs.Spec, p *specs.Process) bool {
	rest := *p
	rest.User, rest.Args, rest.Env, rest.Cwd = specs.User{}, nil, nil, ""
	rest.ConsoleSize, rest.Capabilities, rest.Rlimits = nil, nil, nil
	rest.NoNewPrivileges, rest.OOMScoreAdj = false, nil
	return reflect.ValueOf(rest).IsZero() && c.Linux.Personality == nil && len(clockOffsets(c)) == 0 &&
		!hasNamespace(c, specs.UserNamespace)
}

// An execRow builds the row of one exec.
type execRow struct {
	*row
	stageConfig
	env []string
}

// newExecRow is the row of an exec whose standard descriptors are stdio and whose
// namespaces, of the given kinds, are those of the process behind a pidfd.
func newExecRow(config stageConfig, env []string, stdio []int, process uintptr, kinds int) (*row, error) {
	r, err := newRow(firstOther)
	if err != nil {
		return nil, err
	}
	e := &execRow{row: r, stageConfig: config, env: env}
	err = errors.Join(e.enter(stdio, process, kinds), e.finalize(), e.execute())
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// enter is what a stage does until it is in the container: stage.setUpExec.
func (e *execRow) enter(stdio []int, process uintptr, kinds int) error {
	// What the container can see of the child must give it nothing.
	e.must("prctl(PR_SET_DUMPABLE)", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	e.must("setsid", unix.SYS_SETSID)
	for fd, from := range stdio {
		e.must("standard descriptor", unix.SYS_DUP3, uintptr(from), uintptr(fd), 0)
	}
	keyring, err := e.text("_ses." + e.Container.ID)
	if err != nil {
		return err
	}
	e.try("keyring", 0, unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, keyring)
	if err := e.oomScore(); err != nil {
		return err
	}
	e.must("join namespaces", unix.SYS_SETNS, process, uintptr(kinds))
	// From here on there is no way out by a descriptor (CVE-2024-21626).
	report := e.report.theirs.Fd()
	e.must("close_range", unix.SYS_CLOSE_RANGE, firstOther, report-1, 0)
	e.must("close_range", unix.SYS_CLOSE_RANGE, report+1, uintptr(^uint32(0)), 0)
	return e.chdir("/")
}

func (e *execRow) oomScore() error {
	if e.Process.OOMScoreAdj == nil {
		return nil
	}
	path, err := e.text("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	score := []byte(strconv.Itoa(*e.Process.OOMScoreAdj))
	e.try("oom_score_adj", 1, unix.SYS_OPEN, path, unix.O_WRONLY|unix.O_CLOEXEC)
	e.try("oom_score_adj", 0, unix.SYS_WRITE, 0, argument(e.row, &score[0]), uintptr(len(score))).result = true
	return nil
}

// finalize is stage.finalize.
func (e *execRow) finalize() error {
	p := e.Process
	e.must("prctl(PR_SET_TIMERSLACK)", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, defaultSlack)
	mask := uint32(0o022)
	if p.User.Umask != nil {
		mask = *p.User.Umask
	}
	e.must("umask", unix.SYS_UMASK, uintptr(mask))
	e.signals()
	if err := e.rlimits(); err != nil {
		return err
	}
	if err := e.enterCwd(); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		e.must("prctl(PR_SET_NO_NEW_PRIVS)", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	} else if err := e.seccomp(); err != nil {
		return err
	}
	if err := e.become(); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		return e.seccomp()
	}
	return nil
}

// signals undoes what the agent was left with, see heedSignals, and lets them
// through.
func (e *execRow) signals() {
	var byDefault struct{ handler, flags, restorer, mask uintptr }
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		e.must("sigaction", unix.SYS_RT_SIGACTION, uintptr(s), argument(e.row, &byDefault), 0, 8)
	}
	e.unblock()
}

func (e *execRow) rlimits() error {
	for _, r := range e.Process.Rlimits {
		resource, ok := rlimits[r.Type]
		if !ok {
			return errNoRow
		}
		limit := &unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		e.must(r.Type, unix.SYS_PRLIMIT64, 0, uintptr(resource), argument(e.row, limit), 0)
	}
	return nil
}

func (e *execRow) seccomp() error {
	if len(e.Container.Seccomp) == 0 {
		return nil
	}
	filter, err := parseFilter(e.Container.Seccomp)
	if err != nil || e.Container.SeccompFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		return errNoRow
	}
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	e.must("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(e.Container.SeccompFlags), argument(e.row, program))
	return nil
}

// enterCwd changes to the working directory and has it looked at.
func (e *execRow) enterCwd() error {
	if cwd := e.Process.Cwd; cwd != "" {
		if err := e.chdir(cwd); err != nil {
			return err
		}
	}
	where := make([]byte, unix.PathMax)
	e.must("getcwd", unix.SYS_GETCWD, argument(e.row, &where[0]), uintptr(len(where))).rooted = &where[0]
	return nil
}

// become is stage.become.
func (e *execRow) become() error {
	p := e.Process
	sets, err := newCapSets(p.Capabilities)
	if err != nil {
		return err
	}
	if sets != nil {
		for _, c := range sets.dropped {
			e.must("PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c))
		}
	}
	e.user()
	if sets != nil {
		e.capabilities(sets)
	}
	return nil
}

func (e *execRow) user() {
	u := e.Process.User
	groups := append([]uint32{}, u.AdditionalGids...)
	e.must("prctl(PR_SET_KEEPCAPS)", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	e.must("setgroups", unix.SYS_SETGROUPS, uintptr(len(groups)), argument(e.row, unsafe.SliceData(groups)))
	e.must("setgid", unix.SYS_SETGID, uintptr(u.GID))
	e.must("setuid", unix.SYS_SETUID, uintptr(u.UID))
	e.must("prctl(PR_SET_KEEPCAPS)", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0)
}

func (e *execRow) capabilities(sets *capSets) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	e.must("capset", unix.SYS_CAPSET, argument(e.row, header), argument(e.row, &sets.data[0]))
	e.must("PR_CAP_AMBIENT_CLEAR_ALL", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for _, c := range sets.ambient {
		e.try("PR_CAP_AMBIENT_RAISE", 0, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c))
	}
}

// execute tries the places where the program may be. One that is found stays open
// until the program runs: its path is looked up once then, and what of it is on the
// share needs no second round of turns to the host.
func (e *execRow) execute() error {
	places := places(e.Process.Args[0], variable(e.env, "PATH"))
	empty, err := e.text("")
	if err != nil {
		return err
	}
	for _, place := range places {
		path, err := e.text(place)
		if err != nil {
			return err
		}
		if len(places) > 1 {
			e.try("openat", 2, unix.SYS_OPENAT, at(unix.AT_FDCWD), path, unix.O_PATH|unix.O_CLOEXEC)
			e.try("faccessat2", 1, unix.SYS_FACCESSAT2, 0, empty, unix.X_OK, unix.AT_EACCESS|unix.AT_EMPTY_PATH).result = true
		}
		if err := e.exec(place, e.Process.Args, e.env); err != nil {
			return err
		}
	}
	return nil
}

func at(fd int) uintptr { return uintptr(fd) }

// places are the paths that a program's name may mean. A PATH that depends on the
// working directory finds nothing, see exec.ErrDot.
func places(name, path string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var list []string
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			return nil
		}
		list = append(list, filepath.Join(dir, name))
	}
	return list
}
