package runtime

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// shares are the files and directories of the host that a container sees.
type shares struct {
	rootfs vm.Share
	// layered says that the guest does not see the root file system here.
	layered bool
	// mounts are the sources of the bind mounts, by their index in Spec.Mounts.
	mounts map[int]vm.Share
	agent  vm.Share
}

// newShares lays the shares out: name is the container's own in the VM's shared
// directory, which may hold several containers. There are no directories in between:
// QEMU opens each of them twice for each question of the guest's.
func newShares(b Bundle, c Config, name string) shares {
	s := shares{
		// Mount points that the image lacks are made in it: it is read-only
		// for the container at most.
		rootfs:  vm.Share{Source: b.Rootfs, Target: name + ".rootfs", Recursive: true},
		layered: b.Layers.Lower != "",
		mounts:  map[int]vm.Share{},
		agent:   vm.Share{Source: c.Agent, Target: protocol.AgentFile, ReadOnly: true},
	}
	for i, source := range b.Sources {
		m := b.Spec.Mounts[i]
		s.mounts[i] = vm.Share{
			Source:    source,
			Target:    fmt.Sprintf("%s.%d", name, i),
			ReadOnly:  readOnly(m),
			Recursive: slices.Contains(m.Options, "rbind"),
		}
	}
	return s
}

// list is in the order of the mounts.
func (s shares) list() []vm.Share {
	var list []vm.Share
	if !s.layered {
		list = append(list, s.rootfs)
	}
	for _, i := range slices.Sorted(maps.Keys(s.mounts)) {
		list = append(list, s.mounts[i])
	}
	return append(list, s.agent)
}

// inside is the path of a share in the guest.
func inside(s vm.Share) string { return path.Join(protocol.ShareDir, s.Target) }

// readOnly tells what the last of the options that are about it says.
func readOnly(m specs.Mount) bool {
	for _, o := range slices.Backward(m.Options) {
		switch o {
		case "ro", "rro":
			return true
		case "rw", "rrw":
			return false
		}
	}
	return false
}
