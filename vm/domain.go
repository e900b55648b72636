package vm

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/vmruntime/vmruntime/protocol"
)

// Slots on pcie.0. Everything sits on the root bus: a root port per device, as
// libvirt would add, costs the guest time to enumerate.
const (
	// In front of the seed, which makes it the guest's first disk.
	slotBoot   = 1
	slotShare  = 2
	slotSeed   = 3
	slotSerial = 4
	slotRNG    = 5
	// The first NIC's; the others follow.
	slotNIC = 6
	// The first disk's; the others follow.
	slotDisk = slotNIC + protocol.MaxInterfaces
)

// DomainXML describes the machine to libvirt
// (https://libvirt.org/formatdomain.html).
func DomainXML(c Config) (string, error) {
	metadata, err := metadataXML(c.Metadata)
	if err != nil {
		return "", fmt.Errorf("domain %s: metadata: %w", c.Name, err)
	}
	domain := libvirtxml.Domain{
		Type:          string(c.Accelerator),
		Name:          c.Name,
		UUID:          c.UUID,
		Title:         c.Title,
		Metadata:      &libvirtxml.DomainMetadata{XML: metadata},
		Memory:        &libvirtxml.DomainMemory{Value: uint(c.Memory), Unit: "bytes"},
		MemoryBacking: memoryBacking(c.Transport),
		VCPU:          &libvirtxml.DomainVCPU{Value: c.VCPUs},
		CPU:           cpu(c.Accelerator),
		OS:            operatingSystem(c),
		Features:      features(c),
		Clock:         clock(),
		// A guest that resets itself has panicked or means to end.
		OnPoweroff:       "destroy",
		OnReboot:         "destroy",
		OnCrash:          "destroy",
		Devices:          devices(c),
		SecLabel:         rootLabel(),
		QEMUCommandline:  qemuCommandline(c),
		QEMUCapabilities: qemuCapabilities(),
	}
	text, err := domain.Marshal()
	if err != nil {
		return "", fmt.Errorf("domain %s: %w", c.Name, err)
	}
	return text, nil
}

// operatingSystem is the guest's own boot loader, which the BIOS finds on its disk, or
// a kernel.
func operatingSystem(c Config) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}}
	if c.Boot == nil {
		os.Kernel, os.Initrd, os.Cmdline = c.Kernel, c.Initramfs, c.Cmdline
		if c.Firmware != "" {
			os.Loader = &libvirtxml.DomainLoader{Type: "rom", Path: c.Firmware}
		}
	}
	return os
}

// memoryBacking lets virtiofsd read and write the guest's buffers in place.
func memoryBacking(t Transport) *libvirtxml.DomainMemoryBacking {
	if t != Virtiofs {
		return nil
	}
	return &libvirtxml.DomainMemoryBacking{
		MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
		MemoryAccess: &libvirtxml.DomainMemoryAccess{Mode: "shared"},
	}
}

func cpu(a Accelerator) *libvirtxml.DomainCPU {
	if a == KVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	}
	// With these two the kernel copies by string instructions, which TCG runs byte
	// by byte: without them stdout is 2.5 times as fast.
	return &libvirtxml.DomainCPU{Mode: "maximum", Features: []libvirtxml.DomainCPUFeature{
		{Policy: "disable", Name: "erms"},
		{Policy: "disable", Name: "fsrm"},
	}}
}

// qemuCapabilities denies QEMU an ability that it has: telling by a property for
// each feature whether the CPU has it. libvirt reads all of these, some 400, at
// every start, which takes as long as QEMU itself. Without it libvirt reads the
// features as bits of CPUID, in one go.
func qemuCapabilities() *libvirtxml.DomainQEMUCapabilities {
	return &libvirtxml.DomainQEMUCapabilities{
		Del: []libvirtxml.DomainQEMUCapabilitiesEntry{{Name: "cpu-unavailable-features"}},
	}
}

// codeCache bounds what QEMU keeps of translated code under TCG, in MiB. Its own
// bound is 1024, which a busy guest would fill on the host. A full cache is emptied, and all of
// it is translated again: what a clone runs until it has started a container, done an exec
// and seen the container's end takes 29 to 38.
// bootCache is for a machine that boots, which runs as much code again once. imageCache is
// for the system of a base image, with its Python.
const (
	codeCache  = 40
	bootCache  = 72
	imageCache = 128
)

func features(c Config) *libvirtxml.DomainFeatureList {
	off := func() *libvirtxml.DomainFeatureState { return &libvirtxml.DomainFeatureState{State: "off"} }
	list := &libvirtxml.DomainFeatureList{
		ACPI:   &libvirtxml.DomainFeature{},
		APIC:   &libvirtxml.DomainFeatureAPIC{},
		VMPort: off(),
		SMM:    &libvirtxml.DomainFeatureSMM{State: "off"},
	}
	if c.Accelerator == TCG {
		size := uint(bootCache)
		switch {
		case c.Clone:
			size = codeCache
		case c.Boot != nil:
			size = imageCache
		}
		list.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: size}}
	}
	return list
}

func clock() *libvirtxml.DomainClock {
	return &libvirtxml.DomainClock{
		Offset: "utc",
		Timer:  []libvirtxml.DomainTimer{{Name: "hpet", Present: "no"}},
	}
}

func devices(c Config) *libvirtxml.DomainDeviceList {
	return &libvirtxml.DomainDeviceList{
		Emulator:    c.Emulator,
		Controllers: controllers(),
		Filesystems: []libvirtxml.DomainFilesystem{shareDevice(c)},
		Disks:       slices.Concat(bootDisk(c.Boot), []libvirtxml.DomainDisk{seedDevice(c.Seed)}, disks(c.Disks)),
		Channels:    []libvirtxml.DomainChannel{agentChannel(c.AgentSocket)},
		Serials:     []libvirtxml.DomainSerial{console(c.ConsoleSocket)},
		RNGs:        []libvirtxml.DomainRNG{rng()},
		Interfaces:  nics(c),
		MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
	}
}

func controllers() []libvirtxml.DomainController {
	// The first port is kept for a console. QEMU has two queues for each possible port and
	// looks at all of them whenever it wakes; it would be for 31 ports.
	zero, ports := uint(0), uint(2)
	return []libvirtxml.DomainController{
		{Type: "usb", Index: &zero, Model: "none"},
		{Type: "pci", Index: &zero, Model: "pcie-root"},
		{Type: "virtio-serial", Index: &zero, Address: slot(slotSerial), VirtIOSerial: &libvirtxml.DomainControllerVirtIOSerial{Ports: &ports}},
	}
}

// shareDevice exports the one shared directory.
func shareDevice(c Config) libvirtxml.DomainFilesystem {
	if c.Transport == Virtiofs {
		return virtiofs(c.ShareSocket)
	}
	return ninep(c.Share)
}

// ninep is QEMU's own server. Passthrough keeps owners and modes as they are on the
// host; remap keeps inode numbers of the mounts below the directory apart.
func ninep(dir string) libvirtxml.DomainFilesystem {
	return libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		MultiDevs:  "remap",
		Driver:     &libvirtxml.DomainFilesystemDriver{Type: "path"},
		Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: dir}},
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: protocol.ShareTag},
		Address:    slot(slotShare),
	}
}

// virtiofs is a virtiofsd that the shim has started.
func virtiofs(socket string) libvirtxml.DomainFilesystem {
	return libvirtxml.DomainFilesystem{
		Driver:  &libvirtxml.DomainFilesystemDriver{Type: "virtiofs", Queue: virtiofsQueue},
		Source:  &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Socket: socket}},
		Target:  &libvirtxml.DomainFilesystemTarget{Dir: protocol.ShareTag},
		Address: slot(slotShare),
	}
}

// virtiofsQueue is the most that a request may have in pages, which is 1024 in
// virtio: with less, large reads and writes come in pieces.
const virtiofsQueue = 1024

// bootDisk ends with the machine: no flush of the guest has to reach the host's disk.
// libvirt is told the whole chain, and looks for no more of it in the images.
func bootDisk(d *BootDisk) []libvirtxml.DomainDisk {
	if d == nil {
		return nil
	}
	return []libvirtxml.DomainDisk{{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: formatQcow2, Cache: "unsafe"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Overlay}},
		BackingStore: &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: d.BaseFormat},
			Source:       &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Base}},
			BackingStore: &libvirtxml.DomainDiskBackingStore{},
		},
		Target:  &libvirtxml.DomainDiskTarget{Dev: "vdz", Bus: "virtio"},
		Boot:    &libvirtxml.DomainDeviceBoot{Order: 1},
		Address: slot(slotBoot),
	}}
}

func seedDevice(path string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device:   "disk",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		Address:  slot(slotSeed),
	}
}

func disks(list []Disk) []libvirtxml.DomainDisk {
	var devices []libvirtxml.DomainDisk
	for i, d := range list {
		device := libvirtxml.DomainDisk{
			Device:  "disk",
			Driver:  diskDriver(d),
			Source:  diskSource(d),
			Target:  &libvirtxml.DomainDiskTarget{Dev: fmt.Sprintf("vd%c", 'b'+i), Bus: "virtio"},
			Serial:  d.Serial,
			Address: slot(slotDisk + uint(i)),
		}
		if d.ReadOnly {
			device.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
		}
		devices = append(devices, device)
	}
	return devices
}

// diskDriver goes past the host's page cache to devices: the host may look at what the
// guest has written. Files are only QEMU's: machines of one image have its pages once,
// and what the guest discards the file need not hold.
func diskDriver(d Disk) *libvirtxml.DomainDiskDriver {
	driver := &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw", Cache: "none"}
	if d.File {
		driver.Cache = "writeback"
	}
	if d.File && !d.ReadOnly {
		driver.Discard = "unmap"
	}
	return driver
}

func diskSource(d Disk) *libvirtxml.DomainDiskSource {
	if d.File {
		return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Path}}
	}
	return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: d.Path}}
}

// agentChannel lets QEMU connect to a listening shim, so that the host's end is
// there before the guest looks.
func agentChannel(path string) libvirtxml.DomainChannel {
	return libvirtxml.DomainChannel{
		Source: socket(path),
		Target: &libvirtxml.DomainChannelTarget{
			VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: protocol.PortName},
		},
	}
}

// console is read by the shim, which keeps only the end of it: a file would
// let a guest fill the host's /run.
func console(path string) libvirtxml.DomainSerial {
	return libvirtxml.DomainSerial{Source: socket(path)}
}

func socket(path string) *libvirtxml.DomainChardevSource {
	return &libvirtxml.DomainChardevSource{
		UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "connect", Path: path},
	}
}

// nics have no boot ROM. Their addresses tell them apart in the guest, which takes
// over those of the interfaces that they stand for.
func nics(c Config) []libvirtxml.DomainInterface {
	var list []libvirtxml.DomainInterface
	managed := ""
	if c.TapsMade {
		managed = "no"
	}
	for i, tap := range c.Taps {
		list = append(list, libvirtxml.DomainInterface{
			MAC:     &libvirtxml.DomainInterfaceMAC{Address: net.HardwareAddr(protocol.NICAddress(i)).String()},
			Source:  &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
			Target:  &libvirtxml.DomainInterfaceTarget{Dev: tap, Managed: managed},
			Model:   &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			ROM:     &libvirtxml.DomainROM{Enabled: "no"},
			Address: slot(slotNIC + uint(i)),
		})
	}
	return list
}

func rng() libvirtxml.DomainRNG {
	return libvirtxml.DomainRNG{
		Model: "virtio",
		Backend: &libvirtxml.DomainRNGBackend{
			Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"},
		},
		Address: slot(slotRNG),
	}
}

func slot(n uint) *libvirtxml.DomainAddress {
	zero := uint(0)
	return &libvirtxml.DomainAddress{
		PCI: &libvirtxml.DomainAddressPCI{Domain: &zero, Bus: &zero, Slot: &n, Function: &zero},
	}
}

// rootLabel keeps QEMU root, which 9p passthrough needs to create files as the
// users inside; the emulator wrapper takes away every other capability.
func rootLabel() []libvirtxml.DomainSecLabel {
	return []libvirtxml.DomainSecLabel{{Type: "static", Model: "dac", Relabel: "no", Label: "+0:+0"}}
}

// qemuCommandline is what libvirt has no element for.
func qemuCommandline(c Config) *libvirtxml.DomainQEMUCommandline {
	line := &libvirtxml.DomainQEMUCommandline{}
	for _, arg := range slices.Concat(memoryArgs(c), queueArgs(c)) {
		line.Args = append(line.Args, libvirtxml.DomainQEMUCommandlineArg{Value: arg})
	}
	for _, name := range slices.Sorted(maps.Keys(c.EmulatorEnv)) {
		line.Envs = append(line.Envs, libvirtxml.DomainQEMUCommandlineEnv{Name: name, Value: c.EmulatorEnv[name]})
	}
	if line.Args == nil && line.Envs == nil {
		return nil
	}
	return line
}

// queueArgs have the CPU's thread look into the queues of devices itself. KVM has its own
// way to tell QEMU's main thread of them; in emulation one thread tells the other, which
// polls a descriptor for each queue whenever it wakes.
func queueArgs(c Config) []string {
	if c.Accelerator != TCG {
		return nil
	}
	// virtio-rng-pci has the property since QEMU 7.2 only.
	drivers := []string{"virtio-serial-pci", "virtio-blk-pci"}
	if c.Transport == NineP {
		drivers = append(drivers, "virtio-9p-pci")
	}
	if len(c.Taps) > 0 {
		drivers = append(drivers, "virtio-net-pci")
	}
	var args []string
	for _, d := range drivers {
		args = append(args, "-global", d+".ioeventfd=off")
	}
	return args
}

// memoryArgs put MemoryFile in the place of libvirt's own memory backend, which
// stays there and takes nothing: libvirt gives every domain a file of its own.
func memoryArgs(c Config) []string {
	if c.MemoryFile == "" {
		return nil
	}
	share := "on"
	if c.Clone {
		share = "off"
	}
	// QEMU splits at single commas.
	file := strings.ReplaceAll(c.MemoryFile, ",", ",,")
	args := []string{
		"-object", fmt.Sprintf("memory-backend-file,id=template,size=%d,mem-path=%s,share=%s", c.Memory, file, share),
		"-machine", "memory-backend=template",
	}
	if c.Clone {
		args = append(args, "-incoming", "defer")
	}
	return args
}
