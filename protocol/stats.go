package protocol

// Stats is what the guest's cgroup2 says of a container
// (https://docs.kernel.org/admin-guide/cgroup-v2.html). A limit that is not there
// is the largest number.
type Stats struct {
	Memory Memory `json:"memory"`
	Pids   Pids   `json:"pids"`
	// CPU has the container's own time in microseconds, as in cpu.stat.
	CPU map[string]uint64 `json:"cpu,omitempty"`
	// OOMKills is how many processes were killed for want of memory.
	OOMKills uint64 `json:"oomKills,omitempty"`
}

// Memory is in bytes. Stat is memory.stat.
type Memory struct {
	Usage     uint64            `json:"usage"`
	Peak      uint64            `json:"peak"`
	Limit     uint64            `json:"limit"`
	Swap      uint64            `json:"swap"`
	SwapLimit uint64            `json:"swapLimit"`
	Stat      map[string]uint64 `json:"stat,omitempty"`
}

// Pids counts processes and threads.
type Pids struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit"`
}

// OOM asks how many processes of a container were killed for want of memory. It is
// answered once there are more than Seen, or when the container has ended or a while
// has gone by.
type OOM struct {
	Container string `json:"container"`
	Seen      uint64 `json:"seen"`
}
