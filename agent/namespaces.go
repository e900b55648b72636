package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaceKinds are the namespaces that a container may have inside the VM, in
// the order in which an exec joins them: the user namespace before those that
// belong to it, the mount namespace last, for with it /proc becomes the
// container's.
var namespaceKinds = []struct {
	kind specs.LinuxNamespaceType
	flag int
	file string
}{
	{specs.TimeNamespace, unix.CLONE_NEWTIME, "time"},
	{specs.UserNamespace, unix.CLONE_NEWUSER, "user"},
	{specs.PIDNamespace, unix.CLONE_NEWPID, "pid"},
	{specs.NetworkNamespace, unix.CLONE_NEWNET, "net"},
	{specs.IPCNamespace, unix.CLONE_NEWIPC, "ipc"},
	{specs.UTSNamespace, unix.CLONE_NEWUTS, "uts"},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP, "cgroup"},
	{specs.MountNamespace, unix.CLONE_NEWNS, "mnt"},
}

// cloneFlags gives the namespaces that init is cloned into, and whether it makes
// a cgroup namespace too, which is rooted at the cgroup of who makes it. No process
// is cloned into a time namespace, see unshareTime. Types that are unknown are left
// alone, as newer engines ask for some.
func cloneFlags(spec *specs.Spec) (flags uintptr, cgroupNS bool, err error) {
	if spec.Linux == nil {
		return 0, false, fmt.Errorf("linux: it is missing")
	}
	for _, namespace := range spec.Linux.Namespaces {
		switch {
		case namespace.Path != "":
			return 0, false, fmt.Errorf("linux.namespaces: the %s namespace %s is not one of this VM", namespace.Type, namespace.Path)
		case namespace.Type == specs.TimeNamespace:
			continue
		case namespace.Type == specs.UserNamespace && (len(spec.Linux.UIDMappings) == 0 || len(spec.Linux.GIDMappings) == 0):
			return 0, false, fmt.Errorf("linux.uidMappings, linux.gidMappings: a user namespace needs both")
		case namespace.Type == specs.CgroupNamespace:
			cgroupNS = true
			continue
		}
		for _, k := range namespaceKinds {
			if k.kind == namespace.Type {
				flags |= uintptr(k.flag)
			}
		}
	}
	if flags&unix.CLONE_NEWNS == 0 {
		return 0, false, fmt.Errorf("linux.namespaces: a container needs a mount namespace of its own")
	}
	return flags, cgroupNS, nil
}

// namespaceSet is what an exec joins.
type namespaceSet struct {
	// born are those that it is born into; the others it joins by itself.
	born  []namespace
	kinds []int
	files []*os.File
}

func (n *namespaceSet) close() {
	for _, b := range n.born {
		b.file.Close()
	}
	closeAll(n.files)
}

// namespaces opens the namespaces of init in the order in which an exec joins
// them.
func (c *container) namespaces() (*namespaceSet, error) {
	init, err := c.process("")
	if err != nil {
		return nil, err
	}
	n := &namespaceSet{}
	if !c.agent.reaper.alive(init.pid, func() { err = n.open(init.pid, c.config.Spec) }) {
		err = errNotRunning
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *namespaceSet) open(pid int, spec *specs.Spec) error {
	for _, k := range namespaceKinds {
		if !hasNamespace(spec, k.kind) || k.flag == unix.CLONE_NEWTIME && len(spec.Linux.TimeOffsets) == 0 {
			continue
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, k.file))
		if errors.Is(err, fs.ErrNotExist) {
			// Init has ended and is not reaped yet.
			return errNotRunning
		}
		if err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
		switch k.flag {
		case unix.CLONE_NEWPID, unix.CLONE_NEWUSER, unix.CLONE_NEWTIME:
			n.born = append(n.born, namespace{kind: k.flag, file: file})
			continue
		}
		n.kinds = append(n.kinds, k.flag)
		n.files = append(n.files, file)
	}
	return nil
}

// join enters the namespaces of the given kinds through their descriptors. Only
// the calling thread changes.
func join(kinds []int, first int) error {
	for i, kind := range kinds {
		if kind == unix.CLONE_NEWNS {
			// A thread that shares its root with others may not change it.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
		}
		if err := unix.Setns(first+i, kind); err != nil {
			return fmt.Errorf("join namespace %#x: %w", kind, err)
		}
	}
	return nil
}

// loopbackUp brings lo up in the current network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return nil
}

// pin keeps namespaces of init beyond its end. To take down a mount namespace with all
// of its mounts is the process's own work otherwise, before its parent hears of its
// end; the others are taken down by threads of the kernel, which have the CPU meanwhile.
func pin(init int) []*os.File {
	var files []*os.File
	for _, kind := range []string{"mnt", "net", "ipc"} {
		// Without it the end takes longer.
		if file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", init, kind)); err == nil {
			files = append(files, file)
		}
	}
	return files
}
