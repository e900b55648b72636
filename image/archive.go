package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A place is where a file of an archive is, or the link that it is.
type place struct {
	off, size int64
	link      string
}

// An archive is a docker-save or OCI-layout tar whose headers were read.
type archive struct {
	source source
	files  map[string]place
}

// contents is the one image of an archive.
type contents struct {
	id     digest.Digest
	config []byte
	image  v1.Image
	// blobs are the layers as they are in the archive, the lowest first.
	blobs []blob
}

// A blob is a layer, compressed or not.
type blob struct {
	place
	name string
	// digest is that of the blob where the archive tells it.
	digest digest.Digest
}

// readArchive walks over the headers and skips what is between them.
func readArchive(s source) (*archive, error) {
	a := &archive{source: s, files: map[string]place{}}
	section := io.NewSectionReader(s, 0, s.Size())
	r := tar.NewReader(section)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("archive: not a sound tar: %w", err)
		}
		if n == maxArchiveEntries {
			return nil, fmt.Errorf("archive: more than %d entries: this is no image", maxArchiveEntries)
		}
		off, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		a.add(h, off)
	}
}

func (a *archive) add(h *tar.Header, off int64) {
	name := path.Clean("/" + h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		// A sparse file has no place of its own: its name stays missing.
		if h.PAXRecords["GNU.sparse.major"] == "" {
			a.files[name] = place{off: off, size: h.Size}
		}
	case tar.TypeSymlink:
		a.files[name] = place{link: path.Join(path.Dir(name), h.Linkname)}
	case tar.TypeLink:
		a.files[name] = place{link: path.Clean("/" + h.Linkname)}
	}
}

// find follows links, which stay inside the archive.
func (a *archive) find(name string) (place, bool) {
	name = path.Clean("/" + name)
	for range 8 {
		p, ok := a.files[name]
		if !ok || p.link == "" {
			return p, ok
		}
		name = path.Clean("/" + p.link)
	}
	return place{}, false
}

func (a *archive) read(name string) ([]byte, error) {
	p, ok := a.find(name)
	switch {
	case !ok:
		return nil, fmt.Errorf("archive: %.300q is missing", name)
	case p.size > maxJSON:
		return nil, fmt.Errorf("archive: %.300q has %d bytes: %d are the most", name, p.size, maxJSON)
	}
	text := make([]byte, p.size)
	if _, err := a.source.ReadAt(text, p.off); err != nil {
		return nil, fmt.Errorf("archive: %.300q ends early: %w", name, err)
	}
	return text, nil
}

func (a *archive) readJSON(name string, into any) error {
	text, err := a.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("archive: %.300q: %w", name, err)
	}
	return nil
}

// contents finds the image: docker writes manifest.json, in newer versions into
// an OCI layout, where it still tells best what was saved.
func (a *archive) contents() (contents, error) {
	var c contents
	var err error
	if _, ok := a.find("manifest.json"); ok {
		c, err = a.docker()
	} else if _, ok := a.find("index.json"); ok {
		c, err = a.layout()
	} else {
		err = errors.New("archive: neither manifest.json nor index.json is in it: it must be a tar of docker save or an OCI layout")
	}
	if err != nil {
		return contents{}, err
	}
	c.id = digest.FromBytes(c.config)
	if c.image, err = decodeConfig(c.config); err != nil {
		return contents{}, err
	}
	if have, want := len(c.blobs), len(c.image.RootFS.DiffIDs); have != want {
		return contents{}, fmt.Errorf("manifest: it names %d layers, the configuration %d", have, want)
	}
	return c, nil
}

func (a *archive) docker() (contents, error) {
	var manifests []struct {
		Config string
		Layers []string
	}
	if err := a.readJSON("manifest.json", &manifests); err != nil {
		return contents{}, err
	}
	if n := len(manifests); n != 1 {
		return contents{}, fmt.Errorf("manifest.json: %d images are in it: save exactly one", n)
	}
	m := manifests[0]
	config, err := a.read(m.Config)
	if err != nil {
		return contents{}, fmt.Errorf("manifest.json names a configuration: %w", err)
	}
	// Its name is its digest, in all versions of docker save.
	name := strings.TrimSuffix(path.Base(m.Config), ".json")
	if digest.NewDigestFromEncoded(digest.SHA256, name).Validate() == nil && digest.FromBytes(config).Encoded() != name {
		return contents{}, fmt.Errorf("archive: %.300q does not have the digest that it is named by", m.Config)
	}
	c := contents{config: config}
	for _, name := range m.Layers {
		p, ok := a.find(name)
		if !ok {
			return contents{}, fmt.Errorf("manifest.json: layer %.300q is missing from the archive", name)
		}
		c.blobs = append(c.blobs, blob{place: p, name: name})
	}
	return c, nil
}

func (a *archive) layout() (contents, error) {
	m, err := a.manifest()
	if err != nil {
		return contents{}, err
	}
	var c contents
	if c.config, err = a.readBlob(m.Config); err != nil {
		return contents{}, fmt.Errorf("configuration: %w", err)
	}
	for i, d := range m.Layers {
		name, err := blobName(d.Digest)
		if err != nil {
			return contents{}, fmt.Errorf("manifest: layers[%d]: %w", i, err)
		}
		p, ok := a.find(name)
		if !ok {
			return contents{}, fmt.Errorf("manifest: layer %s is missing from the archive", d.Digest)
		}
		c.blobs = append(c.blobs, blob{place: p, name: name, digest: d.Digest})
	}
	return c, nil
}

// manifest finds the one of this host's platform; an index may name others.
func (a *archive) manifest() (v1.Manifest, error) {
	var m v1.Manifest
	var index v1.Index
	if err := a.readJSON("index.json", &index); err != nil {
		return m, err
	}
	for range 4 {
		d, err := choose(index.Manifests)
		if err != nil {
			return m, fmt.Errorf("index: %w", err)
		}
		text, err := a.readBlob(d)
		if err != nil {
			return m, fmt.Errorf("manifest: %w", err)
		}
		if !strings.HasSuffix(d.MediaType, "index.v1+json") && !strings.HasSuffix(d.MediaType, "manifest.list.v2+json") {
			err := json.Unmarshal(text, &m)
			return m, err
		}
		index = v1.Index{}
		if err := json.Unmarshal(text, &index); err != nil {
			return m, fmt.Errorf("index %s: %w", d.Digest, err)
		}
	}
	return m, errors.New("index: too many of them inside each other")
}

func choose(list []v1.Descriptor) (v1.Descriptor, error) {
	var fit []v1.Descriptor
	for _, d := range list {
		if p := d.Platform; p == nil || p.OS == "linux" && p.Architecture == runtime.GOARCH {
			fit = append(fit, d)
		}
	}
	if len(fit) != 1 {
		return v1.Descriptor{}, fmt.Errorf("%d images for linux/%s: it must hold exactly one", len(fit), runtime.GOARCH)
	}
	return fit[0], nil
}

func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("%.80q is not a sha256 digest", d)
	}
	return filepath.Join("blobs/sha256", d.Encoded()), nil
}

func (a *archive) readBlob(d v1.Descriptor) ([]byte, error) {
	name, err := blobName(d.Digest)
	if err != nil {
		return nil, err
	}
	text, err := a.read(name)
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(text) != d.Digest {
		return nil, fmt.Errorf("%s: it has another digest: the archive is damaged", d.Digest)
	}
	return text, nil
}

// open reads a layer as a tar, and checks the blob's digest at its end.
func (a *archive) open(ctx context.Context, b blob) (io.ReadCloser, error) {
	raw, err := a.source.Stream(ctx, b.off, b.size)
	if err != nil {
		return nil, err
	}
	r, err := decompress(raw, b.digest)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return r, nil
}
