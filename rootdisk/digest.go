package rootdisk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// tick is more than the kernel's clock of file times moves at once: a file that
// changes within one has the same times before and after.
const tick = 50 * time.Millisecond

// placeholders are what engines put into a root file system for each container: what
// is mounted over by them, and the directories above that
// (moby: daemon/initlayer/setup_unix.go; podman: libpod/container_internal_linux.go).
// Their times tell containers of one image apart, and nobody cares.
var placeholders = map[string]bool{
	".": true, "dev": true, "etc": true, "proc": true, "sys": true, "run": true,
	"dev/pts": true, "dev/shm": true, "dev/console": true, ".dockerenv": true, "run/.containerenv": true,
	"etc/hosts": true, "etc/hostname": true, "etc/resolv.conf": true, "etc/mtab": true,
}

// settledDigest is the digest of a tree once the clock has moved on since its last
// change, so that the next one changes the digest.
func settledDigest(ctx context.Context, root string, limit int64) (string, error) {
	for {
		d := digest{root: root, hash: sha256.New(), limit: limit, links: map[uint64]bool{}}
		if err := filepath.WalkDir(root, d.walk(ctx)); err != nil {
			return "", err
		}
		// One of the future never settles, and does not change by itself.
		if since := time.Since(d.newest); since < 0 || since > tick {
			return hex.EncodeToString(d.hash.Sum(nil)), nil
		}
		time.Sleep(tick)
	}
}

// A digest is of what a tree's image depends on. Of files it has not their bytes but
// what changes with these: a change of a file's content, owner, mode or attributes
// sets its change time, which nobody can set back, and another file in its place has
// another inode number.
type digest struct {
	root   string
	hash   hash.Hash
	limit  int64
	size   int64
	links  map[uint64]bool
	newest time.Time
}

func (d *digest) walk(ctx context.Context) fs.WalkDirFunc {
	return func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		return d.add(path, name, stat)
	}
}

func (d *digest) add(path, name string, stat unix.Stat_t) error {
	kind := stat.Mode & unix.S_IFMT
	fmt.Fprintf(d.hash, "%q %o %d:%d", name, stat.Mode, stat.Uid, stat.Gid)
	empty := kind == unix.S_IFREG && stat.Size == 0
	switch {
	case kind == unix.S_IFDIR || placeholders[name] && (empty || kind == unix.S_IFLNK):
		if err := d.addContent(path, kind); err != nil {
			return err
		}
		if !placeholders[name] {
			fmt.Fprintf(d.hash, " %d", stat.Mtim.Nano())
		}
	default:
		fmt.Fprintf(d.hash, " %d %d %d %d %x", stat.Ino, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano(), stat.Rdev)
	}
	fmt.Fprintln(d.hash)
	if changed := time.Unix(0, stat.Ctim.Nano()); changed.After(d.newest) {
		d.newest = changed
	}
	return d.count(kind, stat)
}

// addContent adds what the inode number and the change time of others stand for:
// those of a directory change with its names, which are in the digest anyway.
func (d *digest) addContent(path string, kind uint32) error {
	if kind == unix.S_IFLNK {
		target, err := os.Readlink(path)
		fmt.Fprintf(d.hash, " %q", target)
		return err
	}
	n, err := unix.Llistxattr(path, nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil
	}
	names := make([]byte, 64<<10)
	if n, err = unix.Llistxattr(path, names); err != nil {
		return &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	for _, name := range bytes.FieldsFunc(names[:max(n, 0)], func(r rune) bool { return r == 0 }) {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			return &os.PathError{Op: "lgetxattr", Path: path, Err: err}
		}
		fmt.Fprintf(d.hash, " %q=%q", name, value[:n])
	}
	return nil
}

// count adds up what an image takes; a hole takes as much as its length.
func (d *digest) count(kind uint32, stat unix.Stat_t) error {
	if kind != unix.S_IFREG || stat.Nlink > 1 && d.links[stat.Ino] {
		return nil
	}
	d.links[stat.Ino] = true
	if d.size += stat.Size; d.size > d.limit {
		return fmt.Errorf("its files are larger together than the %d bytes of image_limit: raise it in config.toml, or use rootfs = \"share\"", d.limit)
	}
	return nil
}
