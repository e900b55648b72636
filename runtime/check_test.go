package runtime

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/vm/guest"
)

// A configuration that insists on KVM does not make it be there.
func TestCheckKVM(t *testing.T) {
	defer func(device string) { kvmDevice = device }(kvmDevice)
	r := Runtime{Config: Config{Accelerator: "kvm"}}
	kvmDevice = "/dev/null"
	if f := r.checkKVM(guest.Image{}); f.Level != OK {
		t.Error(f)
	}
	kvmDevice = filepath.Join(t.TempDir(), "kvm")
	f := r.checkKVM(guest.Image{})
	if f.Level != Missing || !strings.Contains(f.String(), kvmDevice+" does not exist on the host (remedy: ") {
		t.Error(f)
	}
}
