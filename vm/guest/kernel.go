package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernel is one kernel release on disk.
type kernel struct {
	release string
	image   string // vmlinuz
	modules string // lib/modules/RELEASE
}

// findKernel finds the kernel that options name; packages are unpacked into
// the new directory scratch.
func findKernel(ctx context.Context, options Options, scratch string) (kernel, error) {
	if len(options.Kernels) == 0 {
		return kernel{}, errors.New("no kernel is given")
	}
	if filepath.Ext(options.Kernels[0]) != ".deb" {
		return pairedKernel(options)
	}
	if options.Modules != "" {
		return kernel{}, errors.New("modules are taken from the package, not from " + options.Modules)
	}
	for _, path := range options.Kernels {
		fmt.Fprintf(options.Progress, "unpacking %s\n", filepath.Base(path))
		if err := unpack(ctx, path, scratch); err != nil {
			return kernel{}, err
		}
	}
	return packagedKernel(scratch)
}

// HostKernel is the kernel that this machine runs, if its files are where
// distributions put them.
func HostKernel() (image, modules string, err error) {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", "", err
	}
	name := strings.TrimSpace(string(release))
	image, modules = "/boot/vmlinuz-"+name, "/lib/modules/"+name
	for _, path := range []string{image, modules} {
		if _, err := os.Stat(path); err != nil {
			return "", "", fmt.Errorf("the host's own kernel cannot be the guest's: %w (remedy: --kernel with a linux-image package)", err)
		}
	}
	return image, modules, nil
}

func pairedKernel(options Options) (kernel, error) {
	if len(options.Kernels) > 1 || options.Modules == "" {
		return kernel{}, fmt.Errorf("%s is not a .deb package: give one vmlinuz and its modules directory", options.Kernels[0])
	}
	modules, err := filepath.Abs(options.Modules)
	if err != nil {
		return kernel{}, err
	}
	return kernel{release: filepath.Base(modules), image: options.Kernels[0], modules: modules}, nil
}

func unpack(ctx context.Context, path, dir string) error {
	output, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", path, dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("unpack %s: %w: %s", path, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// packagedKernel finds the one kernel below the root of unpacked packages.
func packagedKernel(root string) (kernel, error) {
	image, err := one(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return kernel{}, err
	}
	release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	modules, err := one(filepath.Join(root, "lib", "modules", release), filepath.Join(root, "usr", "lib", "modules", release))
	if err != nil {
		return kernel{}, err
	}
	return kernel{release: release, image: image, modules: modules}, nil
}

// one gives the only path that matches.
func one(patterns ...string) (string, error) {
	var found []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, paths...)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("packages hold %d of %s where one is needed; Ubuntu's linux-image goes with its linux-modules", len(found), filepath.Base(patterns[0]))
	}
	return found[0], nil
}
