package driver

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/vmruntime/vmruntime/vm"
)

// Users are told what to change, not what libvirt said.
func TestErrors(t *testing.T) {
	nobody := libvirt.Error{Domain: libvirt.FROM_RPC, Code: libvirt.ERR_SYSTEM_ERROR, Message: "Failed to connect socket: No such file or directory"}
	forbidden := libvirt.Error{Domain: libvirt.FROM_RPC, Code: libvirt.ERR_SYSTEM_ERROR, Message: "Failed to connect socket: Permission denied"}
	large := libvirt.Error{Domain: libvirt.FROM_QEMU, Code: libvirt.ERR_INTERNAL_ERROR, Message: "qemu: cannot set up guest memory 'pc.ram': Cannot allocate memory"}
	other := libvirt.Error{Message: "other"}
	for want, err := range map[string]error{
		`libvirt_uri: libvirtd does not listen for qemu:///system: start libvirtd, or set libvirt_uri to "qemu:///embed"`:                 connectError(vm.URISystem, nobody),
		"libvirt qemu:///system: " + forbidden.Error():                                                                                    connectError(vm.URISystem, forbidden),
		"libvirt qemu:///system: " + other.Error():                                                                                        connectError(vm.URISystem, other),
		"the host does not give the machine 512 MiB of memory: lower linux.resources.memory.limit or, without one, memory in config.toml": startError(vm.Config{Memory: 512 << 20}, large),
		"libvirt: start of domain c: " + other.Error():                                                                                    startError(vm.Config{Name: "c"}, other),
	} {
		if err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// A zombie would still take a signal.
func TestReap(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	stop := reap(pidFile)
	defer stop()
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !errors.Is(unix.Kill(child.Process.Pid, 0), unix.ESRCH); {
		if time.Now().After(end) {
			t.Fatal("it is still there")
		}
		time.Sleep(time.Millisecond)
	}
}
