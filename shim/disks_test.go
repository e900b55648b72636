package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/vm"
)

// One machine writes to a file, any number read it; devices are the kernel's to guard.
func TestHoldDisks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reading := []vm.Disk{{Path: file, File: true, ReadOnly: true}, {Path: "/dev/missing"}}
	writing := []vm.Disk{{Path: file, File: true}}
	for _, disks := range [][]vm.Disk{reading, writing, reading} {
		if err := holdDisks(disks); err != nil {
			t.Fatal(err)
		}
	}
	if err := holdDisks(writing); err == nil || !strings.Contains(err.Error(), "root.path: a running container has this root file system") {
		t.Errorf("error of a second writer is %v", err)
	}
	if err := holdDisks([]vm.Disk{{Path: file + "x", File: true}}); err == nil {
		t.Error("a disk that is missing is held")
	}
}
