package agent

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A bareFork executes a program by a row, where package syscall will not do: the child
// shares no memory with this process, and it joins namespaces before it executes
// anything. The kernel takes only a process with a single thread and
// memory of its own into another user or time namespace, which no Go program is.
type bareFork struct {
	path, name string
	env        []string
	// flags are CLONE_* of clone3(2).
	flags uint64
	// cgroup is a descriptor of the child's cgroup; negative without.
	cgroup int
	// join are joined in their order.
	join []namespace
	// root makes the child the user 0 of the namespaces joined.
	root bool
	// files are the child's descriptors from 0.
	files []*os.File
}

// A namespace is open.
type namespace struct {
	kind int
	file *os.File
}

// firstSpare is above all descriptors of a child: what it is given is moved there
// first, so that nothing is overwritten on the way to its place.
const firstSpare = 1024

// start executes the program and returns its pid.
func (f bareFork) start() (int, error) {
	spare, err := spareFiles(f.files)
	if err != nil {
		return 0, err
	}
	defer closeAll(spare)
	r, err := newRow(firstSpare)
	if err != nil {
		return 0, err
	}
	defer r.close()
	if err := f.fill(r, spare); err != nil {
		return 0, err
	}
	pid, err := r.fork(f.flags, f.cgroup)
	if err != nil {
		return 0, err
	}
	runtime.KeepAlive(f)
	runtime.KeepAlive(spare)
	if err := r.outcome(); err != nil {
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return 0, err
	}
	return pid, nil
}

// fill makes the row of a program with the given files.
func (f bareFork) fill(r *row, files []*os.File) error {
	for _, n := range f.join {
		r.must("join namespace", unix.SYS_SETNS, n.file.Fd(), uintptr(n.kind))
	}
	if f.root {
		r.must("setgroups", unix.SYS_SETGROUPS)
		r.must("setresgid", unix.SYS_SETRESGID)
		r.must("setresuid", unix.SYS_SETRESUID)
	}
	for fd, file := range files {
		r.must("descriptor", unix.SYS_DUP3, file.Fd(), uintptr(fd))
	}
	r.must("setsid", unix.SYS_SETSID)
	r.unblock()
	if err := r.chdir("/"); err != nil {
		return err
	}
	return r.exec(f.path, []string{f.name}, f.env)
}

func spareFiles(files []*os.File) ([]*os.File, error) {
	var spare []*os.File
	for _, file := range files {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, firstSpare)
		if err != nil {
			closeAll(spare)
			return nil, fmt.Errorf("descriptor: %w", err)
		}
		spare = append(spare, os.NewFile(uintptr(fd), file.Name()))
	}
	return spare, nil
}
