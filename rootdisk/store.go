// Package rootdisk keeps the root file systems of containers as disks: read-only
// images of what engines have put together, and what the containers have written
// over them.
//
// Prepare gives the disks of a root file system, made where they are missing;
// Collect removes those whose root file system is gone. Engines tell nobody when they
// remove one: each disk has a record of the directories that it stands for.
package rootdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vmruntime/vmruntime/image/fsimage"
	"github.com/vmruntime/vmruntime/internal/filelock"
)

const (
	imagesDir = "images"
	uppersDir = "uppers"
	locksDir  = "locks"

	imageSuffix  = ".erofs"
	upperSuffix  = ".ext4"
	recordSuffix = ".json"

	// storeLock is shared by whoever makes or is about to use a disk, and exclusive
	// for whoever removes some.
	storeLock = "store"
	// lockPoll is how often a lock is tried that somebody else has.
	lockPoll = 20 * time.Millisecond
	// attempts is how often an image is made of files that change meanwhile.
	attempts = 3
)

// A Store is a directory of disks. Any number of processes may work on it.
type Store struct{ dir string }

// A Request asks for the disks of a root file system.
type Request struct {
	// Rootfs is a directory, absolute and without symlinks.
	Rootfs string
	// Size is how large a new upper is, Limit how large the files may be together,
	// in bytes.
	Size, Limit int64
	// ReadOnly makes no upper. One that is there is given all the same: an earlier
	// container has written to it.
	ReadOnly bool
}

// Disks are files.
type Disks struct {
	// Lower is an erofs of the root file system.
	Lower string
	// Upper is an ext4 for what is written. It is empty where that need not stay.
	Upper string
}

// Open is the store in dir, which is absolute. Prepare makes it.
func Open(dir string) *Store { return &Store{dir: dir} }

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Prepare gives the disks of a root file system. Nobody removes them before release
// is called: by then somebody has to have them open.
func (s *Store) Prepare(ctx context.Context, r Request) (d Disks, release func(), err error) {
	for _, dir := range []string{imagesDir, uppersDir, locksDir} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return Disks{}, nil, fmt.Errorf("rootfs_store: %w", err)
		}
	}
	release, err = s.lock(ctx, storeLock, true)
	if err != nil {
		return Disks{}, nil, err
	}
	if d, err = s.disks(ctx, r); err != nil {
		release()
		return Disks{}, nil, err
	}
	return d, release, nil
}

func (s *Store) disks(ctx context.Context, r Request) (d Disks, err error) {
	o, err := findOrigin(r.Rootfs)
	if err != nil {
		return Disks{}, err
	}
	if d.Lower, err = s.lower(ctx, r, o); err != nil {
		return Disks{}, err
	}
	d.Upper, err = s.upper(ctx, r, o)
	return d, err
}

var errChanged = errors.New("its files change while an image is made of them: stop what writes to them")

// lower is the image of the files as they are now.
func (s *Store) lower(ctx context.Context, r Request, o origin) (string, error) {
	for range attempts {
		digest, err := settledDigest(ctx, r.Rootfs, r.Limit)
		if err != nil {
			return "", err
		}
		file, err := s.image(ctx, r, o, digest)
		if !errors.Is(err, errChanged) {
			return file, err
		}
	}
	return "", errChanged
}

// image is that of the digest; of several processes that want it one makes it.
func (s *Store) image(ctx context.Context, r Request, o origin, digest string) (string, error) {
	unlock, err := s.lock(ctx, digest, false)
	if err != nil {
		return "", err
	}
	defer unlock()
	file := s.path(imagesDir, digest+imageSuffix)
	// The record first: an image without one is nobody's.
	if err := s.writeRecord(imagesDir, digest, imageRecord{Layers: o.layers, Private: o.private}); err != nil {
		return "", err
	}
	if exists(file) {
		return file, nil
	}
	fresh := s.path(imagesDir, "."+digest)
	defer func() { _ = os.Remove(fresh) }()
	if err := fsimage.Erofs(ctx, fresh, r.Rootfs); err != nil {
		return "", err
	}
	// What was read is what the digest is of, or nobody gets it.
	after, err := settledDigest(ctx, r.Rootfs, r.Limit)
	if err != nil {
		return "", err
	}
	if after != digest {
		return "", errChanged
	}
	return file, os.Rename(fresh, file)
}

// upper takes what containers of this root file system write. Its content is for
// guests only: nothing here ever looks into it.
func (s *Store) upper(ctx context.Context, r Request, o origin) (string, error) {
	if o.upper == nil {
		return "", nil
	}
	name := o.upper.key()
	file := s.path(uppersDir, name+upperSuffix)
	unlock, err := s.lock(ctx, name, false)
	if err != nil {
		return "", err
	}
	defer unlock()
	switch {
	case exists(file):
		return file, nil
	case r.ReadOnly:
		return "", nil
	}
	if err := s.writeRecord(uppersDir, name, upperRecord{Rootfs: r.Rootfs, Origin: *o.upper}); err != nil {
		return "", err
	}
	return file, fsimage.Ext4(ctx, file, r.Size)
}

func (s *Store) lock(ctx context.Context, name string, shared bool) (unlock func(), err error) {
	unlock, err = filelock.Lock(ctx, s.path(locksDir, name), shared, lockPoll)
	if err != nil {
		return nil, fmt.Errorf("lock %s of rootfs_store: %w", name, err)
	}
	return unlock, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
