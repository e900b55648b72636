package cloud

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A volume is a block device with a file system that holds a source's files.
type volume struct{ device, kind string }

// labels are where the file systems have theirs, in bytes from the start. The
// mark tells the file system: ECMA-119 8.1.2, and the type of a FAT's boot sector.
var labels = []struct {
	kind, mark        string
	markAt, at, bytes int64
}{
	{"iso9660", "CD001", 32769, 32808, 32},
	{"vfat", "FAT32   ", 82, 71, 11},
	{"vfat", "FAT1", 54, 43, 11},
}

// A driver of drives looks for them in the background. Nothing tells when it has seen
// all: a port without a drive looks like one that nobody has looked at yet.
const (
	driveTimeout = 5 * time.Second
	// moreDrives is how long others may take when there is one.
	moreDrives = 500 * time.Millisecond
	drivePause = 50 * time.Millisecond
)

// awaitDrives calls done until it says so or no more drives are to be expected.
func awaitDrives(sys string, done func() bool) {
	deadline, seen := time.Now().Add(driveTimeout), false
	for {
		hosts, _ := filepath.Glob(filepath.Join(sys, "class/scsi_host/*"))
		drives, _ := filepath.Glob(filepath.Join(sys, "block/sr*"))
		if len(drives) > 0 && !seen {
			deadline, seen = time.Now().Add(moreDrives), true
		}
		// Disks of other kinds are there with their driver.
		last := len(hosts) == 0 || time.Now().After(deadline)
		if done() || last {
			return
		}
		time.Sleep(drivePause)
	}
}

// findVolume gives the first volume of that label, in whatever case.
func findVolume(label string) *volume {
	entries, _ := os.ReadDir("/sys/class/block")
	for _, entry := range entries {
		device := filepath.Join("/dev", entry.Name())
		if kind := kindOf(device, label); kind != "" {
			return &volume{device, kind}
		}
	}
	return nil
}

func kindOf(device, label string) string {
	// A drive without a medium cannot be opened.
	file, err := os.Open(device)
	if err != nil {
		return ""
	}
	defer file.Close()
	for _, l := range labels {
		if string(readAt(file, l.markAt, int64(len(l.mark)))) != l.mark {
			continue
		}
		if strings.EqualFold(string(bytes.TrimRight(readAt(file, l.at, l.bytes), " \x00")), label) {
			return l.kind
		}
	}
	return ""
}

func readAt(file *os.File, at, length int64) []byte {
	text := make([]byte, length)
	n, _ := file.ReadAt(text, at)
	return text[:n]
}

const volumeDir = "/run/vmruntime/volume"

// read mounts the volume for as long as do takes.
func (v *volume) read(do func(reader) error) (err error) {
	if err := os.MkdirAll(volumeDir, 0o700); err != nil {
		return err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount(v.device, volumeDir, v.kind, flags, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(volumeDir, unix.MNT_DETACH)) }()
	root, err := os.OpenRoot(volumeDir)
	if err != nil {
		return err
	}
	defer root.Close()
	return do(func(name string) ([]byte, error) { return readIn(root, name) })
}

func readIn(root *os.Root, name string) ([]byte, error) {
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a file")}
	}
	return readLimited(file)
}
