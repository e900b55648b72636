// Command vmruntime-virtiofsd is the file server of a container whose transport
// is virtiofs. It takes away what virtiofsd does not need, as vmruntime-qemu does
// with QEMU, and becomes it:
//
//	vmruntime-virtiofsd VIRTIOFSD SHARE
//
// Descriptor 3 is the listening socket that QEMU connects to. Its parent has set
// PDEATHSIG.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/confine"
)

func main() {
	// Capabilities and namespaces belong to a thread, and exec keeps the calling
	// one.
	runtime.LockOSThread()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime-virtiofsd:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: vmruntime-virtiofsd VIRTIOFSD SHARE")
	}
	server, share := os.Args[1], os.Args[2]
	if err := raiseFiles(); err != nil {
		return err
	}
	// It serves one socket that it has already.
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := confine.Root([]string{share}, []string{maxFilesOfHost}); err != nil {
		return err
	}
	if err := keepAcrossUsers(); err != nil {
		return err
	}
	if err := confine.Capabilities(kept()); err != nil {
		return err
	}
	if err := confine.Calls(); err != nil {
		return err
	}
	return os.NewSyscallError("exec "+server, unix.Exec(server, arguments(share), []string{"PATH=/usr/bin"}))
}

// arguments are those of QEMU's own virtiofsd. The guest asks for every name and
// attribute anew, because the host may change them at any time; what it has read
// of a file it keeps as long as the file's times and size stay.
func arguments(share string) []string {
	return []string{
		"virtiofsd", "--fd=3", "-f", "--rlimit-nofile=0",
		"-o", "source=" + share, "-o", "sandbox=chroot", "-o", "log_level=err",
		"-o", "cache=auto", "-o", "timeout=0", "-o", "no_readdirplus",
		"-o", "xattr",
		// Files of different mounts may have equal inode numbers.
		"-o", "announce_submounts",
	}
}

// maxFilesOfHost is read by virtiofsd although it is told not to use it.
const maxFilesOfHost = "/proc/sys/fs/file-max"

// maxFiles is how many files virtiofsd may have open: it holds a descriptor for
// each that the guest remembers.
const maxFiles = 1 << 20

// raiseFiles sets the limit, which a host may have made impossible: then it is what
// the host allows.
func raiseFiles() error {
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxFiles, Max: maxFiles}) == nil {
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	limit.Cur = limit.Max
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
}

// noFixup is SECBIT_NO_SETUID_FIXUP and its lock, see capabilities(7).
const noFixup = 1<<2 | 1<<3

// keepAcrossUsers lets a thread that makes a file as one of the guest's users keep
// its capabilities: the guest's kernel has checked what that user may do, with all
// his groups, of which virtiofsd learns only one.
func keepAcrossUsers() error {
	return os.NewSyscallError("prctl PR_SET_SECUREBITS", unix.Prctl(unix.PR_SET_SECUREBITS, noFixup, 0, 0, 0))
}

// kept is what virtiofsd needs: it becomes the user who makes a file. What takes
// it to change its root and to drop capabilities it drops itself, before it serves
// anything.
func kept() []int {
	return slices.Concat(confine.Files, []int{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP})
}
