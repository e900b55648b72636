package rootdisk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A directory is one of the host that is told from another of the same path, and
// from one that got its inode number later.
type directory struct {
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
	// Born is when it was made in nanoseconds since the epoch, 0 where the file
	// system does not know.
	Born int64 `json:"born"`
	// Devices are the numbers of the file systems that it and the directories above
	// it are on, its own first.
	Devices []uint64 `json:"devices"`
}

func findDirectory(path string) (directory, error) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &stat); err != nil {
		return directory{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	d := directory{Path: path, Inode: stat.Ino}
	if stat.Mask&unix.STATX_BTIME != 0 {
		d.Born = stat.Btime.Sec*1e9 + int64(stat.Btime.Nsec)
	}
	for {
		device, err := deviceOf(path)
		if err != nil {
			return directory{}, err
		}
		d.Devices = append(d.Devices, device)
		above := filepath.Dir(path)
		if above == path {
			return d, nil
		}
		path = above
	}
}

func deviceOf(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stat.Dev, nil
}

// is tells whether the two are one. A file system may have another device number
// after a boot.
func (d directory) is(other directory) bool {
	return d.Path == other.Path && d.Inode == other.Inode && d.Born == other.Born
}

// gone tells that the directory does not exist any more: not that its file system
// is not mounted just now.
func (d directory) gone() bool {
	now, err := findDirectory(d.Path)
	if err == nil {
		return now.Devices[0] == d.Devices[0] && !now.is(d)
	}
	path := d.Path
	for _, device := range d.Devices {
		found, err := deviceOf(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return err == nil && found == device
		}
		path = filepath.Dir(path)
	}
	return false
}

// key names what belongs to the directory.
func (d directory) key() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d", d.Path, d.Inode, d.Born))
	return hex.EncodeToString(sum[:16])
}

// An origin is what a root file system is made of.
type origin struct {
	// layers are those that other containers have as well.
	layers []directory
	// private is the root file system's own, nil where nothing is in it but
	// placeholders.
	private *directory
	// upper is where writes go; nil means nowhere.
	upper *directory
}

// findOrigin looks behind an overlay, as engines mount them for each container anew:
// its directories stay as long as the container, its mount point does not.
func findOrigin(rootfs string) (origin, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return origin{}, err
	}
	mount, err := mountAt(mounts, rootfs)
	if err != nil {
		return origin{}, err
	}
	if mount != nil && mount.FSType == "overlay" && mount.Root == "/" {
		return overlayOrigin(mount)
	}
	if mount != nil {
		if rootfs, err = behindBind(mounts, mount); err != nil {
			return origin{}, err
		}
	}
	d, err := findDirectory(rootfs)
	return origin{private: &d, upper: &d}, err
}

// mountAt is the topmost mount on a directory, nil where there is none. Mounts below
// it are not taken along.
func mountAt(mounts []*mountinfo.Info, rootfs string) (at *mountinfo.Info, err error) {
	for _, m := range mounts {
		switch {
		case m.Mountpoint == rootfs:
			at = m
		case strings.HasPrefix(m.Mountpoint, strings.TrimSuffix(rootfs, "/")+"/"):
			return nil, fmt.Errorf("%s is a mount of its own, which no image can have: unmount it, mount it by config.json, or use rootfs = \"share\"", m.Mountpoint)
		}
	}
	return at, nil
}

// behindBind is the directory that a mount shows, where another one shows it that is
// not mounted just for the container.
func behindBind(mounts []*mountinfo.Info, m *mountinfo.Info) (string, error) {
	want, err := findDirectory(m.Mountpoint)
	if err != nil {
		return "", err
	}
	for _, other := range mounts {
		below, err := filepath.Rel(other.Root, m.Root)
		if other.Major != m.Major || other.Minor != m.Minor || err != nil || !filepath.IsLocal(below) || other.Mountpoint == m.Mountpoint {
			continue
		}
		path := filepath.Join(other.Mountpoint, below)
		if got, err := findDirectory(path); err == nil && got.Devices[0] == want.Devices[0] && got.Inode == want.Inode {
			return path, nil
		}
	}
	if m.Root == "/" {
		return m.Mountpoint, nil
	}
	return "", fmt.Errorf("%s is a bind mount of a directory that is nowhere else: what the container writes could not be found again: use rootfs = \"share\"", m.Mountpoint)
}

// overlayOrigin finds the directories of an overlay.
func overlayOrigin(m *mountinfo.Info) (o origin, err error) {
	var lowers []string
	upper := ""
	for option := range strings.SplitSeq(m.VFSOptions, ",") {
		if list, ok := strings.CutPrefix(option, "lowerdir="); ok {
			lowers = strings.Split(list, ":")
		}
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			upper = dir
		}
	}
	base := ""
	if upper != "" {
		if upper, base, err = absolute(upper, m.Mountpoint); err != nil {
			return origin{}, err
		}
		d, err := findDirectory(upper)
		if err != nil {
			return origin{}, err
		}
		o.upper = &d
		if !onlyPlaceholders(upper) {
			o.private = &d
		}
	}
	for _, lower := range lowers {
		if err := o.addLayer(lower, base, upper); err != nil {
			return origin{}, err
		}
	}
	return o, nil
}

// absolute finds a relative directory of an overlay: engines with many layers mount in
// the directory that they keep them in, which is above the mount point.
func absolute(dir, below string) (path, base string, err error) {
	if filepath.IsAbs(dir) {
		return dir, "", nil
	}
	for base := filepath.Dir(below); ; base = filepath.Dir(base) {
		if path := filepath.Join(base, dir); exists(path) {
			return path, base, nil
		}
		if base == "/" {
			return "", "", fmt.Errorf("the overlay's directory %s cannot be found: use rootfs = \"share\"", dir)
		}
	}
}

// addLayer adds a lower directory, unless it is the container's own.
func (o *origin) addLayer(lower, base, upper string) (err error) {
	if !filepath.IsAbs(lower) && base != "" {
		lower = filepath.Join(base, lower)
	}
	if lower, _, err = absolute(lower, upper); err != nil {
		return err
	}
	// Docker's are links.
	if lower, err = filepath.EvalSymlinks(lower); err != nil {
		return err
	}
	if isInit(lower) {
		return nil
	}
	d, err := findDirectory(lower)
	o.layers = append(o.layers, d)
	return err
}

// isInit tells Docker's layer of placeholders (moby: layer.initMountSuffix).
func isInit(layer string) bool {
	return strings.HasSuffix(filepath.Dir(layer), "-init")
}

// onlyPlaceholders tells that a container's own directory has nothing that its image
// has not.
func onlyPlaceholders(dir string) bool {
	only := true
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if !placeholders[name] {
			only = false
			return fs.SkipAll
		}
		return nil
	})
	return only && err == nil
}
