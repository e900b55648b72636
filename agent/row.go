package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A row is all that a forked child does before it is another program: system calls
// whose arguments were worked out before the fork. After it no Go code can run that
// allocates, locks or grows its stack, so nothing is decided in the child beyond
// whether a call has failed. The child has a copy of the agent's memory and
// descriptors, not the memory itself: what it does cannot reach the agent.
type row struct {
	steps []step
	// kept is what the arguments point to.
	kept []any
	// report is the pipe by which the child says what failed. It is closed by execve.
	report struct{ ours, theirs *os.File }
}

// newRow begins a row whose report has a descriptor not below the given one.
func newRow(above int) (*row, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer theirs.Close()
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, above)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("pipe: %w", err)
	}
	r := &row{}
	r.report.ours, r.report.theirs = ours, os.NewFile(uintptr(fd), "report")
	return r, nil
}

func (r *row) close() {
	r.report.ours.Close()
	r.report.theirs.Close()
}

// A step is one call of a row.
type step struct {
	name string
	call uintptr
	args [6]uintptr
	// result puts what the step before has returned in place of the first argument.
	result bool
	// skip is how many further steps are left out if the call fails; failing ends
	// the row.
	skip int
	// rooted is what the call must have written, a path that begins with "/".
	rooted *byte
}

// failing is the skip of a step that must not fail.
const failing = -1

// must adds a call that has to succeed.
func (r *row) must(name string, call uintptr, args ...uintptr) *step {
	return r.add(name, failing, call, args)
}

// try adds a call after whose failure so many further steps are left out.
func (r *row) try(name string, skip int, call uintptr, args ...uintptr) *step {
	return r.add(name, skip, call, args)
}

func (r *row) add(name string, skip int, call uintptr, args []uintptr) *step {
	s := step{name: name, call: call, skip: skip}
	copy(s.args[:], args)
	r.steps = append(r.steps, s)
	return &r.steps[len(r.steps)-1]
}

// unblock lets signals through again, which are blocked while a row is forked.
func (r *row) unblock() {
	var none uint64
	r.must("sigprocmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, argument(r, &none), 0, unsafe.Sizeof(none))
}

func (r *row) chdir(path string) error {
	text, err := r.text(path)
	if err != nil {
		return err
	}
	r.must("chdir "+path, unix.SYS_CHDIR, text)
	return nil
}

// exec has the child become another program.
func (r *row) exec(path string, args, env []string) error {
	name, err := r.text(path)
	if err != nil {
		return err
	}
	argv, err := r.texts(args)
	if err != nil {
		return err
	}
	envv, err := r.texts(env)
	if err != nil {
		return err
	}
	r.must("exec "+path, unix.SYS_EXECVE, name, argv, envv)
	return nil
}

// text is a string as an argument.
func (r *row) text(s string) (uintptr, error) {
	bytes, err := unix.BytePtrFromString(s)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", s, err)
	}
	return argument(r, bytes), nil
}

// texts is a list of strings as an argument, as execve(2) wants them.
func (r *row) texts(list []string) (uintptr, error) {
	pointers, err := syscall.SlicePtrFromStrings(list)
	if err != nil {
		return 0, err
	}
	return argument(r, &pointers[0]), nil
}

// argument is a pointer as an argument.
func argument[T any](r *row, p *T) uintptr {
	r.kept = append(r.kept, p)
	return uintptr(unsafe.Pointer(p))
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// fork forks a child that performs the row, by clone3(2) with the given flags, into
// the cgroup of a descriptor or, where that is negative, its parent's.
func (r *row) fork(flags uint64, cgroup int) (int, error) {
	// What the agent catches has to be the default before a signal gets through.
	args := cloneArgs{flags: flags | unix.CLONE_CLEAR_SIGHAND, exitSignal: uint64(unix.SIGCHLD)}
	if cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(cgroup)
	}
	pid, errno := forkRow(&args, r.steps, r.report.theirs.Fd())
	runtime.KeepAlive(r)
	r.report.theirs.Close()
	if errno != 0 {
		return 0, fmt.Errorf("fork: %w", errno)
	}
	return int(pid), nil
}

// forkRow forks with all signals blocked, which the child's row lets through again.
// Like the child it obeys the rules of syscall.forkAndExecInChild.
//
//go:noinline
//go:norace
//go:nosplit
//go:nocheckptr
func forkRow(args *cloneArgs, steps []step, report uintptr) (pid uintptr, errno syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), unsafe.Sizeof(all), 0, 0)
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if pid == 0 && errno == 0 {
		performRow(steps, report)
	}
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&old)), 0, unsafe.Sizeof(old), 0, 0)
	return pid, errno
}

// performRow is the child. It does not return: it becomes another program or
// reports the number of the step that failed, and its errno.
//
//go:noinline
//go:norace
//go:nosplit
//go:nocheckptr
func performRow(steps []step, report uintptr) {
	said := [2]uint64{uint64(len(steps)), uint64(syscall.ENOENT)}
	var result uintptr
	var errno syscall.Errno
	skip := 0
	for i := range steps {
		if skip > 0 {
			skip--
			continue
		}
		s := &steps[i]
		first := s.args[0]
		if s.result {
			first = result
		}
		result, _, errno = syscall.RawSyscall6(s.call, first, s.args[1], s.args[2], s.args[3], s.args[4], s.args[5])
		if s.rooted != nil && *s.rooted != '/' && errno == 0 {
			errno = syscall.ENOENT
		}
		if errno == 0 {
			continue
		}
		if skip = s.skip; skip == failing {
			said[0], said[1] = uint64(i), uint64(errno)
			break
		}
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, report, uintptr(unsafe.Pointer(&said)), unsafe.Sizeof(said))
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// outcome waits until the child is another program, or has ended otherwise than by
// a step that failed; that is an error.
func (r *row) outcome() error {
	var said [2]uint64
	err := binary.Read(r.report.ours, binary.NativeEndian, &said)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("report: %w", err)
	case said[0] >= uint64(len(r.steps)):
		return errRowEnds
	}
	return fmt.Errorf("%s: %w", r.steps[said[0]].name, syscall.Errno(said[1]))
}

// errRowEnds is the outcome of a row none of whose programs could be executed.
var errRowEnds = errors.New("the row has no further step")
