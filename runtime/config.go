package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// DefaultConfig is the file that configures the host's runtime. It may be
// missing.
var DefaultConfig = "/etc/vmruntime/config.toml"

// Config is what an administrator chooses for all containers of a host.
type Config struct {
	// LibvirtURI is vm.URIEmbed or vm.URISystem.
	LibvirtURI string `toml:"libvirt_uri"`
	// Accelerator is auto, kvm or tcg.
	Accelerator string `toml:"accelerator"`
	// Memory is the VM's RAM in MiB where the container has no limit, VCPUs its
	// number of CPUs where it has no quota.
	Memory int64 `toml:"memory"`
	VCPUs  int   `toml:"vcpus"`
	// Templates says whether machines start as clones of a saved one: auto
	// builds missing templates in the background, built uses those that are
	// there, off boots every machine.
	Templates string `toml:"templates"`
	// Guest is the directory of the guest's kernel and initramfs.
	Guest string `toml:"guest"`
	// BaseImage is a disk image that guests boot from in place of Guest, empty for none.
	BaseImage string `toml:"base_image"`
	// DefaultGuest is the guest of containers that name none: GuestOwn or
	// GuestBaseImage; empty means the latter where there is a BaseImage.
	DefaultGuest string `toml:"default_guest"`
	// Transport is how guests reach their files: vm.NineP or vm.Virtiofs.
	Transport vm.Transport `toml:"transport"`
	// Emulator is the wrapper that libvirt starts as QEMU.
	Emulator string `toml:"emulator"`
	// Virtiofsd is the wrapper that the shim starts as virtiofsd.
	Virtiofsd string `toml:"virtiofsd"`
	// Agent is the vmagent that guests without one of their own run.
	Agent string `toml:"agent"`
	// Rootfs is how guests reach the root file system where an annotation does not
	// say so: share or block. RootfsSize is how large a disk for a container's writes
	// is, such as 10GiB, RootfsStore the directory of the disks.
	Rootfs      string `toml:"rootfs"`
	RootfsSize  string `toml:"rootfs_size"`
	RootfsStore string `toml:"rootfs_store"`
	// ImageStore is the directory of the images, ImageLimit how large the files of
	// one may be together, such as 8GiB.
	ImageStore string `toml:"image_store"`
	ImageLimit string `toml:"image_limit"`
}

// LoadConfig reads the file at path over the defaults that belong to the
// program exe. Only the default file may be missing.
func LoadConfig(path, exe string) (Config, error) {
	c := Config{
		LibvirtURI:  vm.URIEmbed,
		Accelerator: "auto",
		Memory:      1024,
		VCPUs:       1,
		Templates:   templatesAuto,
		Guest:       guest.DefaultDir(exe),
		Transport:   vm.NineP,
		Emulator:    guest.DefaultEmulator(exe),
		Virtiofsd:   guest.DefaultVirtiofsd(exe),
		Agent:       guest.DefaultAgent(exe),
		Rootfs:      rootfsShare,
		RootfsSize:  "10GiB",
		RootfsStore: "/var/lib/vmruntime/rootfs",
		ImageStore:  "/var/lib/vmruntime/images",
		ImageLimit:  "8GiB",
	}
	meta, err := toml.DecodeFile(path, &c)
	if errors.Is(err, fs.ErrNotExist) {
		if path == DefaultConfig {
			return c, nil
		}
		return Config{}, fmt.Errorf("configuration %s does not exist", path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, decodeError(err))
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Config{}, fmt.Errorf("configuration %s: unknown key %s: remove it", path, joinKeys(unknown))
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func (c Config) check() error {
	switch {
	case c.LibvirtURI != vm.URIEmbed && c.LibvirtURI != vm.URISystem:
		return fmt.Errorf("libvirt_uri must be %q or %q, not %q", vm.URIEmbed, vm.URISystem, c.LibvirtURI)
	case c.Accelerator != "auto" && c.Accelerator != "kvm" && c.Accelerator != "tcg":
		return fmt.Errorf(`accelerator must be "auto", "kvm" or "tcg", not %q`, c.Accelerator)
	case c.Templates != templatesAuto && c.Templates != templatesBuilt && c.Templates != templatesOff:
		return fmt.Errorf(`templates must be %q, %q or %q, not %q`, templatesAuto, templatesBuilt, templatesOff, c.Templates)
	case c.DefaultGuest != "" && !slices.Contains(guestNames, c.DefaultGuest):
		return fmt.Errorf("default_guest must be %q or %q, not %q", GuestOwn, GuestBaseImage, c.DefaultGuest)
	case c.DefaultGuest == GuestBaseImage && c.BaseImage == "":
		return fmt.Errorf("default_guest is %q: set base_image to a disk image, or remove default_guest", GuestBaseImage)
	case c.BaseImage != "" && (!filepath.IsAbs(c.BaseImage) || strings.Contains(c.BaseImage, ":")):
		return fmt.Errorf("base_image: %q must be absolute and without colons", c.BaseImage)
	case c.Transport != vm.NineP && c.Transport != vm.Virtiofs:
		return fmt.Errorf("transport must be %q or %q, not %q", vm.NineP, vm.Virtiofs, c.Transport)
	case c.Rootfs != rootfsShare && c.Rootfs != rootfsBlock:
		return fmt.Errorf("rootfs must be %q or %q, not %q", rootfsShare, rootfsBlock, c.Rootfs)
	case c.Memory < minMemory>>20:
		return fmt.Errorf("memory must be at least %d MiB, not %d", minMemory>>20, c.Memory)
	case c.VCPUs < 1:
		return errors.New("vcpus must be at least 1")
	}
	for key, path := range map[string]string{"guest": c.Guest, "emulator": c.Emulator, "virtiofsd": c.Virtiofsd, "agent": c.Agent, "image_store": c.ImageStore, "rootfs_store": c.RootfsStore} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s: %q must be absolute", key, path)
		}
	}
	if _, err := diskSize(c.RootfsSize); err != nil {
		return fmt.Errorf("rootfs_size: %w", err)
	}
	if _, err := byteSize(c.ImageLimit); err != nil {
		return fmt.Errorf("image_limit: %w", err)
	}
	return nil
}

// decodeError words a value of the wrong type as check words others.
func decodeError(err error) error {
	// The library has no error of its own for it.
	wrongType := regexp.MustCompile(`\(last key "(.+)"\): incompatible types: TOML value has type (\w+); destination has type (\w+)$`)
	if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s must be of type %s, not %s", m[1], m[3], m[2])
	}
	return err
}

func joinKeys(keys []toml.Key) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.String()
	}
	return strings.Join(names, ", ")
}
