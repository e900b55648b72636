// Command vmruntime-qemu is the emulator that libvirt starts for a container.
// It takes away every capability that QEMU does not need and becomes QEMU. Under
// the embedded driver it also ties QEMU's life to the shim's and leaves it no
// files but its own; under a libvirtd both are libvirtd's work.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/confine"
)

// The environment that the shim sets through the domain XML.
const (
	// envShim is the pid of the shim; QEMU dies with it. It is not set under
	// a libvirtd, nor when libvirt probes QEMU.
	envShim = "VMRUNTIME_SHIM"
	// envPaths are the paths that QEMU may see beside the host's /usr,
	// separated by colons: first those it may write to, after an empty one
	// those it may only read.
	envPaths = "VMRUNTIME_PATHS"
	// envMemory is a memory file that QEMU maps and must not write to, see
	// preload/open.c.
	envMemory = "VMRUNTIME_MEMORY"
)

// preload is the library made of preload/*.c, beside this program.
const preload = "vmruntime-preload.so"

// The device nodes that a machine opens.
var devices = []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/kvm", "/dev/net/tun", "/dev/vhost-net"}

func main() {
	// Capabilities and mount namespaces belong to a thread, and exec keeps the
	// calling one.
	runtime.LockOSThread()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime-qemu:", err)
		os.Exit(1)
	}
}

func run() error {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return errors.New("qemu-system-x86_64 is not installed")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	library := filepath.Join(filepath.Dir(self), preload)
	if shim := os.Getenv(envShim); shim != "" {
		if err := dieWith(shim); err != nil {
			return err
		}
		writable, readable, _ := strings.Cut(os.Getenv(envPaths), "::")
		if err := confine.Root(split(writable), slices.Concat(devices, split(readable), []string{library})); err != nil {
			return err
		}
	}
	env := environment()
	// When libvirt only probes QEMU it has taken all capabilities already.
	if slices.Contains(os.Args, "-uuid") {
		if err := dropCapabilities(); err != nil {
			return err
		}
		if err := confine.Calls(); err != nil {
			return err
		}
		env = append(env, "LD_PRELOAD="+library)
	}
	args := append([]string{filepath.Base(qemu)}, os.Args[1:]...)
	return os.NewSyscallError("exec "+qemu, unix.Exec(qemu, args, env))
}

// dropCapabilities leaves QEMU what its 9p server needs to make files as the users
// inside do, and nothing where it has no 9p server.
func dropCapabilities() error {
	var kept []int
	if slices.Contains(os.Args, "-fsdev") {
		kept = confine.Files
	}
	err := confine.Capabilities(kept)
	if errors.Is(err, confine.ErrTaken) {
		return errors.New("libvirt has taken the capabilities that 9p needs: set clear_emulator_capabilities = 0 in /etc/libvirt/qemu.conf")
	}
	return err
}

func split(paths string) []string {
	return strings.FieldsFunc(paths, func(r rune) bool { return r == ':' })
}

// environment is libvirt's without ours, but for what the library reads.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "VMRUNTIME_") || strings.HasPrefix(e, envMemory+"=") {
			env = append(env, e)
		}
	}
	return env
}

// dieWith has the kernel kill QEMU when the shim ends, whatever the guest does.
// libvirt daemonizes its child before it runs this, and the shim is a
// subreaper: it is the parent already.
func dieWith(shim string) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_PDEATHSIG", err)
	}
	pid, err := strconv.Atoi(shim)
	if err != nil || os.Getppid() != pid {
		return fmt.Errorf("parent is %d, not the shim %s", os.Getppid(), shim)
	}
	return nil
}
