package runtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// Level is how much a finding matters.
type Level string

// Missing keeps every container from starting; Warning does not.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Missing Level = "missing"
)

// A Finding is one thing that the runtime needs of the host.
type Finding struct {
	Level  Level
	Name   string
	Text   string
	Remedy string
}

func (f Finding) String() string {
	line := fmt.Sprintf("%-8s %-10s %s", f.Level, f.Name, f.Text)
	if f.Remedy != "" {
		line += " (remedy: " + f.Remedy + ")"
	}
	return line
}

// Check looks at what the runtime needs, one finding each.
func (r Runtime) Check(ctx context.Context) []Finding {
	image, err := guest.Open(r.Config.Guest)
	return []Finding{
		checkRights(),
		r.checkKVM(image),
		checkLibvirt(r.Config.LibvirtURI),
		checkQEMU(),
		checkExecutable("shim", r.Shim),
		checkExecutable("emulator", r.Config.Emulator),
		checkExecutable("agent", r.Config.Agent),
		checkGuest(image, err),
		checkModules(image),
		r.checkTransport(image),
		r.checkBaseImage(ctx),
		r.checkDisks(),
	}
}

func checkRights() Finding {
	f := Finding{Level: OK, Name: "rights", Text: "root with CAP_SYS_ADMIN"}
	if os.Geteuid() != 0 {
		return Finding{Missing, f.Name, "this is not root", "run as root"}
	}
	var header unix.CapUserHeader
	var data [2]unix.CapUserData
	header.Version = unix.LINUX_CAPABILITY_VERSION_3
	if err := unix.Capget(&header, &data[0]); err != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return Finding{Missing, f.Name, "root without CAP_SYS_ADMIN", "run on the host, or in a privileged container"}
	}
	return f
}

// checkKVM tells what was found out; it boots nothing.
func (r Runtime) checkKVM(image guest.Image) Finding {
	f := Finding{Level: Warning, Name: "KVM", Remedy: "enable virtualization; the software emulation TCG is slow, and programs in it lie at fixed addresses"}
	switch r.Config.Accelerator {
	case "kvm":
		if err := haveKVM(); err != nil {
			return Finding{Missing, f.Name, err.Error(), `enable virtualization, or set accelerator = "auto"`}
		}
		return Finding{Level: OK, Name: f.Name, Text: "used because the configuration says so"}
	case "tcg":
		return Finding{Level: OK, Name: f.Name, Text: "not used because the configuration says so"}
	}
	proof, err := vm.NewProof(image.Kernel, image.Initramfs)
	if err != nil {
		return Finding{Level: Warning, Name: f.Name, Text: "not proven without QEMU"}
	}
	verdict, known := vm.KnownVerdict(proof)
	switch {
	case !known:
		f.Text, f.Remedy = "/dev/kvm opens, no guest has been booted with it", "vmruntime guest build, or start a container"
	case verdict.Accelerator != vm.KVM:
		f.Text = verdict.Reason
	default:
		return Finding{Level: OK, Name: f.Name, Text: verdict.Reason}
	}
	return f
}

// kvmDevice is a variable for the tests.
var kvmDevice = "/dev/kvm"

// haveKVM is for those who want no proof.
func haveKVM() error {
	device, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%s %s", kvmDevice, reason(err))
	}
	return device.Close()
}

// libraryDirs are where distributions put shared libraries.
var libraryDirs = []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"}

func checkLibvirt(uri string) Finding {
	f := Finding{Level: Missing, Name: "libvirt", Remedy: "apt install libvirt0 libvirt-daemon libvirt-daemon-driver-qemu"}
	library := firstMatch("libvirt.so.0.*")
	if library == "" {
		f.Text = "the library libvirt.so.0 is not installed"
		return f
	}
	if uri == vm.URISystem {
		if _, err := os.Stat("/run/libvirt/libvirt-sock"); err != nil {
			f.Text, f.Remedy = "libvirtd does not listen for "+uri, "start libvirtd"
			return f
		}
	} else if firstMatch("libvirt/connection-driver/libvirt_driver_qemu.so") == "" {
		f.Text = "its QEMU driver is not installed"
		return f
	}
	return Finding{Level: OK, Name: f.Name, Text: fmt.Sprintf("library %s, %s", libraryVersion(library), uri)}
}

// libraryVersion takes the version from the file's name: libvirt.so.0.9000.0 is
// that of 9.0.0.
func libraryVersion(path string) string {
	name := strings.TrimPrefix(filepath.Base(path), "libvirt.so.0.")
	number, micro, _ := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return name
	}
	return fmt.Sprintf("%d.%d.%s", n/1000, n%1000, micro)
}

func firstMatch(pattern string) string {
	for _, dir := range libraryDirs {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

func checkQEMU() Finding {
	f := Finding{Level: Missing, Name: "QEMU", Remedy: "apt install qemu-system-x86"}
	path, err := exec.LookPath(vm.QEMU)
	if err != nil {
		f.Text = vm.QEMU + " is not installed"
		return f
	}
	output, err := exec.Command(path, "--version").Output()
	if err != nil {
		f.Text = path + " does not run: " + err.Error()
		return f
	}
	first, _, _ := strings.Cut(string(output), "\n")
	return Finding{Level: OK, Name: f.Name, Text: first}
}

func checkExecutable(name, path string) Finding {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Finding{Missing, name, path + " " + reason(err), "make build, or make install"}
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return Finding{Missing, name, path + " is not executable", "make build, or make install"}
	}
	return Finding{Level: OK, Name: name, Text: path}
}

func checkGuest(image guest.Image, err error) Finding {
	if err != nil {
		return Finding{Level: Missing, Name: "guest", Text: err.Error()}
	}
	return Finding{Level: OK, Name: "guest", Text: fmt.Sprintf("kernel %s, %s", image.Release, image.Kernel)}
}

// checkModules looks for what mounts the share.
func checkModules(image guest.Image) Finding {
	f := Finding{Level: Missing, Name: "9p", Text: "the guest has no 9p module", Remedy: "vmruntime guest build with a kernel that has it"}
	for _, module := range []string{"9p", "9pnet_virtio"} {
		if !hasModule(image, module) {
			return f
		}
	}
	return Finding{Level: OK, Name: f.Name, Text: "the guest has 9p over virtio"}
}
