package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesDir holds the initramfs's modules and three files, each of which names one
// of them per line, dependencies first: "order" those that load at boot,
// "on-demand" those that the seed, or a container's device, has to ask for, "layers"
// those for a root on disks.
const modulesDir = "/modules"

// nicModules are those of the NICs, dependencies first.
var nicModules = []string{"failover.ko", "net_failover.ko", "virtio_net.ko"}

// loadModules loads the modules that a list names, but for some, and frees their
// memory.
func loadModules(list string, late ...string) error {
	order, err := os.ReadFile(filepath.Join(modulesDir, list))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kernel modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(order)) {
		if slices.Contains(late, name) {
			continue
		}
		if err := loadNamed(name); err != nil {
			return err
		}
	}
	return nil
}

// loadNICs loads what loadModules has left out.
func loadNICs() error {
	for _, name := range nicModules {
		if err := loadNamed(name); err != nil {
			return err
		}
	}
	return nil
}

func loadNamed(name string) error {
	path := filepath.Join(modulesDir, filepath.Base(name))
	if err := loadModule(path); err != nil {
		return fmt.Errorf("kernel module %s: %w", name, err)
	}
	_ = os.Remove(path)
	return nil
}

// loadModule loads one. A module that is missing, built in or already there is none
// to worry about: what needs it will say so.
func loadModule(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
