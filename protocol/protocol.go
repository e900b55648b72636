// Package protocol is what the host's shim and the guest's agent say to each
// other, and where they find each other.
//
// One virtio-serial port named [PortName] carries one yamux session for the
// life of the VM. The host is the yamux client and the only side that opens
// streams. Each stream begins with one [Request] of the host and one
// [Response] of the guest, both framed by [WriteMessage]; a Stdio stream then
// goes on as raw bytes in one direction, every other stream ends there.
//
// The first container comes with the seed; [Request.Create] brings further
// ones into the same VM. Every request that concerns a container names it.
package protocol

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Version is raised with every change that an older peer would misread. Shim
// and agent refuse to talk when theirs differ.
const Version = 1

const (
	// PortName is the virtio-serial port of the agent channel, found in the
	// guest by /sys/class/virtio-ports/*/name.
	PortName = "org.vmruntime.agent.0"
	// ShareTag is the 9p mount tag of the VM's one shared directory.
	ShareTag = "vmruntime"
	// ShareDir is where the guest mounts the share. Specs that cross into the
	// guest name their root and their bind sources below it.
	ShareDir = "/run/vmruntime/share"
	// ContainerFile is where the seed's write_files puts the first container,
	// a JSON [Container].
	ContainerFile = "/run/vmruntime/container.json"
	// AgentFile is the agent's name below the share, for guests that do not
	// have it as PID 1.
	AgentFile = "vmagent"
	// ProbeWord on the guest kernel's command line has the agent power the guest
	// off as soon as its modules are loaded: the proof that it boots.
	ProbeWord = "vmruntime.probe"
	// ColdWord there says that the machine boots for one container and no template: the
	// agent does nothing for others in advance, and loads the NICs' driver with the
	// first interface.
	ColdWord = "vmruntime.cold"
	// SeedLabel is the volume label of a NoCloud seed.
	SeedLabel = "cidata"
)

// Container is everything that the guest needs to set up one container.
type Container struct {
	// ID is the container's name in every later request.
	ID string `json:"id"`
	// Bundle is a directory of the host, which hooks are told.
	Bundle string `json:"bundle,omitempty"`
	// Spec is the bundle's config.json, its root.path and the sources of its
	// bind mounts rewritten to paths below [ShareDir].
	Spec *specs.Spec `json:"spec"`
	// Disks are block devices of the host, in the order of [DiskSerial].
	Disks []Disk `json:"disks,omitempty"`
	// Layers are what the root is made of where it is not on the share. The root is
	// then at [LayeredRoot].
	Layers *Layers `json:"layers,omitempty"`
	// Seccomp is the compiled filter: an array of struct sock_filter
	// (8 bytes each, host byte order), empty for none.
	Seccomp []byte `json:"seccomp,omitempty"`
	// SeccompFlags are SECCOMP_FILTER_FLAG_* of seccomp(2).
	SeccompFlags uint `json:"seccompFlags,omitempty"`
}

// Disk is a block device that the container has at Path, which is one of its
// linux.devices. Its numbers are the guest's to choose.
type Disk struct {
	Path string `json:"path"`
	// Access is what the container may do with it: of the letters r, w and m.
	Access string `json:"access"`
}

// DiskSerial is the serial number of the VM's i-th disk, by which the guest finds it.
func DiskSerial(i int) string { return fmt.Sprintf("vmruntime-disk-%d", i) }

// Request is one call of the host. Exactly one field is set.
type Request struct {
	Hello     *Hello     `json:"hello,omitempty"`
	Create    *Container `json:"create,omitempty"`
	Created   *Target    `json:"created,omitempty"`
	Start     *Target    `json:"start,omitempty"`
	Exec      *Exec      `json:"exec,omitempty"`
	Wait      *Target    `json:"wait,omitempty"`
	Signal    *Signal    `json:"signal,omitempty"`
	Resize    *Resize    `json:"resize,omitempty"`
	Stdio     *Stdio     `json:"stdio,omitempty"`
	Processes *Target    `json:"processes,omitempty"`
	Network   *Network   `json:"network,omitempty"`
	Update    *Update    `json:"update,omitempty"`
	Stats     *Target    `json:"stats,omitempty"`
	OOM       *OOM       `json:"oom,omitempty"`
	Resolver  *Target    `json:"resolver,omitempty"`
}

// Response answers a Request. Error is set or the field of the request's name.
type Response struct {
	Error     string `json:"error,omitempty"`
	Hello     *Hello `json:"hello,omitempty"`
	Exit      *Exit  `json:"exit,omitempty"`
	Processes []int  `json:"processes,omitempty"`
	// Stats answers OOM as well, with nothing but the count.
	Stats *Stats `json:"stats,omitempty"`
}

// Hello opens the conversation; each side tells what it is. The guest does nothing
// for its first container before.
type Hello struct {
	Version int    `json:"version"`
	Build   string `json:"build"`
	// Kernel is the guest's `uname -r`, empty from the host.
	Kernel string `json:"kernel,omitempty"`
	// Time is the host's clock in nanoseconds since the epoch, 0 from the guest
	// or where the guest's clock is to stay.
	Time int64 `json:"time,omitempty"`
	// Entropy is EntropySize random bytes in the first hello of the host: a
	// machine that was cloned shares the state of its generator with others.
	Entropy []byte `json:"entropy,omitempty"`
}

// EntropySize is how many random bytes seed a generator, as many as its key has.
const EntropySize = 32

// Target names a process: the container's init where Process is empty, else
// the exec of that name.
//
// As a request, Created waits until the container of the seed is set up up to
// its execve and tells the error if that failed; Start lets init run; Wait
// answers once the process has ended and its output is handed over; Stats tells
// what the guest's cgroup says; Processes lists the container's pids as the guest counts them.
type Target struct {
	Container string `json:"container"`
	Process   string `json:"process,omitempty"`
}

// Exec starts a further process in a running container. Stdio streams of it
// may be opened as soon as the call has been answered.
type Exec struct {
	Target
	Spec *specs.Process `json:"spec"`
}

// Signal is sent to one process, or with All to every process of the container.
type Signal struct {
	Target
	Signal int  `json:"signal"`
	All    bool `json:"all,omitempty"`
}

// Update changes the limits of a container: those that Resources has.
type Update struct {
	Container string                `json:"container"`
	Resources *specs.LinuxResources `json:"resources"`
}

// Resize sets the window size of a process that has a terminal, in characters.
type Resize struct {
	Target
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Stdio turns its stream into a process's stdin (FD 0, host to guest), stdout
// (1) or stderr (2, both guest to host). With a terminal 0 and 1 are its two
// directions and 2 does not exist. Closing the stream is end of file.
type Stdio struct {
	Target
	FD int `json:"fd"`
}

// Exit is how a process ended: its exit code, or 128 plus the signal that
// killed it.
type Exit struct {
	Code int `json:"code"`
	// OOM says that the container's init was killed, and processes of the container
	// for want of memory.
	OOM bool `json:"oom,omitempty"`
}

// Check compares a peer's Hello with ours.
func (h Hello) Check(peer string) error {
	if h.Version != Version {
		return fmt.Errorf("%s %s speaks protocol %d, this is %d: build them together (make build guest)", peer, h.Build, h.Version, Version)
	}
	return nil
}
