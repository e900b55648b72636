package agent

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaceKinds are the namespaces that a container may have inside the VM, in
// the order in which an exec joins them. The mount namespace comes last, for
// with it /proc becomes the container's.
var namespaceKinds = []struct {
	kind specs.LinuxNamespaceType
	flag int
	file string
}{
	{specs.PIDNamespace, unix.CLONE_NEWPID, "pid"},
	{specs.NetworkNamespace, unix.CLONE_NEWNET, "net"},
	{specs.IPCNamespace, unix.CLONE_NEWIPC, "ipc"},
	{specs.UTSNamespace, unix.CLONE_NEWUTS, "uts"},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP, "cgroup"},
	{specs.MountNamespace, unix.CLONE_NEWNS, "mnt"},
}

// cloneFlags gives the namespaces that init is cloned into, and whether it makes
// a cgroup namespace too, which is rooted at the cgroup of who makes it. Types
// that are unknown are left alone, as newer engines ask for some.
func cloneFlags(spec *specs.Spec) (flags uintptr, cgroupNS bool, err error) {
	if spec.Linux == nil {
		return 0, false, fmt.Errorf("linux: it is missing")
	}
	for _, namespace := range spec.Linux.Namespaces {
		switch {
		case namespace.Path != "":
			return 0, false, fmt.Errorf("linux.namespaces: the %s namespace %s is not one of this VM", namespace.Type, namespace.Path)
		case namespace.Type == specs.UserNamespace:
			return 0, false, fmt.Errorf("linux.namespaces: user namespaces are not supported inside the VM")
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
