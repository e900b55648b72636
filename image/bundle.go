package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
)

// Files of a bundle that is made of an image.
const (
	rootfsDir  = "rootfs"
	configFile = "config.json"
	// upperDir holds what the container writes, on a disk of its own where that has
	// a limit.
	upperDir = "upper"
	diskFile = "upper.ext4"
)

// A Bundle is a directory that holds a container of an image.
type Bundle struct {
	Dir   string        `json:"dir"`
	Image digest.Digest `json:"image"`
	Name  string        `json:"name,omitempty"`
	// Size limits what the container writes in bytes; 0 is no limit.
	Size int64     `json:"size,omitempty"`
	Made time.Time `json:"made"`
	// Temporary bundles belong to a process, which holds the record's lock.
	Temporary bool `json:"temporary,omitempty"`
}

// A Request asks for a bundle.
type Request struct {
	// Dir is absolute.
	Dir string
	// Image is a name.
	Image string
	// Size limits what the container writes in bytes; 0 is no limit.
	Size int64
	// Args replace the image's command, if there are any.
	Args []string
}

func (s *Store) bundleFile(dir string) string {
	return s.path(bundlesDir, digest.FromString(dir).Encoded()+".json")
}

// Bundle makes a bundle, or mounts one again that was made before: its config.json
// and what its container has written stay. When it fails nothing is left of a new
// one.
func (s *Store) Bundle(ctx context.Context, r Request) error {
	unlock, err := s.lock(ctx, storeLock, true)
	if err != nil {
		return err
	}
	defer unlock()
	i, err := s.Find(r.Image)
	var b Bundle
	if known := readRecord(s.bundleFile(r.Dir), &b); known == nil {
		if b.Name != r.Image {
			return fmt.Errorf("bundle %s: it is of image %q, not %q: unbundle it first", r.Dir, b.Name, r.Image)
		}
		// The one that it was made of, whatever is named so now.
		if i, err = s.image(b.Image); err != nil {
			return err
		}
		return s.wrap(b, s.mount(ctx, b, i))
	}
	if err != nil {
		return err
	}
	b = Bundle{Dir: r.Dir, Image: i.ID, Name: r.Image, Size: r.Size, Made: time.Now().UTC()}
	return s.create(ctx, b, i, r.Args)
}

func (s *Store) wrap(b Bundle, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("bundle %s: %w", b.Dir, err)
}

func (s *Store) create(ctx context.Context, b Bundle, i Image, args []string) error {
	for _, name := range []string{rootfsDir, configFile, upperDir, diskFile} {
		if _, err := os.Lstat(filepath.Join(b.Dir, name)); err == nil {
			return s.wrap(b, fmt.Errorf("%s is there already, and not made of an image: use another directory", name))
		}
	}
	// First of all, so that nobody collects the layers.
	if err := s.writeRecord(s.bundleFile(b.Dir), b); err != nil {
		return s.wrap(b, err)
	}
	err := s.mount(ctx, b, i)
	if err == nil {
		err = writeSpec(b, i, args)
	}
	if err != nil {
		return s.wrap(b, errors.Join(err, s.destroy(b)))
	}
	return nil
}

// mount mounts what is not mounted yet.
func (s *Store) mount(ctx context.Context, b Bundle, i Image) error {
	rootfs, upper := filepath.Join(b.Dir, rootfsDir), filepath.Join(b.Dir, upperDir)
	if err := os.MkdirAll(rootfs, 0o711); err != nil {
		return err
	}
	// A setuid program that the container has made is nobody's on the host.
	if err := os.Mkdir(upper, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := mountUpper(ctx, b, upper); err != nil {
		return err
	}
	if mounted, err := isMounted(rootfs); err != nil || mounted {
		return err
	}
	trees := s.trees(i.chain())
	top, err := os.Stat(trees[0])
	if err != nil {
		return err
	}
	files, work := filepath.Join(upper, "fs"), filepath.Join(upper, "work")
	if err := os.Mkdir(work, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Its owner and mode are those of the container's root from then on.
	if err := os.Mkdir(files, 0o700); err == nil {
		if err := copyOwner(files, top); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return mountOverlay(rootfs, files, work, trees)
}

func mountUpper(ctx context.Context, b Bundle, upper string) error {
	if b.Size == 0 {
		return nil
	}
	if mounted, err := isMounted(upper); err != nil || mounted {
		return err
	}
	disk := filepath.Join(b.Dir, diskFile)
	if _, err := os.Stat(disk); errors.Is(err, fs.ErrNotExist) {
		if err := makeDisk(ctx, disk, b.Size); err != nil {
			return err
		}
	}
	return mountDisk(ctx, disk, upper)
}

// Unbundle unmounts a bundle and, unless it is to be kept, removes what Bundle
// has made.
func (s *Store) Unbundle(ctx context.Context, dir string, keep bool) error {
	unlock, err := s.lock(ctx, storeLock, true)
	if err != nil {
		return err
	}
	defer unlock()
	var b Bundle
	if err := readRecord(s.bundleFile(dir), &b); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bundle %s: it is not made of an image of this store", dir)
		}
		return err
	}
	if keep {
		return s.wrap(b, b.unmount())
	}
	return s.wrap(b, s.destroy(b))
}

func (b Bundle) unmount() error {
	for _, name := range []string{rootfsDir, upperDir} {
		if err := unmount(filepath.Join(b.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// destroy removes a bundle; its record goes last, so that it can be tried again.
func (s *Store) destroy(b Bundle) error {
	if err := b.unmount(); err != nil {
		return err
	}
	for _, name := range []string{rootfsDir, upperDir, diskFile, diskFile + ".new", configFile} {
		if err := os.RemoveAll(filepath.Join(b.Dir, name)); err != nil {
			return err
		}
	}
	// Others may have files in it.
	_ = os.Remove(b.Dir)
	return os.Remove(s.bundleFile(b.Dir))
}

// A Temporary bundle is one that ends with this process, if not before.
type Temporary struct {
	Dir   string
	store *Store
	lock  *flock.Flock
	b     Bundle
}

// Temporary makes a bundle of an image, or of the archive in file, in a directory
// that is to be made. Should the process die, Collect removes it.
func (s *Store) Temporary(ctx context.Context, r Request, file string) (*Temporary, error) {
	unlock, err := s.lock(ctx, storeLock, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	i, err := s.findOrImport(ctx, r.Image, file)
	if err != nil {
		return nil, err
	}
	b := Bundle{Dir: r.Dir, Image: i.ID, Name: r.Image, Size: r.Size, Made: time.Now().UTC(), Temporary: true}
	lock := flock.New(s.ownerFile(r.Dir), flock.SetPermissions(0o600))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return nil, fmt.Errorf("bundle %s: somebody else has it (%w)", r.Dir, err)
	}
	if err := s.create(ctx, b, i, r.Args); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Temporary{Dir: r.Dir, store: s, lock: lock, b: b}, nil
}

// ownerFile is locked by the process that a temporary bundle belongs to.
func (s *Store) ownerFile(dir string) string {
	return s.path(locksDir, "bundle-"+digest.FromString(dir).Encoded())
}

// Close removes the bundle.
func (t *Temporary) Close() error {
	err := t.store.wrap(t.b, t.store.destroy(t.b))
	return errors.Join(err, os.Remove(t.lock.Path()), t.lock.Close())
}

func writeSpec(b Bundle, i Image, args []string) error {
	spec, err := i.runtimeSpec(filepath.Join(b.Dir, rootfsDir), args)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.Dir, configFile), text, 0o600)
}
