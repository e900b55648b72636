package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/filelock"
)

// A Store is a directory of images. Any number of processes may work on it.
type Store struct {
	dir    string
	limits Limits
}

const (
	layersDir  = "layers"
	imagesDir  = "images"
	namesDir   = "names"
	bundlesDir = "bundles"
	tmpDir     = "tmp"
	locksDir   = "locks"
	// storeLock is shared by whoever adds, and exclusive for whoever takes away.
	storeLock = "store"
)

// ErrNotFound is wrapped by errors about names that the store does not have.
var ErrNotFound = errors.New("no such image")

// Open makes the store where it is missing. dir must be absolute.
func Open(dir string, limits Limits) (*Store, error) {
	s := &Store{dir: dir, limits: limits}
	for _, d := range []string{layersDir, imagesDir, namesDir, bundlesDir, tmpDir, locksDir} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// lockPoll is how often a lock is tried that somebody else has.
const lockPoll = 50 * time.Millisecond

func (s *Store) lock(ctx context.Context, name string, shared bool) (unlock func(), err error) {
	unlock, err = filelock.Lock(ctx, s.path(locksDir, name), shared, lockPoll)
	if err != nil {
		return nil, fmt.Errorf("lock %s of the image store: %w", name, err)
	}
	return unlock, nil
}

// nameFile is where a name is kept: any name is a good file name by its digest.
func (s *Store) nameFile(name string) string {
	return s.path(namesDir, digest.FromString(name).Encoded()+".json")
}

func (s *Store) imageFile(id digest.Digest) string {
	return s.path(imagesDir, id.Encoded()+".json")
}

func (s *Store) layerDir(chain digest.Digest) string { return s.path(layersDir, chain.Encoded()) }

// trees are the directories of an image, the topmost first, as an overlay has them.
func (s *Store) trees(chain []digest.Digest) []string {
	var trees []string
	for _, c := range slices.Backward(chain) {
		trees = append(trees, filepath.Join(s.layerDir(c), treeDir))
	}
	return trees
}

// A Name is an image's, and when it was given.
type Name struct {
	Name  string        `json:"name"`
	ID    digest.Digest `json:"id"`
	Given time.Time     `json:"given"`
	// Source tells the archive that it came from, if that has a mark of its own.
	Source string `json:"source,omitempty"`
}

// Names lists all names.
func (s *Store) Names() ([]Name, error) {
	names, err := readAll[Name](s.path(namesDir))
	slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
	return names, err
}

// Find is the image of that name.
func (s *Store) Find(name string) (Image, error) {
	var n Name
	if err := readRecord(s.nameFile(name), &n); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Image{}, fmt.Errorf("image %.300q: %w", name, ErrNotFound)
		}
		return Image{}, fmt.Errorf("image %.300q: %w", name, err)
	}
	return s.image(n.ID)
}

func (s *Store) image(id digest.Digest) (Image, error) {
	var i Image
	if err := readRecord(s.imageFile(id), &i); err != nil {
		return Image{}, fmt.Errorf("image %s: %w", id, err)
	}
	return i, nil
}

// Remove forgets a name. What only it named goes with the next Collect.
func (s *Store) Remove(name string) error {
	err := os.Remove(s.nameFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image %.300q: %w", name, ErrNotFound)
	}
	return err
}

// temporary makes a directory for what is not ready.
func (s *Store) temporary() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(s.path(tmpDir), "new-")
	if err != nil {
		return "", nil, fmt.Errorf("image store: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// settle writes all of a directory to the disk, and then puts it in its place: a
// crash leaves the whole of it or nothing.
func settle(from, to string) error {
	if err := syncAll(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// syncAll writes the file system that dir is on.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s *Store) writeRecord(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(s.path(tmpDir), "record-")
	if err != nil {
		return err
	}
	_, err = t.Write(text)
	err = errors.Join(err, t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(t.Name()))
	}
	return syncDir(filepath.Dir(file))
}

func readRecord(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// readAll reads all records of a directory.
func readAll[T any](dir string) ([]T, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []T
	for _, e := range entries {
		var v T
		err := readRecord(filepath.Join(dir, e.Name()), &v)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
