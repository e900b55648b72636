package runtime

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/vm"
)

// GuestAnnotation chooses the guest of one container by name. It takes no path: who
// sets annotations must not choose files of the host.
const GuestAnnotation = "org.vmruntime.guest"

// The names of guests, in the annotation and in Config.DefaultGuest.
const (
	// GuestOwn is the kernel and initramfs in Config.Guest.
	GuestOwn = "own"
	// GuestBaseImage is the system in Config.BaseImage.
	GuestBaseImage = "base_image"
)

var guestNames = []string{GuestOwn, GuestBaseImage}

func checkGuestName(s *specs.Spec) error {
	name, ok := s.Annotations[GuestAnnotation]
	if ok && !slices.Contains(guestNames, name) {
		return fmt.Errorf("annotations: %s must be %q or %q, not %q", GuestAnnotation, GuestOwn, GuestBaseImage, name)
	}
	return nil
}

// guestName is the name of the guest that the container gets.
func (c Config) guestName(s *specs.Spec) string {
	switch name := s.Annotations[GuestAnnotation]; {
	case name != "":
		return name
	case c.DefaultGuest != "":
		return c.DefaultGuest
	case c.BaseImage != "":
		return GuestBaseImage
	}
	return GuestOwn
}

// baseImage is what the container's machine boots from, nil for our own guest.
func (c Config) baseImage(ctx context.Context, s *specs.Spec) (*vm.BootDisk, error) {
	if c.guestName(s) != GuestBaseImage {
		return nil, nil
	}
	if c.BaseImage == "" {
		return nil, fmt.Errorf("annotations: %s is %q, and the host has none: set base_image in its config.toml", GuestAnnotation, GuestBaseImage)
	}
	image, err := vm.OpenBaseImage(ctx, c.BaseImage)
	if err != nil {
		return nil, fmt.Errorf("base_image: %w", err)
	}
	return &image, nil
}

// checkBaseImage is about an image that is configured.
func (r Runtime) checkBaseImage(ctx context.Context) Finding {
	const name = "base image"
	if r.Config.BaseImage == "" {
		return Finding{Level: OK, Name: name, Text: "none is configured"}
	}
	image, err := vm.OpenBaseImage(ctx, r.Config.BaseImage)
	if err != nil {
		return Finding{Missing, name, err.Error(), "set base_image to a disk image with cloud-init and a kernel with 9p"}
	}
	return Finding{Level: OK, Name: name, Text: image.Base + " (" + image.BaseFormat + ")"}
}
