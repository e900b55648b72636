// Package vm is the virtual machine side: it turns plain data into a libvirt
// domain, a NoCloud seed and a shared directory, and runs them.
//
// The order of use: WriteSeed and Mount prepare a directory, DomainXML describes
// the machine, and package driver boots it.
package vm

// The libvirt drivers that machines run on.
const (
	// URIEmbed is QEMU's driver inside the calling process, rooted in the
	// machine's own directory.
	URIEmbed = "qemu:///embed"
	// URISystem is the host's libvirtd.
	URISystem = "qemu:///system"
)

// CapabilityCache keeps what libvirt learns from probing QEMU, four seconds
// under emulation, for all embedded drivers of the host.
const CapabilityCache = "/var/cache/vmruntime/libvirt"

// Accelerator is how QEMU runs the guest's instructions: libvirt's domain type.
type Accelerator string

// The accelerators; TCG is QEMU's software emulation.
const (
	KVM Accelerator = "kvm"
	TCG Accelerator = "qemu"
)

// Setting is the accelerator as config.toml calls it.
func (a Accelerator) Setting() string {
	if a == TCG {
		return "tcg"
	}
	return string(a)
}

// Transport is how the guest reaches the shared directory.
type Transport string

// The transports: QEMU's own 9p server, or a virtiofsd beside it.
const (
	NineP    Transport = "9p"
	Virtiofs Transport = "virtiofs"
)

// Config describes one machine. All paths are absolute and on the host.
type Config struct {
	// Name is the domain's name, UUID its identity; libvirt refuses a second
	// domain with either.
	Name string `json:"name"`
	UUID string `json:"uuid"`
	// Title is what a person should recognize: the image's or bundle's name.
	Title    string   `json:"title"`
	Metadata Metadata `json:"metadata"`

	Accelerator Accelerator `json:"accelerator"`
	// Emulator is the program that libvirt starts, called with QEMU's arguments.
	Emulator string `json:"emulator"`
	// EmulatorEnv is set in the emulator's environment.
	EmulatorEnv map[string]string `json:"emulatorEnv,omitempty"`
	// Memory is the guest's RAM in bytes.
	Memory uint64 `json:"memory"`
	VCPUs  uint   `json:"vcpus"`
	// MemoryFile holds the guest's RAM where a template is made or used; without
	// it RAM is anonymous.
	MemoryFile string `json:"memoryFile,omitempty"`
	// Clone maps MemoryFile privately, and the machine waits for the state that
	// was saved with it. Otherwise the machine boots, and writes to MemoryFile.
	Clone bool `json:"clone,omitempty"`

	// Boot is the disk that the machine boots from; without it, Kernel. Such a machine
	// is no clone.
	Boot *BootDisk `json:"boot,omitempty"`
	// Kernel is an uncompressed vmlinux with a PVH entry.
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"`
	Cmdline   string `json:"cmdline"`
	// Firmware starts Kernel; without it, QEMU's own does.
	Firmware string `json:"firmware,omitempty"`

	// Taps are the host's ends of the NICs, in the order of their numbers. libvirt
	// makes them in its own network namespace, unless TapsMade says that they are
	// there already.
	Taps     []string `json:"taps,omitempty"`
	TapsMade bool     `json:"tapsMade,omitempty"`
	// Disks are those that the guest gets; such a machine is no clone.
	Disks []Disk `json:"disks,omitempty"`
	// Share is the directory that the guest sees.
	Share string `json:"share"`
	// Transport carries the share. Under Virtiofs the guest's RAM is shared with
	// virtiofsd, so that the machine cannot be a clone.
	Transport Transport `json:"transport"`
	// Virtiofsd is the wrapper that the shim starts as virtiofsd, ShareSocket where
	// that listens for QEMU. 9p needs neither.
	Virtiofsd   string `json:"virtiofsd,omitempty"`
	ShareSocket string `json:"shareSocket,omitempty"`
	// Seed is the NoCloud seed ISO.
	Seed string `json:"seed"`
	// AgentSocket and ConsoleSocket are Unix sockets on which the shim listens;
	// QEMU connects the agent channel and the serial console to them.
	AgentSocket   string `json:"agentSocket"`
	ConsoleSocket string `json:"consoleSocket"`
}

// Metadata is what the domain tells about the container to those who look at
// it through libvirt.
type Metadata struct {
	ID          string            `json:"id"`
	Root        string            `json:"root"`
	Bundle      string            `json:"bundle"`
	Image       string            `json:"image,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// A Disk is a block device of the host, or a file.
type Disk struct {
	Path string `json:"path"`
	// Serial is the serial number by which the guest finds it.
	Serial   string `json:"serial"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// File says that Path is a raw image.
	File bool `json:"file,omitempty"`
}

// MaxDisks is how many disks a machine has slots for.
const MaxDisks = 16
