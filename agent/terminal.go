package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo-terminal in the container's own devpts, sends its
// master to the agent and makes its slave the standard descriptors and the
// controlling terminal. For init it is /dev/console too.
func (s *stage) openTerminal(console bool) error {
	master, err := openMaster()
	if err != nil {
		return fmt.Errorf("process.terminal: %w", err)
	}
	defer unix.Close(master)
	if size := s.Process.ConsoleSize; size != nil && size.Height != 0 && size.Width != 0 {
		window := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, window); err != nil {
			return fmt.Errorf("process.consoleSize: %w", err)
		}
	}
	slave, err := openSlave(master)
	if err != nil {
		return fmt.Errorf("process.terminal: %w", err)
	}
	defer unix.Close(slave)
	if console {
		if err := mountConsole(slave); err != nil {
			return fmt.Errorf("process.terminal: /dev/console: %w", err)
		}
	}
	if err := unix.Sendmsg(controlFD, []byte{saysTerminal}, unix.UnixRights(master), nil, 0); err != nil {
		return fmt.Errorf("process.terminal: hand over: %w", err)
	}
	return takeStdio(slave)
}

// openMaster opens the ptmx of the container's devpts, and makes sure that it is
// one: the container may have put something else in its place.
func openMaster() (int, error) {
	const path = "/dev/pts/ptmx"
	master, err := unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	var system unix.Statfs_t
	err = errors.Join(unix.Fstat(master, &stat), unix.Fstatfs(master, &system))
	if err == nil && (system.Type != unix.DEVPTS_SUPER_MAGIC || stat.Rdev != unix.Mkdev(5, 2)) {
		err = errors.New("it is not on a devpts mount")
	}
	if err != nil {
		_ = unix.Close(master)
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	return master, nil
}

func openSlave(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock: %w", err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, fmt.Errorf("open the slave: %w", errno)
	}
	return int(slave), nil
}

// mountConsole binds the slave over /dev/console.
func mountConsole(slave int) error {
	const path = "/dev/console"
	err := unix.Mknod(path, unix.S_IFREG|0o666, 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	target, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	mount, err := cloneMount(slave, "", 0)
	if err != nil {
		return err
	}
	defer mount.Close()
	return attachMount(mount, target)
}

func takeStdio(slave int) error {
	for fd := range 3 {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return fmt.Errorf("process.terminal: descriptor %d: %w", fd, err)
		}
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	if errno != 0 {
		return fmt.Errorf("process.terminal: controlling terminal: %w", errno)
	}
	return nil
}
