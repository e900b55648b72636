package runtime

import (
	"context"
	"fmt"
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// host looks at the machine we run on.
func (r Runtime) host(ctx context.Context) (Host, error) {
	image, err := guest.Open(r.Config.Guest)
	if err != nil {
		return Host{}, fmt.Errorf("guest: %w", err)
	}
	for _, program := range []struct{ key, path string }{{"emulator", r.Config.Emulator}, {"agent", r.Config.Agent}} {
		if f := checkExecutable(program.key, program.path); f.Level != OK {
			return Host{}, fmt.Errorf("%s: %s: correct the path in config.toml or, without one, %s", program.key, f.Text, f.Remedy)
		}
	}
	accelerator, err := r.accelerator(ctx, image)
	if err != nil {
		return Host{}, err
	}
	if r.Config.Transport == vm.Virtiofs {
		if err := checkVirtiofs(image); err != nil {
			return Host{}, fmt.Errorf("transport: %w", err)
		}
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Host{}, fmt.Errorf("sysinfo: %w", err)
	}
	return Host{
		Root:          r.Root,
		CPUs:          uint(goruntime.NumCPU()),
		Memory:        info.Totalram * uint64(info.Unit),
		Accelerator:   accelerator,
		Guest:         image,
		Firmware:      vm.FindFirmware(accelerator, r.Config.LibvirtURI),
		SystemdCgroup: r.SystemdCgroup,
	}, nil
}

// accelerator is KVM where the guest was proven to boot with it. The proof takes
// seconds once per boot of the host, unless the guest was built since.
func (r Runtime) accelerator(ctx context.Context, image guest.Image) (vm.Accelerator, error) {
	switch r.Config.Accelerator {
	case "kvm":
		if err := haveKVM(); err != nil {
			return "", fmt.Errorf(`accelerator is "kvm", and %w: set it to "auto"`, err)
		}
		return vm.KVM, nil
	case "tcg":
		return vm.TCG, nil
	}
	proof, err := vm.NewProof(image.Kernel, image.Initramfs)
	if err != nil {
		return "", err
	}
	verdict, err := vm.ProveKVM(ctx, proof)
	return verdict.Accelerator, err
}
