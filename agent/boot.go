package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// newRoot is where PID 1 builds the root that it moves to. The initramfs itself
// cannot be left by pivot_root(2), which containers need.
const newRoot = "/run"

// agentPath is the agent in the new root, on a read-only mount of its own:
// /proc/PID/exe of a stage must not lead to a file that a container can write.
const agentPath = "/init"

// maxFiles is the guest's limit of open files.
const maxFiles = 1 << 20

// systemMounts are mounted below newRoot, in this order.
var systemMounts = []struct {
	kind, target string
	flags        uintptr
	data         string
}{
	{"tmpfs", "", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
	{"cgroup2", "/sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
}

// boot is PID 1. It does not return: the guest ends with its power.
func boot(build string) {
	guarded(func() {
		if err := startUp(build); err != nil {
			fatal(err)
		}
	})
	powerOff()
}

func startUp(build string) error {
	a, err := prepare(build)
	if err != nil || a == nil {
		return err
	}
	go guarded(func() { a.seed(readSeed) })
	return a.serve()
}

// prepare makes the guest fit for containers. There is no agent where the guest was
// only to show that it boots.
func prepare(build string) (*agent, error) {
	if err := mountSystem(); err != nil {
		return nil, err
	}
	words := bootWords()
	var late []string
	cold := slices.Contains(words, protocol.ColdWord)
	if cold {
		late = nicModules
	}
	if err := loadModules("order", late...); err != nil {
		return nil, err
	}
	if slices.Contains(words, protocol.ProbeWord) {
		return nil, nil
	}
	if err := switchRoot(); err != nil {
		return nil, err
	}
	if err := leaveConsole(); err != nil {
		return nil, err
	}
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	if err := raiseLimits(); err != nil {
		return nil, err
	}
	a := newAgent(build)
	a.self = agentPath
	a.cgroupMount, a.cgroups = "/sys/fs/cgroup", "/sys/fs/cgroup"
	if err := a.findHome(); err != nil {
		return nil, err
	}
	enableControllers(a.cgroups)
	go guarded(func() { a.reaper.run(context.Background()) })
	if cold {
		return a, nil
	}
	if err := a.prefork(); err != nil {
		return nil, err
	}
	return a, nil
}

// guarded ends the VM with a message instead of the kernel's panic, which a
// dying PID 1 means.
func guarded(f func()) {
	defer func() {
		if r := recover(); r != nil {
			fatal(fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	f()
}

// raiseLimits sets what containers inherit. The kernel's limits for its first
// process are less than what engines give their containers.
func raiseLimits() error {
	files := syscall.Rlimit{Cur: maxFiles, Max: maxFiles}
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	processes := syscall.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := syscall.Setrlimit(unix.RLIMIT_NPROC, &processes); err != nil {
		return fmt.Errorf("limit of processes: %w", err)
	}
	return nil
}

func mountSystem() error {
	for _, m := range systemMounts {
		target := newRoot + m.target
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("mount point %s: %w", m.target, err)
		}
		if err := unix.Mount(m.kind, target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.kind, err)
		}
	}
	return nil
}

// bootWords are those of the kernel's command line.
func bootWords() []string {
	line, _ := os.ReadFile(newRoot + "/proc/cmdline")
	return strings.Fields(string(line))
}

// switchRoot makes newRoot the root of PID 1 and so of all that it starts.
func switchRoot() error {
	if err := keepAgent(newRoot + agentPath); err != nil {
		return fmt.Errorf("keep the agent: %w", err)
	}
	if err := keepModules(newRoot + modulesDir); err != nil {
		return fmt.Errorf("keep the modules: %w", err)
	}
	if err := os.MkdirAll(newRoot+protocol.ShareDir, 0o700); err != nil {
		return err
	}
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("chdir %s: %w", newRoot, err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return unix.Chdir("/")
}

// keepAgent carries /init over to path.
func keepAgent(path string) error {
	if err := os.WriteFile(path, nil, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("/init", path, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, "")
}

// keepModules carries those over that may still be asked for.
func keepModules(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return unix.Mount(modulesDir, path, "", unix.MS_BIND, "")
}

// leaveConsole takes the standard descriptors off the console: a write to a
// serial port that nobody reads can block for ever. What the Go runtime has to
// say before it dies goes to the kernel's log.
func leaveConsole() error {
	for fd, path := range []string{"/dev/null", "/dev/null", "/dev/kmsg"} {
		file, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if file == fd {
			continue
		}
		err = unix.Dup3(file, fd, 0)
		_ = unix.Close(file)
		if err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// fatal says why the guest cannot go on and ends it.
func fatal(err error) {
	message := fmt.Sprintf("vmagent: %v\n", err)
	for _, path := range []string{"/dev/console", filepath.Join(newRoot, "/dev/console")} {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			_, _ = unix.Write(fd, []byte(message))
			break
		}
	}
	powerOff()
}

// powerOff ends the VM. Writing back may hang on a share whose host is gone, so
// it gets a moment only.
func powerOff() {
	synced := make(chan struct{})
	go func() {
		unix.Sync()
		close(synced)
	}()
	select {
	case <-synced:
	case <-time.After(2 * time.Second):
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// Without power management there is nothing left to do but stay: the
	// kernel panics when PID 1 ends.
	for {
		time.Sleep(time.Hour)
	}
}
