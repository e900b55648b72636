// Package shim is the process that stands for a container on the host. Its pid
// is the container's pid, its exit status the container's; it owns the VM, the
// stdio and the control socket, and everything of it ends with it.
package shim

import (
	"fmt"
	"path/filepath"

	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// Plan is all that a shim needs to run one container: plain data, made by
// runtime.Translate without touching the machine.
type Plan struct {
	ID string `json:"id"`
	// Dir is the shim's private directory on a tmpfs; Clean removes it.
	Dir string `json:"dir"`
	// URI is the libvirt driver: URIEmbed or URISystem.
	URI     string    `json:"uri"`
	Machine vm.Config `json:"machine"`
	// Template is the directory of the template whose clone the machine may be;
	// empty means that it boots.
	Template string `json:"template,omitempty"`
	// Rootfs is the container's root on the host, where the leader thread of
	// the shim is parked.
	Rootfs string `json:"rootfs"`
	// Shares are bind-mounted below Machine.Share, in this order.
	Shares    []vm.Share         `json:"shares"`
	Container protocol.Container `json:"container"`
	// Netns is the path of the network namespace to join; empty means a new one.
	Netns string `json:"netns,omitempty"`
}

// TapName names the tap of a NIC in a namespace that is a VM's alone.
func TapName(nic int) string { return fmt.Sprintf("vmr%d", nic) }

// controlSocket is where the shim whose directory is dir answers clients.
func controlSocket(dir string) string { return filepath.Join(dir, "shim.sock") }
