package runtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/shim"
	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// Host is what Translate has to know of the machine it runs on.
type Host struct {
	// Root is --root; with a container's id it is the identity of its VM.
	Root string
	CPUs uint
	// Memory is in bytes.
	Memory      uint64
	Accelerator vm.Accelerator
	Guest       guest.Image
	// Firmware starts the guest's kernel, if the host has it.
	Firmware string
	// BaseImage is what the machine boots from in place of Guest, but for the overlay.
	BaseImage *vm.BootDisk
	// SystemdCgroup has systemd make the containers' cgroups.
	SystemdCgroup bool
}

// Translate turns a sound bundle into the plan of its VM. It looks at nothing
// but its arguments.
func Translate(id string, b Bundle, c Config, h Host) (shim.Plan, error) {
	dir := shim.Dir(h.Root, id)
	shares := newShares(b, c, filepath.Base(dir))
	container, err := translateContainer(id, b, shares)
	if err != nil {
		return shim.Plan{}, err
	}
	network, _ := namespace(b.Spec, specs.NetworkNamespace)
	machine := translateMachine(id, dir, b, c, h)
	// In a namespace that others use nothing may outlive QEMU.
	machine.TapsMade = c.LibvirtURI == vm.URIEmbed && network.Path == ""
	template, err := templateOf(machine, c)
	if err != nil {
		return shim.Plan{}, err
	}
	place, err := cgroup.ParsePlace(b.Spec.Linux.CgroupsPath, id, h.SystemdCgroup)
	if err != nil {
		return shim.Plan{}, fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	return shim.Plan{
		ID:        id,
		Dir:       dir,
		URI:       c.LibvirtURI,
		Machine:   machine,
		Template:  template,
		Rootfs:    b.Rootfs,
		Shares:    shares.list(),
		Container: container,
		Cgroup:    place,
		Resources: b.Spec.Linux.Resources,
		Netns:     network.Path,
	}, nil
}

func translateMachine(id, dir string, b Bundle, c Config, h Host) vm.Config {
	image := imageName(b.Spec.Annotations)
	title := image
	if title == "" {
		title = filepath.Base(b.Dir)
	}
	config := vm.Config{
		Name:  "vmruntime-" + id,
		UUID:  shim.UUID(h.Root, id),
		Title: oneLine(title),
		Metadata: vm.Metadata{
			ID:          id,
			Root:        h.Root,
			Bundle:      b.Dir,
			Image:       image,
			Annotations: b.Spec.Annotations,
		},
		Accelerator:   h.Accelerator,
		Emulator:      c.Emulator,
		Memory:        ram(b.Spec, c, h.Memory),
		VCPUs:         vcpus(b.Spec, c, h.CPUs),
		Kernel:        h.Guest.Kernel,
		Initramfs:     h.Guest.Initramfs,
		Cmdline:       vm.Cmdline(h.Accelerator),
		Firmware:      h.Firmware,
		Taps:          taps(dir),
		Disks:         machineDisks(b),
		Share:         filepath.Join(dir, "share"),
		Seed:          filepath.Join(dir, "seed.iso"),
		AgentSocket:   filepath.Join(dir, "agent.sock"),
		ConsoleSocket: filepath.Join(dir, "console.sock"),
		Transport:     c.Transport,
	}
	if h.BaseImage != nil {
		boot := *h.BaseImage
		boot.Overlay = vm.OverlayPath(dir)
		config.Boot, config.Memory = &boot, baseImageRAM(b.Spec, c, h.Memory)
		config.Kernel, config.Initramfs, config.Cmdline, config.Firmware = "", "", "", ""
	}
	if c.Transport == vm.Virtiofs {
		config.Virtiofsd = c.Virtiofsd
		config.ShareSocket = filepath.Join(dir, "share.sock")
	}
	return config
}

// taps are those of the VM.
func taps(dir string) []string {
	names := make([]string, protocol.MaxInterfaces)
	for i := range names {
		names[i] = shim.TapName(dir, i)
	}
	return names
}

// imageAnnotations are where engines tell the image's name.
var imageAnnotations = []string{
	"io.kubernetes.cri.image-name",
	"io.kubernetes.cri-o.ImageName",
	"io.podman.annotations.image",
	"org.opencontainers.image.ref.name",
	"org.opencontainers.image.title",
}

func imageName(annotations map[string]string) string {
	for _, name := range imageAnnotations {
		if image := annotations[name]; image != "" {
			return image
		}
	}
	return ""
}

// oneLine makes a text fit for a domain's title.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}

// translateContainer rewrites the specification for the inside: paths of the
// host become paths of the share, and what only the host can do is taken out.
func translateContainer(id string, b Bundle, shares shares) (protocol.Container, error) {
	spec := *b.Spec
	spec.Hooks = insideHooks(b.Spec.Hooks)
	spec.Solaris, spec.Windows, spec.ZOS, spec.FreeBSD = nil, nil, nil, nil
	spec.Root = &specs.Root{Path: inside(shares.rootfs), Readonly: b.Spec.Root.Readonly}
	layers := insideLayers(b.Layers)
	if layers != nil {
		spec.Root.Path = protocol.LayeredRoot(id)
	}
	spec.Mounts = slices.Clone(b.Spec.Mounts)
	for i, share := range shares.mounts {
		spec.Mounts[i].Source = inside(share)
	}
	for i, source := range b.OwnSources {
		spec.Mounts[i].Source = spec.Root.Path + source
	}
	for i, m := range spec.Mounts {
		spec.Mounts[i].Destination = b.destination(m)
	}
	process := *b.Spec.Process
	process.ApparmorProfile, process.SelinuxLabel = "", ""
	spec.Process = &process
	spec.Linux = insideLinux(b)

	container := protocol.Container{ID: id, Bundle: b.Dir, Spec: &spec, Disks: insideDisks(b), Layers: layers}
	if seccomp := b.Spec.Linux.Seccomp; seccomp != nil {
		var err error
		if container.Seccomp, container.SeccompFlags, err = compileSeccomp(seccomp); err != nil {
			return protocol.Container{}, fmt.Errorf("linux.seccomp.%w", err)
		}
	}
	return container, nil
}

// insideHooks are those that run in the container's namespaces.
func insideHooks(h *specs.Hooks) *specs.Hooks {
	if h == nil || len(h.CreateContainer)+len(h.StartContainer) == 0 {
		return nil
	}
	return &specs.Hooks{CreateContainer: h.CreateContainer, StartContainer: h.StartContainer}
}

func insideLinux(b Bundle) *specs.Linux {
	s := b.Spec
	linux := *s.Linux
	linux.Seccomp = nil
	linux.CgroupsPath = ""
	linux.MountLabel = ""
	linux.Namespaces = slices.Clone(s.Linux.Namespaces)
	for i := range linux.Namespaces {
		linux.Namespaces[i].Path = ""
	}
	linux.Resources = insideResources(b)
	if privileged(s.Linux) {
		linux.Devices = slices.DeleteFunc(slices.Clone(s.Linux.Devices), func(d specs.LinuxDevice) bool { return !inGuest(d) })
	}
	return &linux
}

// insideResources are without the numbers of the host's CPUs, memory nodes and disks.
func insideResources(b Bundle) *specs.LinuxResources {
	r := b.Spec.Linux.Resources
	if r == nil {
		return nil
	}
	inside := *r
	inside.Devices = insideRules(b)
	if r.CPU != nil {
		cpu := *r.CPU
		cpu.Cpus, cpu.Mems = "", ""
		inside.CPU = &cpu
	}
	return &inside
}
