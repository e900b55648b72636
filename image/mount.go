package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Nobody on the host runs or opens what images and containers hold.
const mountFlags = unix.MS_NODEV | unix.MS_NOSUID

// mountOverlay mounts trees, the topmost first, below upper and work.
func mountOverlay(target, upper, work string, trees []string) error {
	// The trees go by descriptors: 127 paths would be more than a mount takes.
	fds, err := openTrees(trees)
	if err != nil {
		return err
	}
	defer closeAll(fds)
	lower := make([]string, len(fds))
	for i, fd := range fds {
		lower[i] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	// A rename that only leaves a note, or a copy of the owner alone, would have to
	// be understood by whoever reads the upper directory.
	options := "redirect_dir=off,metacopy=off,index=off,lowerdir=" + strings.Join(lower, ":") +
		",upperdir=" + escapeOption(upper) + ",workdir=" + escapeOption(work)
	if err := unix.Mount("overlay", target, "overlay", mountFlags, options); err != nil {
		return fmt.Errorf("mount of an overlay at %s: %w", target, err)
	}
	return nil
}

func openTrees(trees []string) ([]int, error) {
	var fds []int
	for _, t := range trees {
		fd, err := unix.Open(t, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("layer %s: %w", t, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// escapeOption is for a path within overlay's options.
func escapeOption(p string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(p)
}

func isMounted(dir string) (bool, error) {
	mounted, err := mountinfo.Mounted(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// unmount takes away all that is mounted right there.
func unmount(dir string) error {
	for {
		mounted, err := isMounted(dir)
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// minDisk is the smallest ext4 that makes sense, in bytes.
const minDisk = 16 << 20

// makeDisk makes a file with an empty ext4 in it. It takes what is written on it.
func makeDisk(ctx context.Context, file string, size int64) error {
	if size < minDisk {
		return fmt.Errorf("--size: %d bytes are less than the %d that a file system needs", size, int64(minDisk))
	}
	fresh := file + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", fresh); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return os.Rename(fresh, file)
}

// mountDisk mounts the file system in a file.
func mountDisk(ctx context.Context, file, target string) error {
	err := command(ctx, "mount", "-t", "ext4", "-o", "loop,nodev,nosuid", file, target)
	if err == nil {
		return nil
	}
	if devices, _ := filepath.Glob("/dev/loop[0-9]*"); len(devices) == 0 {
		return fmt.Errorf("--size needs a loop device, and this host has none (modprobe loop): %w", err)
	}
	return err
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
