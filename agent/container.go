package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// state is how far a container is, in the order of its life.
type state int

const (
	creating state = iota
	created
	running
	stopped
)

// The texts are runc's: engines tell cases apart by them.
var (
	errNotRunning = errors.New("container not running")
	errRunning    = errors.New("cannot start an already running container")
	errStopped    = errors.New("cannot start a container that has stopped")
	errExists     = errors.New("container with given ID already exists")
)

// A container is one set of namespaces, a cgroup, an init and its execs.
type container struct {
	agent  *agent
	config *protocol.Container
	cgroup cgroup

	// setUp is closed when create has ended, with err.
	setUp chan struct{}
	err   error

	// updating lets one update at a time change the limits: what undoes one that took
	// too long comes after it.
	updating sync.Mutex

	// network lets one at a time change the container's network.
	network sync.Mutex
	// neighbours are those that were set last.
	neighbours []protocol.Neighbour

	mu    sync.Mutex
	state state
	init  *process
	// pinned are namespaces of init, see pin.
	pinned []*os.File
	// execs holds nil for a name whose process is being started.
	execs map[string]*process
}

// create sets a further container up.
func (a *agent) create(config *protocol.Container) error {
	c, err := a.add(config)
	if err != nil {
		return err
	}
	return c.create()
}

// add makes the container known. One that has stopped gives its name back.
func (a *agent) add(config *protocol.Container) (*container, error) {
	if err := checkConfig(config); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.containers[config.ID]; old != nil && !old.over() {
		return nil, errExists
	}
	c := &container{
		agent:  a,
		config: config,
		cgroup: newCgroup(a.cgroups, config.ID),
		setUp:  make(chan struct{}),
		execs:  map[string]*process{},
	}
	a.containers[config.ID] = c
	return c, nil
}

func checkConfig(config *protocol.Container) error {
	switch {
	case config.ID == "" || config.ID == "." || config.ID == ".." || strings.ContainsAny(config.ID, "/\x00"):
		return fmt.Errorf("container id %q is no file name", config.ID)
	case config.Spec == nil:
		return errors.New("the container has no spec")
	case config.Spec.Root == nil:
		return errors.New("root: it is missing")
	}
	return checkProcess(config.Spec.Process)
}

func checkProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return errors.New("process: it is missing")
	case len(p.Args) == 0 || p.Args[0] == "":
		return errors.New("process.args: it is empty")
	}
	return nil
}

func (c *container) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == stopped
}

// create brings init up to its execve.
func (c *container) create() error {
	defer close(c.setUp)
	if c.err = c.launchInit(); c.err != nil {
		c.ended()
		c.release()
	}
	return c.err
}

func (c *container) launchInit() error {
	if err := mountLayers(c.config); err != nil {
		return err
	}
	numbered, err := withDisks(c.config)
	if err != nil {
		return err
	}
	c.config = numbered
	flags, cgroupNS, err := cloneFlags(c.config.Spec)
	if err != nil {
		return err
	}
	config := *c.config
	config.Spec = c.cgroup.bound(c.config.Spec)
	spec := config.Spec
	if err := c.cgroup.create(spec.Linux); err != nil {
		return err
	}
	if err := c.cgroup.filterDevices(spec.Linux.Resources); err != nil {
		return err
	}
	if err := prepareDevices(spec.Linux.Devices, c.config.Disks); err != nil {
		return err
	}
	users := newUserMappings(spec)
	if err := users.delegate(c.cgroup, spec.Mounts); err != nil {
		return err
	}
	sources, err := openSources(spec)
	if err != nil {
		return err
	}
	defer sources.close()
	p, err := c.agent.spawn(launch{
		config: stageConfig{
			Container: config, Process: spec.Process, Personality: spec.Linux.Personality, CgroupNS: cgroupNS,
		},
		flags:  flags,
		users:  users,
		clocks: clockOffsets(spec),
		files:  sources.files,
		cgroup: c.cgroup,
		exited: c.ended,
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init, c.pinned = p, pin(p.pid)
	if c.state == creating {
		c.state = created
	}
	return nil
}

// ended is called when init has ended.
func (c *container) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = stopped
}

// release lets go of what was kept beyond the end of init, once the host knows of it.
func (c *container) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeAll(c.pinned)
	c.pinned = nil
	go c.cgroup.remove()
}

// start lets init run.
func (c *container) start() error {
	c.mu.Lock()
	state, init := c.state, c.init
	if state == created {
		c.state = running
	}
	c.mu.Unlock()
	switch state {
	case creating:
		return errors.New("the container is still being created")
	case running:
		return errRunning
	case stopped:
		return errStopped
	}
	return init.release()
}

// process gives init for an empty name, else the exec of that name.
func (c *container) process(name string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.execs[name]
	if name == "" {
		p = c.init
	}
	if p == nil {
		return nil, fmt.Errorf("process %q of container %q does not exist", name, c.config.ID)
	}
	return p, nil
}

// forget drops an exec whose end the host knows.
func (c *container) forget(name string) {
	if name != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.execs, name)
	}
}

// exec runs a further process in the container. It has been executed when exec
// returns.
func (c *container) exec(name string, spec *specs.Process) error {
	if err := checkProcess(spec); err != nil {
		return err
	}
	if err := c.reserve(name); err != nil {
		return err
	}
	p, err := c.launchExec(spec)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		delete(c.execs, name)
		return err
	}
	c.execs[name] = p
	return nil
}

// reserve takes a name while its process is being started.
func (c *container) reserve(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != created && c.state != running {
		return errNotRunning
	}
	if _, taken := c.execs[name]; taken || name == "" {
		return fmt.Errorf("exec: the process name %q is in use", name)
	}
	c.execs[name] = nil
	return nil
}

func (c *container) launchExec(spec *specs.Process) (*process, error) {
	config := stageConfig{
		Container: c.execConfig(), Process: inherit(spec, c.config.Spec.Process),
		Personality: c.config.Spec.Linux.Personality, Exec: true,
	}
	if p, err := c.launchRow(config); err == nil {
		return p, nil
	}
	joined, err := c.namespaces()
	if err != nil {
		return nil, err
	}
	defer joined.close()
	config.Join = joined.kinds
	return c.agent.spawn(launch{
		config: config,
		users:  newUserMappings(c.config.Spec),
		born:   joined.born,
		files:  joined.files,
		cgroup: c.execCgroup(),
		exited: func() {},
	})
}

// execConfig is the container without what an exec has no use for.
func (c *container) execConfig() protocol.Container {
	config := *c.config
	config.Spec = nil
	return config
}

// inherit completes an exec's process with what runc takes from the container's
// where it is not given.
func inherit(p, init *specs.Process) *specs.Process {
	q := *p
	if q.Capabilities == nil {
		q.Capabilities = init.Capabilities
	}
	if len(q.Rlimits) == 0 {
		q.Rlimits = init.Rlimits
	}
	if q.OOMScoreAdj == nil {
		q.OOMScoreAdj = init.OOMScoreAdj
	}
	if q.User.Umask == nil {
		q.User.Umask = init.User.Umask
	}
	if q.Scheduler == nil {
		q.Scheduler = init.Scheduler
	}
	if q.IOPriority == nil {
		q.IOPriority = init.IOPriority
	}
	if q.ExecCPUAffinity == nil {
		q.ExecCPUAffinity = init.ExecCPUAffinity
	}
	return &q
}

// signal sends a signal to one process.
func (c *container) signal(name string, signal unix.Signal) error {
	p, err := c.process(name)
	if err != nil {
		return err
	}
	err = c.agent.reaper.kill(p.pid, signal)
	if errors.Is(err, unix.ESRCH) {
		return errNotRunning
	}
	if err != nil {
		return fmt.Errorf("signal %d: %w", int(signal), err)
	}
	return nil
}

// signalAll sends a signal to every process of the container, also after the
// end of init where it had no pid namespace of its own.
func (c *container) signalAll(signal unix.Signal) error {
	pids, err := c.pids()
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return errNotRunning
	}
	if signal == unix.SIGKILL && c.cgroup.kill() == nil {
		return nil
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
		}
	}
	return nil
}

// pids lists the container's processes.
func (c *container) pids() ([]int, error) {
	if c.cgroup.path != "" {
		return c.cgroup.pids()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	for _, p := range append(slices.Collect(maps.Values(c.execs)), c.init) {
		if p != nil && !p.ended() {
			pids = append(pids, p.pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
