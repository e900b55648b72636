package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Import reads the archive in a file. Without a name it is held by the bundles
// made of it alone.
func (s *Store) Import(ctx context.Context, name, file string) (Image, error) {
	unlock, err := s.begin(ctx, name)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	return s.importFile(ctx, name, file)
}

// begin is for whoever adds to the store.
func (s *Store) begin(ctx context.Context, name string) (unlock func(), err error) {
	if name != "" {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	return s.lock(ctx, storeLock, true)
}

func (s *Store) importFile(ctx context.Context, name, file string) (Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Image{}, fmt.Errorf("image %s: it must be a file", file)
	}
	i, err := s.add(ctx, fileSource{f, info.Size()})
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", file, err)
	}
	return i, s.name(name, i, "")
}

func (s *Store) name(name string, i Image, source string) error {
	if name == "" {
		return nil
	}
	n := Name{Name: name, ID: i.ID, Given: time.Now().UTC(), Source: source}
	if err := s.writeRecord(s.nameFile(name), n); err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	return nil
}

// add unpacks what is missing of the image in an archive.
func (s *Store) add(ctx context.Context, src source) (Image, error) {
	a, err := readArchive(src)
	if err != nil {
		return Image{}, err
	}
	c, err := a.contents()
	if err != nil {
		return Image{}, err
	}
	i := Image{ID: c.id, Layers: c.image.RootFS.DiffIDs, Config: c.config, Imported: time.Now().UTC()}
	spent := &budget{limits: s.limits}
	chain := i.chain()
	for n, b := range c.blobs {
		if err := s.addLayer(ctx, chain[:n+1], i.Layers[n], spent, func() (io.ReadCloser, error) { return a.open(ctx, b) }); err != nil {
			return Image{}, fmt.Errorf("layer %s: %w", i.Layers[n], err)
		}
	}
	i.Size = spent.size
	if err := s.writeRecord(s.imageFile(i.ID), i); err != nil {
		return Image{}, err
	}
	return i, nil
}

// addLayer unpacks the topmost layer of a chain, unless it is there. Of several
// who want to, one does it and the others wait.
func (s *Store) addLayer(ctx context.Context, chain []digest.Digest, diffID digest.Digest, spent *budget, open func() (io.ReadCloser, error)) error {
	top := chain[len(chain)-1]
	unlock, err := s.lock(ctx, top.Encoded(), false)
	if err != nil {
		return err
	}
	defer unlock()
	var l layer
	if err := readRecord(filepath.Join(s.layerDir(top), layerFile), &l); err == nil {
		return spent.take(l.Size, l.Entries)
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	dir, remove, err := s.temporary()
	if err != nil {
		return err
	}
	l = layer{Chain: top, DiffID: diffID, Unpacked: time.Now().UTC()}
	if err := s.unpackInto(ctx, dir, &l, s.trees(chain[:len(chain)-1]), r, spent); err != nil {
		return errors.Join(err, remove())
	}
	// Only a damaged one can be in its place.
	if err := errors.Join(os.RemoveAll(s.layerDir(top)), settle(dir, s.layerDir(top))); err != nil {
		return errors.Join(err, remove())
	}
	return nil
}

func (s *Store) unpackInto(ctx context.Context, dir string, l *layer, parents []string, r io.Reader, spent *budget) error {
	u := &unpacker{tree: filepath.Join(dir, treeDir), parents: slices.Clone(parents), budget: spent, links: map[string]string{}}
	if err := os.Mkdir(u.tree, 0o755); err != nil {
		return err
	}
	split, err := os.Create(filepath.Join(dir, splitFile))
	if err != nil {
		return err
	}
	err = u.unpack(ctx, r, l.DiffID, split)
	if err := errors.Join(err, split.Close()); err != nil {
		return err
	}
	l.Size, l.Entries, l.Tar = u.size, u.entries, u.tar
	return s.writeRecord(filepath.Join(dir, layerFile), l)
}
