package shim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
)

// runDir holds one directory per container. It is apart from any --root,
// because a container there may have any name.
const runDir = "/run/vmruntime-vm"

// Dir is where the shim of a container lives. The name is short because
// libvirt's monitor socket below it must stay under 108 bytes; it is a hash of
// --root and the id, so that it can be found without any state.
func Dir(root, id string) string {
	sum := identity(root, id)
	return filepath.Join(runDir, hex.EncodeToString(sum[:6]))
}

// UUID is the identity of the container's domain, from the same hash.
func UUID(root, id string) string {
	sum := identity(root, id)
	return uuid.NewHash(sha256.New(), uuid.NameSpaceURL, sum[:], 8).String()
}

func identity(root, id string) [sha256.Size]byte {
	return sha256.Sum256([]byte(root + "\x00" + id))
}

// endTimeout bounds how long a killed process may take to go.
const endTimeout = 10 * time.Second

// Clean ends whatever is left of a container: shim, QEMU, domain, cgroup, mounts
// and files. It is safe to call twice, and for a container that never was. It needs
// no state: what belongs to the container is told by its command line.
func Clean(ctx context.Context, root, id string) error {
	dir := Dir(root, id)
	if err := End(root, id); err != nil {
		return err
	}
	if err := cleanDir(dir); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	return ctx.Err()
}

// cleanDir gives back what the files in dir tell of before it removes them: another
// attempt needs them.
func cleanDir(dir string) error {
	if err := errors.Join(leaveForeign(dir), removeCgroup(dir)); err != nil {
		return errors.Join(err, vm.Unmount(dir))
	}
	return errors.Join(vm.RemoveOverlay(vm.OverlayPath(dir)), removeDir(dir))
}

// End ends every process of a container on the host without asking any of them.
func End(root, id string) error {
	// Nobody but their cgroup tells that processes are frozen.
	_ = thawCgroup(Dir(root, id))
	if err := endStrays(Dir(root, id), UUID(root, id)); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	return nil
}

// endStrays kills the proxies, and then the shim, the QEMU and the virtiofsd of a
// container: execs end before it, see execs.dismiss.
func endStrays(dir, domain string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var proxies, others []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		switch args := arguments(pid); {
		case !belongs(args, dir, domain):
		case isProxy(args):
			proxies = append(proxies, pid)
		default:
			others = append(others, pid)
		}
	}
	grace := time.Now().Add(dismissGrace)
	for _, pid := range append(proxies, others...) {
		if err := end(pid, dir, domain, grace); err != nil {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
	}
	return nil
}

// arguments of a process, none if there is none.
func arguments(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// belongs tells a process of the container by its arguments.
func belongs(args []string, dir, domain string) bool {
	if len(args) > 2 && (args[1] == ShimWord || args[1] == ProxyWord) && args[2] == dir {
		return true
	}
	if slices.Contains(args, sourceOption(dir)) {
		return true
	}
	i := slices.Index(args, "-uuid")
	return i > 0 && i+1 < len(args) && args[i+1] == domain
}

func isProxy(args []string) bool { return len(args) > 2 && args[1] == ProxyWord }

// end kills a process of the container. A proxy is to be reaped as well until grace.
func end(pid int, dir, domain string, grace time.Time) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	// The pid may have been given to somebody else before it was pinned.
	args := arguments(pid)
	if !belongs(args, dir, domain) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	if !awaitPidfd(fd, int(endTimeout.Milliseconds())) {
		return errors.New("it does not end")
	}
	if isProxy(args) {
		awaitReaped(fd, grace)
	}
	return nil
}

// removeDir removes the shim's directory, but never follows a mount into the
// container's files.
func removeDir(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := vm.Unmount(dir); err != nil {
		return err
	}
	left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s is still mounted", left[0].Mountpoint)
	}
	return os.RemoveAll(dir)
}
