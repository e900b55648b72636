package rootdisk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// Freed is what Collect has removed.
type Freed struct {
	Images int `json:"images"`
	Uppers int `json:"uppers"`
	// Bytes are those that they took on the disk.
	Bytes int64 `json:"bytes"`
}

// Collect removes the disks whose root file systems are gone, and what was left half
// done. While somebody else makes or removes disks it does nothing: whoever comes
// next does it.
func (s *Store) Collect(ctx context.Context) (Freed, error) {
	var freed Freed
	if !exists(s.path(locksDir)) {
		return freed, nil
	}
	l := flock.New(s.path(locksDir, storeLock), flock.SetPermissions(0o600))
	if ok, err := l.TryLock(); err != nil || !ok {
		return freed, err
	}
	defer l.Close()
	err := errors.Join(s.removeLeftovers(), s.collectImages(ctx, &freed), s.collectUppers(ctx, &freed), s.removeLocks())
	if err != nil {
		err = fmt.Errorf("rootfs_store: %w", err)
	}
	return freed, err
}

func (s *Store) collectImages(ctx context.Context, freed *Freed) error {
	latest, err := s.latest(ctx)
	if err != nil {
		return err
	}
	return s.each(ctx, imagesDir, imageSuffix, func(name string) error {
		record, err := readRecord[imageRecord](s.path(imagesDir, name+recordSuffix))
		if err == nil && !record.gone() && (record.Private == nil || latest[record.Private.key()].name == name) {
			return nil
		}
		freed.Images++
		return s.discard(imagesDir, name, imageSuffix, freed)
	})
}

// A use is when an image was last asked for.
type use struct {
	name string
	at   time.Time
}

// latest are the images that root file systems had last: what they were before is of
// no use to anybody.
func (s *Store) latest(ctx context.Context) (map[string]use, error) {
	latest := map[string]use{}
	return latest, s.each(ctx, imagesDir, imageSuffix, func(name string) error {
		file := s.path(imagesDir, name+recordSuffix)
		record, err := readRecord[imageRecord](file)
		if err != nil || record.Private == nil {
			return nil
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		key := record.Private.key()
		if info.ModTime().After(latest[key].at) {
			latest[key] = use{name, info.ModTime()}
		}
		return nil
	})
}

func (s *Store) collectUppers(ctx context.Context, freed *Freed) error {
	return s.each(ctx, uppersDir, upperSuffix, func(name string) error {
		record, err := readRecord[upperRecord](s.path(uppersDir, name+recordSuffix))
		// What cannot be read may be of a container that will be started again.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && !record.gone() {
			return nil
		}
		freed.Uppers++
		return s.discard(uppersDir, name, upperSuffix, freed)
	})
}

// each calls do for the name of each disk or record, once.
func (s *Store) each(ctx context.Context, dir, suffix string, do func(name string) error) error {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var failed []error
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), suffix), recordSuffix)
		if seen[name] || ctx.Err() != nil {
			continue
		}
		seen[name] = true
		failed = append(failed, do(name))
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// discard removes a disk and then its record. A machine that still has it open keeps
// it until its end.
func (s *Store) discard(dir, name, suffix string, freed *Freed) error {
	file := s.path(dir, name+suffix)
	if info, err := os.Lstat(file); err == nil {
		freed.Bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return errors.Join(remove(file), remove(s.path(dir, name+recordSuffix)))
}

// removeLeftovers removes what was being written when its writer died.
func (s *Store) removeLeftovers() error {
	var failed []error
	for _, dir := range []string{imagesDir, uppersDir} {
		files, err := filepath.Glob(s.path(dir, ".*"))
		failed = append(failed, err)
		for _, file := range files {
			failed = append(failed, remove(file))
		}
	}
	return errors.Join(failed...)
}

// removeLocks removes those of single disks: whoever takes one has the store's, too.
func (s *Store) removeLocks() error {
	entries, err := os.ReadDir(s.path(locksDir))
	for _, e := range entries {
		if e.Name() != storeLock {
			err = errors.Join(err, remove(s.path(locksDir, e.Name())))
		}
	}
	return err
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
