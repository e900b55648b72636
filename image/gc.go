package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
)

// Freed is what a Collect has removed.
type Freed struct {
	Images []digest.Digest `json:"images"`
	// Layers are their digests as images name them.
	Layers []digest.Digest `json:"layers"`
	// Leftovers counts what was never finished: layers, downloads, and bundles whose
	// process has died.
	Leftovers int `json:"leftovers"`
	// Bytes are those of the layers' files.
	Bytes int64 `json:"bytes"`
}

// Collect removes images that have no name and no bundle, the layers of no image,
// and what was left half done. Images and layers younger than age stay. It waits
// for imports and pulls, and they for it.
func (s *Store) Collect(ctx context.Context, age time.Duration) (Freed, error) {
	unlock, err := s.lock(ctx, storeLock, false)
	if err != nil {
		return Freed{}, err
	}
	g := collection{Store: s, before: time.Now().Add(-age)}
	err = g.run()
	unlock()
	// Takes long, and hinders nobody.
	for _, dir := range g.doomed {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return g.freed, err
}

type collection struct {
	*Store
	before time.Time
	freed  Freed
	doomed []string
}

func (g *collection) run() error {
	leftovers, err := os.ReadDir(g.path(tmpDir))
	if err != nil {
		return err
	}
	for _, e := range leftovers {
		g.freed.Leftovers++
		g.doomed = append(g.doomed, g.path(tmpDir, e.Name()))
	}
	used, err := g.used()
	if err != nil {
		return err
	}
	images, err := readAll[Image](g.path(imagesDir))
	if err != nil {
		return err
	}
	keep := map[digest.Digest]bool{}
	for _, i := range images {
		if !used[i.ID] && i.Imported.Before(g.before) {
			if err := os.Remove(g.imageFile(i.ID)); err != nil {
				return err
			}
			g.freed.Images = append(g.freed.Images, i.ID)
			continue
		}
		for _, c := range i.chain() {
			keep[c] = true
		}
	}
	return g.removeLayers(keep)
}

// used are the images that have a name or a bundle.
func (g *collection) used() (map[digest.Digest]bool, error) {
	used := map[digest.Digest]bool{}
	names, err := g.Names()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		used[n.ID] = true
	}
	bundles, err := readAll[Bundle](g.path(bundlesDir))
	if err != nil {
		return nil, err
	}
	for _, b := range bundles {
		if b.Temporary && g.orphaned(b) {
			g.freed.Leftovers++
			if err := g.destroy(b); err != nil {
				return nil, g.wrap(b, err)
			}
			continue
		}
		used[b.Image] = true
	}
	return used, nil
}

// orphaned tells whether the process of a temporary bundle has ended.
func (g *collection) orphaned(b Bundle) bool {
	l := flock.New(g.ownerFile(b.Dir))
	ok, err := l.TryLock()
	if err != nil || !ok {
		return false
	}
	_ = os.Remove(l.Path())
	return l.Close() == nil
}

func (g *collection) removeLayers(keep map[digest.Digest]bool) error {
	entries, err := os.ReadDir(g.path(layersDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		chain := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if keep[chain] {
			continue
		}
		var l layer
		dir := g.path(layersDir, e.Name())
		if err := readRecord(filepath.Join(dir, layerFile), &l); err == nil && !l.Unpacked.Before(g.before) {
			continue
		}
		// From now on nobody finds it.
		aside := g.path(tmpDir, "dead-"+e.Name())
		if err := os.Rename(dir, aside); err != nil {
			return fmt.Errorf("layer %s: %w", chain, err)
		}
		g.doomed = append(g.doomed, aside)
		g.freed.Layers = append(g.freed.Layers, l.DiffID)
		g.freed.Bytes += l.Size
		if err := os.Remove(g.path(locksDir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
