package image

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Unpacked is an image as its files are: for whoever makes something else of them
// than a mount.
type Unpacked struct {
	Image Image
	// Trees are the directories of the layers in overlayfs' format, the lowest
	// first. They are not to be written to.
	Trees []string
}

// Use calls do with an image, or with that of the archive in file where that is not
// empty. Until do returns nobody collects it.
func (s *Store) Use(ctx context.Context, name, file string, do func(Unpacked) error) error {
	unlock, err := s.lock(ctx, storeLock, true)
	if err != nil {
		return err
	}
	defer unlock()
	i, err := s.findOrImport(ctx, name, file)
	if err != nil {
		return err
	}
	trees := s.trees(i.chain())
	slices.Reverse(trees)
	return do(Unpacked{Image: i, Trees: trees})
}

func (s *Store) findOrImport(ctx context.Context, name, file string) (Image, error) {
	if file != "" {
		return s.importFile(ctx, "", file)
	}
	return s.Find(name)
}

// A Machine is what an image's configuration asks for, of which a part has to be
// looked up where the image is mounted.
type Machine struct {
	Spec *specs.Spec
	// User is a name or number, with a group or without, in the image's own files.
	User string
	// Volumes are directories to be made.
	Volumes []string
}

// Machine reads the configuration; args replace the image's command, if there are
// any.
func (i Image) Machine(args []string) (Machine, error) {
	config, err := i.Spec()
	if err != nil {
		return Machine{}, err
	}
	spec, err := newSpec(config, args)
	if err != nil {
		return Machine{}, fmt.Errorf("configuration: %w", err)
	}
	volumes := slices.Sorted(maps.Keys(config.Config.Volumes))
	if len(volumes) > maxVolumes {
		return Machine{}, fmt.Errorf("configuration: Volumes: %d of them are more than %d", len(volumes), maxVolumes)
	}
	return Machine{Spec: spec, User: config.Config.User, Volumes: volumes}, nil
}
