package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/vm"
)

func TestGuestName(t *testing.T) {
	const image = "/images/debian.qcow2"
	for _, test := range []struct {
		image, configured, annotation, want string
	}{
		{"", "", "", GuestOwn},
		{image, "", "", GuestBaseImage},
		{image, GuestOwn, "", GuestOwn},
		{image, GuestBaseImage, "", GuestBaseImage},
		{image, "", GuestOwn, GuestOwn},
		{image, GuestOwn, GuestBaseImage, GuestBaseImage},
	} {
		c := Config{BaseImage: test.image, DefaultGuest: test.configured}
		s := &specs.Spec{}
		if test.annotation != "" {
			s.Annotations = map[string]string{GuestAnnotation: test.annotation}
		}
		if got := c.guestName(s); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// Who sets annotations chooses among names, not among files.
func TestGuestAnnotationIsAName(t *testing.T) {
	for _, value := range []string{"", "/images/debian.qcow2", "base-image", "BASE_IMAGE"} {
		err := checkGuestName(&specs.Spec{Annotations: map[string]string{GuestAnnotation: value}})
		if err == nil || !strings.Contains(err.Error(), GuestAnnotation) {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestBaseImageIsMissing(t *testing.T) {
	s := &specs.Spec{Annotations: map[string]string{GuestAnnotation: GuestBaseImage}}
	if _, err := (Config{}).baseImage(context.Background(), s); err == nil || !strings.Contains(err.Error(), "set base_image") {
		t.Error(err)
	}
	_, err := Config{BaseImage: "/nowhere/debian.qcow2"}.baseImage(context.Background(), s)
	if err == nil || err.Error() != "base_image: /nowhere/debian.qcow2 does not exist" {
		t.Error(err)
	}
}

func TestBaseImageConfig(t *testing.T) {
	for text, want := range map[string]string{
		`base_image = "debian.qcow2"`:                             "base_image",
		`base_image = "/a:b"`:                                     "base_image",
		`default_guest = "base_image"`:                            "set base_image",
		`default_guest = "debian"`:                                "default_guest",
		"base_image = \"/debian.qcow2\"\ndefault_guest = \"own\"": "",
	} {
		file := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig(file, "/usr/bin/vmruntime")
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The machine boots from the disk and from nothing else, always cold, and has room for
// the image's own system.
func TestTranslateBaseImage(t *testing.T) {
	h, c := goldenHost, goldenConfig
	h.BaseImage = &vm.BootDisk{Base: "/images/debian.qcow2", BaseFormat: "qcow2"}
	c.Templates = templatesAuto
	for input, memory := range map[string]uint64{"testdata/least.json": 1024 << 20, "testdata/small.json": minBaseImageMemory} {
		plan, err := Translate("c", goldenBundle(t, input), c, h)
		if err != nil {
			t.Fatal(err)
		}
		m := plan.Machine
		if m.Kernel != "" || m.Initramfs != "" || m.Cmdline != "" || plan.Template != "" {
			t.Errorf("%s: %+v, template %q", input, m, plan.Template)
		}
		if m.Boot == nil || m.Boot.Base != h.BaseImage.Base || m.Boot.Overlay != vm.OverlayPath(plan.Dir) {
			t.Errorf("%s: boots from %+v", input, m.Boot)
		}
		if m.Memory != memory {
			t.Errorf("%s: memory %d, want %d", input, m.Memory, memory)
		}
	}
	if h.BaseImage.Overlay != "" {
		t.Error("the host's image has changed")
	}
}
