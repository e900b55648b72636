// Package agent is vmruntime inside the VM: it boots the guest as PID 1, sets
// containers up and does what the host asks for over the agent channel.
//
// One binary has these roles, told apart by [Main]: PID 1 of our own guest, the
// service of a stock guest's init that `vmagent serve FILE` starts (see service.go),
// and the short-lived stage that turns itself into a container's process (see stage.go).
package agent

import (
	"fmt"
	"os"
	"sync"

	"github.com/vmruntime/vmruntime/protocol"
)

// The words of the command lines in a stock guest.
const (
	serveWord   = "serve"
	serviceWord = "service"
)

// Main runs the role that the process was started for and returns its exit
// status. It must be called from the main goroutine, locked to its thread when
// [IsStage] says so.
func Main(build string) int {
	switch {
	case IsStage():
		return stageMain()
	case os.Getpid() == 1:
		boot(build)
		return 0
	case len(os.Args) == 3 && os.Args[1] == serveWord:
		return serve(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == serviceWord:
		return service(build, os.Args[2])
	}
	fmt.Fprintln(os.Stderr, "usage: vmagent serve CONTAINER.JSON (or as PID 1 of a guest)")
	return 2
}

// An agent knows the containers of this VM.
type agent struct {
	build  string
	reaper *reaper
	// self is what is executed to get a stage.
	self string
	// cgroupMount is the mount point of cgroup2, empty if there is none, and cgroups
	// where there the containers' are.
	cgroupMount, cgroups string
	// home is the agent's own pid namespace, nil where every exec takes a stage.
	home *os.File

	mu         sync.Mutex
	containers map[string]*container
	// preforked is a stage that waits for the first container, nil without.
	preforked *process

	// met is closed by greeted, at the host's first hello.
	met     chan struct{}
	greeted func()
	// seeded is closed when the first container is known, or seedErr.
	seeded  chan struct{}
	seedErr error
}

func newAgent(build string) *agent {
	met := make(chan struct{})
	return &agent{
		build:      build,
		met:        met,
		greeted:    sync.OnceFunc(func() { close(met) }),
		reaper:     newReaper(),
		self:       "/proc/self/exe",
		containers: map[string]*container{},
		seeded:     make(chan struct{}),
	}
}

// find returns the named container.
func (a *agent) find(id string) (*container, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %q does not exist in this VM", id)
}

// process returns the named process of the named container.
func (a *agent) process(t protocol.Target) (*process, error) {
	c, err := a.find(t.Container)
	if err != nil {
		return nil, err
	}
	return c.process(t.Process)
}
