// Package shim is the process that stands for a container on the host. Its pid
// is the container's pid, its exit status the container's; it owns the VM, the
// stdio and the control socket, and everything of it ends with it.
package shim

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
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
	// Cgroup is the host's for shim and machine, Resources the container's limits,
	// which hold there with what the machine needs beside them.
	Cgroup    cgroup.Place          `json:"cgroup"`
	Resources *specs.LinuxResources `json:"resources,omitempty"`
	// Netns is the path of the network namespace to join; empty means a new one.
	Netns string `json:"netns,omitempty"`
}

// hooksFirst tells that hooks of the host must have ended when the guest sets the
// container up, as it has hooks that come after those.
func (p Plan) hooksFirst() bool {
	hooks := p.Container.Spec.Hooks
	return hooks != nil && len(hooks.CreateContainer) > 0
}

// helloTimeout is how long the agent may take to answer for the first time.
func (p Plan) helloTimeout() time.Duration {
	if p.Machine.Boot != nil {
		return imageTimeout
	}
	return answerTimeout
}

// TapName names the tap of a NIC of the machine whose directory is dir. Taps of a
// libvirtd's machines are all made in one network namespace.
func TapName(dir string, nic int) string {
	// An interface's name has at most 15 characters.
	return fmt.Sprintf("vmr%.10s%d", filepath.Base(dir), nic)
}

// controlSocket is where the shim whose directory is dir answers clients.
func controlSocket(dir string) string { return filepath.Join(dir, "shim.sock") }
