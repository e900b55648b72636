package runtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

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
	template, err := templateOf(machine, c)
	if err != nil {
		return shim.Plan{}, err
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
		Cmdline:       vm.Cmdline(),
		Taps:          taps(c),
		Share:         filepath.Join(dir, "share"),
		Seed:          filepath.Join(dir, "seed.iso"),
		AgentSocket:   filepath.Join(dir, "agent.sock"),
		ConsoleSocket: filepath.Join(dir, "console.sock"),
		Transport:     c.Transport,
	}
	if c.Transport == vm.Virtiofs {
		config.Virtiofsd = c.Virtiofsd
		config.ShareSocket = filepath.Join(dir, "share.sock")
	}
	return config
}

// taps are those of the VM. Under a libvirtd they would be in its network
// namespace, not in the container's.
func taps(c Config) []string {
	if c.LibvirtURI != vm.URIEmbed {
		return nil
	}
	names := make([]string, protocol.MaxInterfaces)
	for i := range names {
		names[i] = shim.TapName(i)
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
	spec.Hooks = nil
	spec.Solaris, spec.Windows, spec.ZOS, spec.FreeBSD = nil, nil, nil, nil
	spec.Root = &specs.Root{Path: inside(shares.rootfs), Readonly: b.Spec.Root.Readonly}
	spec.Mounts = slices.Clone(b.Spec.Mounts)
	for i, share := range shares.mounts {
		spec.Mounts[i].Source = inside(share)
	}
	process := *b.Spec.Process
	process.ApparmorProfile, process.SelinuxLabel = "", ""
	spec.Process = &process
	spec.Linux = insideLinux(b.Spec)

	container := protocol.Container{ID: id, Spec: &spec}
	if seccomp := b.Spec.Linux.Seccomp; seccomp != nil {
		var err error
		if container.Seccomp, container.SeccompFlags, err = compileSeccomp(seccomp); err != nil {
			return protocol.Container{}, fmt.Errorf("linux.seccomp.%w", err)
		}
	}
	return container, nil
}

func insideLinux(s *specs.Spec) *specs.Linux {
	linux := *s.Linux
	linux.Seccomp = nil
	linux.CgroupsPath = ""
	linux.MountLabel = ""
	linux.Namespaces = slices.Clone(s.Linux.Namespaces)
	for i := range linux.Namespaces {
		linux.Namespaces[i].Path = ""
	}
	linux.Resources = insideResources(s.Linux.Resources)
	linux.Devices = slices.DeleteFunc(slices.Clone(s.Linux.Devices), func(d specs.LinuxDevice) bool { return !inGuest(d) })
	return &linux
}

// insideResources are without the numbers of the host's CPUs and memory nodes.
func insideResources(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil || r.CPU == nil {
		return r
	}
	inside, cpu := *r, *r.CPU
	cpu.Cpus, cpu.Mems = "", ""
	inside.CPU = &cpu
	return &inside
}
