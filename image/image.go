// Package image keeps container images on disk: layers are unpacked once, each
// into a directory of its own, and containers get an overlay of them.
//
// The way of an image: [Store.Import] or [Store.Pull] reads a docker-save or
// OCI-layout tar, unpacks the layers that are missing and names the image;
// [Store.Bundle] mounts it as the root filesystem of an OCI bundle,
// [Store.Unbundle] takes that away again, and [Store.Collect] removes what nobody
// names or mounts. Images come from anywhere: whatever one holds stays below the
// store, and whatever is wrong with it is an error that names the place.
package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Image is what the store knows of one.
type Image struct {
	// ID is the digest of the configuration.
	ID digest.Digest `json:"id"`
	// Layers are the digests of the uncompressed layers, the lowest first.
	Layers []digest.Digest `json:"layers"`
	// Size is that of all files in bytes, holes included.
	Size int64 `json:"size"`
	// Config is the configuration as it came.
	Config   json.RawMessage `json:"config"`
	Imported time.Time       `json:"imported"`
}

// Spec reads the configuration.
func (i Image) Spec() (v1.Image, error) { return decodeConfig(i.Config) }

// chain are the names of the image's layers on top of each other, the lowest
// first: a layer is unpacked for what is below it, from where it inherits the
// owners of directories that it does not hold itself.
func (i Image) chain() []digest.Digest {
	return identity.ChainIDs(append([]digest.Digest(nil), i.Layers...))
}

// maxLayers is what one mount takes, Docker's limit as well.
const maxLayers = 127

func decodeConfig(text []byte) (v1.Image, error) {
	var c v1.Image
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("configuration: not what an image has: %w", err)
	}
	switch n := len(c.RootFS.DiffIDs); {
	case c.OS != "" && c.OS != "linux":
		return c, fmt.Errorf("configuration: os is %q: only images for linux can run", c.OS)
	case n == 0:
		return c, errors.New("configuration: rootfs.diff_ids is empty: an image must have a layer")
	case n > maxLayers:
		return c, fmt.Errorf("configuration: %d layers are more than the %d that can be mounted: squash the image", n, maxLayers)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
			return c, fmt.Errorf("configuration: rootfs.diff_ids[%d]: %.80q is not a sha256 digest", i, d)
		}
	}
	return c, nil
}

// maxName is how long an image's name may be, in bytes. A pattern that counts so far
// takes milliseconds to compile, which every command would pay.
const maxName = 255

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/@+-]*$`)

func checkName(name string) error {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return fmt.Errorf("image name %.300q: it must begin with a letter or digit, and have up to 255 of these and _.:/@+-", name)
	}
	return nil
}
