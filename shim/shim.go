package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
)

const (
	// killTimeout is how long the guest has to end a process after SIGKILL.
	// Engines allow ten seconds, podman five.
	killTimeout = 3 * time.Second
	// failureCode is the exit status for a container whose machine ended before
	// its process did.
	failureCode = 255
)

var (
	errStarted = errors.New("cannot start an already running container")
	errPaused  = errors.New("cannot exec in a paused container (use --ignore-paused to override)")
)

// A container is what the shim holds of the one it stands for, once it is
// created.
type container struct {
	plan    Plan
	build   string
	guest   *guest
	machine *machine
	io      *processIO
	network *mirror
	cgroup  *cgroup.Group

	// turn lets one of start, pause and resume at the machine. It is held while
	// the guest or QEMU answers, mu never is.
	turn   sync.Mutex
	mu     sync.Mutex
	status specs.ContainerState
	paused bool
	execs  execs
	// exit takes the exit status; only the first one counts.
	exit chan int
	// ended is how the container's process has ended, and killed that somebody
	// wanted it to.
	ended  *protocol.Exit
	killed bool
}

func newContainer(p Plan, build string, g *guest, m *machine, io *processIO) *container {
	return &container{
		plan: p, build: build, guest: g, machine: m, io: io,
		network: newMirror(g, p.ID, p.Machine.Taps),
		status:  specs.StateCreated, exit: make(chan int, 1),
	}
}

// finish publishes an exit status, if none has been.
func (c *container) finish(code int) {
	select {
	case c.exit <- code:
	default:
	}
}

// watch waits for what ends the container: its process, its machine, or the
// channel to it. The way to the exit status never waits for teardown.
func (c *container) watch(ctx context.Context) {
	if err := c.machine.Follow(func() { c.look(ctx) }); err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime shim: that others pause the machine goes unnoticed:", err)
	}
	go func() {
		exit, err := c.guest.wait(ctx, c.init())
		if err != nil {
			c.fail(fmt.Errorf("the machine ended before its process: %w", err))
			return
		}
		c.end(exit)
		// A reader that does not read gets its data as long as nobody kills
		// the container.
		<-c.io.delivered()
		if c.lostToOOM() {
			// The machine ends with it, and the execs before that.
			c.execs.dismiss()
			c.tellOOM()
		}
		c.finish(exit.Code)
	}()
	go func() {
		select {
		case <-c.machine.gone:
			c.fail(errors.New("QEMU ended before the container's process"))
		case <-c.guest.gone():
			c.fail(c.guest.failure(errors.New("closed by the guest")))
		}
	}()
}

// fail ends the container with what its guest did wrong. An exit that is being
// delivered meanwhile comes first.
func (c *container) fail(err error) {
	select {
	case <-time.After(failGrace):
	case <-c.machine.gone:
	}
	if c.over() {
		// The machine has nothing to say about that any more.
		return
	}
	fmt.Fprintln(os.Stderr, "vmruntime shim:", err)
	if tail := c.machine.console.String(); tail != "" {
		fmt.Fprintln(os.Stderr, "the guest's console:\n"+tail)
	}
	if c.cgroup.OOMKills() > 0 {
		// The host's kernel has killed QEMU, and has told the engine why.
		c.finish(128 + int(unix.SIGKILL))
		return
	}
	c.finish(failureCode)
}

// end records how the container's process has ended: whatever becomes of the
// machine from now on, that is the container's exit.
func (c *container) end(exit protocol.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = &exit
}

func (c *container) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended != nil
}

// lostToOOM tells that the guest's OOM killer has ended the container. Where
// somebody has killed it nobody waits for such news.
func (c *container) lostToOOM() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended != nil && c.ended.OOM && !c.killed
}

func (c *container) init() protocol.Target { return protocol.Target{Container: c.plan.ID} }

func (c *container) state() specs.ContainerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused {
		return StatePaused
	}
	return c.status
}

func (c *container) start(ctx context.Context) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	switch c.state() {
	case specs.StateCreated:
	case StatePaused:
		return errors.New("cannot start a paused container")
	default:
		return errStarted
	}
	if err := c.network.follow(ctx); err != nil {
		return err
	}
	if err := c.plan.insist(c.cgroup.Limit(cpuOnly(c.plan.Resources), false)); err != nil {
		return err
	}
	target := c.init()
	if _, err := c.guest.ask(ctx, protocol.Request{Start: &target}); err != nil {
		return err
	}
	c.setRunning()
	c.io.feed()
	return nil
}

func (c *container) pause() error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.state() == StatePaused {
		return ErrNotRunning
	}
	if err := c.machine.Pause(); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	c.setPaused(true)
	return nil
}

func (c *container) resume(ctx context.Context) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.state() != StatePaused {
		return ErrNotPaused
	}
	if err := c.machine.Resume(); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	c.resumed(ctx)
	return nil
}

func (c *container) resumed(ctx context.Context) {
	c.setPaused(false)
	// The guest's clock stood still. Whether it answers is its own affair.
	go func() { _ = c.guest.setTime(ctx, c.build) }()
}

// look takes note of what others have done to the machine, such as virsh suspend: one
// that stands still answers nobody.
func (c *container) look(ctx context.Context) {
	c.turn.Lock()
	defer c.turn.Unlock()
	paused, err := c.machine.Paused()
	switch was := c.state() == StatePaused; {
	case err != nil || paused == was:
	case paused:
		c.setPaused(true)
	default:
		c.resumed(ctx)
	}
}

func (c *container) setRunning() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = specs.StateRunning
}

func (c *container) setPaused(paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = paused
}

// signal returns once the guest has accepted the signal. A paused machine gets
// it when it goes on.
func (c *container) signal(ctx context.Context, s protocol.Signal) error {
	if unix.Signal(s.Signal) == unix.SIGKILL && s.Process == "" {
		return c.killInit(ctx, s)
	}
	if c.state() == StatePaused {
		go func() { _, _ = c.guest.call(ctx, protocol.Request{Signal: &s}) }()
		return nil
	}
	_, err := c.guest.ask(ctx, protocol.Request{Signal: &s})
	return err
}

// killInit needs nobody's consent: what the guest has not done in time is done
// to the machine. It waits for the guest's word, but not until that moment: the
// caller has an answer before the shim is gone.
func (c *container) killInit(ctx context.Context, s protocol.Signal) error {
	c.mu.Lock()
	c.killed = true
	c.mu.Unlock()
	if c.state() == StatePaused {
		c.finish(128 + s.Signal)
		return nil
	}
	time.AfterFunc(killTimeout, func() { c.finish(128 + s.Signal) })
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		_, _ = c.guest.ask(ctx, protocol.Request{Signal: &s})
	}()
	select {
	case <-accepted:
	case <-time.After(killTimeout / 2):
	}
	return nil
}

func (c *container) resize(ctx context.Context, t protocol.Target, rows, cols uint16) error {
	_, err := c.guest.ask(ctx, protocol.Request{Resize: &protocol.Resize{Target: t, Rows: rows, Cols: cols}})
	return err
}
