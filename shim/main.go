package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/network"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// Main is a shim. It must be called from the goroutine that is locked to the
// process's first thread, and never returns: that thread becomes the leader,
// parked where /proc/<pid>/ns and /proc/<pid>/root show the container's.
func Main(build string, d Driver) {
	p, err := openParent()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime:", err)
		os.Exit(failureCode)
	}
	stdio, err := takeStdio()
	if err != nil {
		p.tell(err)
		os.Exit(failureCode)
	}
	lead := make(leader)
	go func() { os.Exit(run(build, d, p, stdio, lead)) }()
	lead.park()
}

// settled is how long after create a container has been started and runs. Nothing
// depends on it but when the host has memory back.
const settled = 5 * time.Second

// run does the shim's work and returns the container's exit status.
func run(build string, d Driver, p parent, stdio Stdio, lead leader) int {
	var plan Plan
	if err := p.plan(&plan); err != nil {
		p.tell(fmt.Errorf("what the shim was told: %w", err))
		return failureCode
	}
	log := filepath.Join(plan.Dir, "shim.log")
	logTo(log)
	stdio.Terminal = plan.Container.Spec.Process.Terminal
	p.follow()
	// Signals that reach the shim are meant for the container.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)

	ctx, recorder := trace.With(context.Background(), "shim")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go boundLog(log, ctx.Done())
	c, start, err := create(ctx, build, d, plan, stdio, lead)
	if err != nil {
		p.tell(err)
		return failureCode
	}
	c.watch(ctx)
	go c.forward(ctx, signals)
	p.report(outcome{Start: start, Phases: recorder.Phases()})
	time.AfterFunc(settled, d.Trim)
	code := <-c.exit
	c.execs.dismiss()
	return code
}

// create boots the machine and waits until the container is set up in it.
func create(ctx context.Context, build string, d Driver, plan Plan, stdio Stdio, lead leader) (*container, Start, error) {
	views, err := prepare(ctx, plan, lead)
	if err != nil {
		return nil, Start{}, err
	}
	control, err := listen(controlSocket(plan.Dir))
	if err != nil {
		return nil, Start{}, fmt.Errorf("control socket: %w", err)
	}
	b, err := boot(ctx, d, plan)
	if err != nil {
		return nil, Start{}, err
	}
	c, err := meet(ctx, build, plan, stdio, b)
	if err != nil {
		return nil, Start{}, b.machine.explain(err)
	}
	lead.show(views)
	go c.serve(ctx, control)
	return c, b.start, nil
}

// prepare mounts the shares, parks the leader in the container's root and
// writes the seed.
func prepare(ctx context.Context, plan Plan, lead leader) (views []view, err error) {
	defer trace.Begin(ctx, "mount the shares, write the seed")()
	if err := holdDisks(plan.Machine.Disks); err != nil {
		return nil, err
	}
	if err := occupyNetns(plan); err != nil {
		return nil, err
	}
	if plan.URI == vm.URIEmbed {
		// Mounts of the host come in, ours do not get out.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return nil, os.NewSyscallError("make / a slave", err)
		}
	}
	if err := os.MkdirAll(plan.Machine.Share, 0o755); err != nil {
		return nil, err
	}
	if err := vm.Mount(plan.Machine.Share, plan.Shares); err != nil {
		return nil, err
	}
	if views, err = lead.enter(plan); err != nil {
		return nil, err
	}
	if boot := plan.Machine.Boot; boot != nil {
		if err := vm.MakeOverlay(ctx, *boot); err != nil {
			return nil, err
		}
	}
	if plan.URI == vm.URIEmbed {
		hidePrograms()
	}
	if plan.Machine.TapsMade {
		if err := network.MakeTaps(plan.Machine.Taps); err != nil {
			return nil, err
		}
	}
	return views, vm.WriteSeed(plan.Machine.Seed, vm.Seed{InstanceID: plan.Machine.UUID, Container: plan.Container, Transport: plan.Machine.Transport})
}

// hidePrograms keeps libvirt's embedded driver from running programs while it starts a
// domain: dmidecode, for what no domain of ours asks, and tc, for the queue of each tap,
// which network.Namespace sees to. Together they take 60 ms. It takes a device for no
// program. The mount namespace is the shim's own, and shares and the leader's root are
// there already: they must not have it. Where it fails, a start takes longer.
func hidePrograms() {
	for _, path := range []string{"/usr/sbin/dmidecode", "/usr/sbin/tc"} {
		_ = unix.Mount(os.DevNull, path, "", unix.MS_BIND, "")
	}
}

// meet waits for the agent and has it set up the container.
func meet(ctx context.Context, build string, plan Plan, stdio Stdio, b booted) (*container, error) {
	g, err := newGuest(b.conn)
	if err != nil {
		return nil, err
	}
	hello, cancel := context.WithTimeout(ctx, plan.helloTimeout())
	defer cancel()
	if err := g.greet(hello, build, b.start.Template != ""); err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	defer trace.Begin(ctx, "set up the container")()
	init := protocol.Target{Container: plan.ID}
	if _, err := g.call(ctx, protocol.Request{Created: &init}); err != nil {
		return nil, err
	}
	streams, err := attach(context.WithoutCancel(ctx), g, init, stdio)
	if err != nil {
		return nil, err
	}
	c := newContainer(plan, build, g, b.machine, streams)
	if c.cgroup, err = cgroup.Open(cgroupFile(plan.Dir)); err != nil {
		return nil, err
	}
	if stdio.Terminal {
		c.resizeTo(ctx, stdio.In)
	}
	return c, nil
}

// explain adds what the guest said last to the error of a machine that ended by
// itself, whose channel may end a moment before it does, or never answered.
func (m *machine) explain(err error) error {
	if errors.Is(err, errSilent) {
		return fmt.Errorf("%w; its console: %q", err, m.console.String())
	}
	select {
	case <-m.gone:
	case <-time.After(failGrace):
		return err
	}
	return fmt.Errorf("the machine ended while it booted: %w; its console: %q", err, m.console.String())
}

// forward passes signals on to the container's init.
func (c *container) forward(ctx context.Context, signals <-chan os.Signal) {
	terminal := c.plan.Container.Spec.Process.Terminal
	for s := range signals {
		number, ok := s.(syscall.Signal)
		switch {
		case !ok || ownSignal(number):
		case number == syscall.SIGWINCH && terminal:
			c.resizeTo(ctx, c.io.files.In)
		case number == syscall.SIGHUP && terminal:
			// The input ends as well, which hangs up the terminal inside.
		default:
			_ = c.signal(ctx, protocol.Signal{Target: c.init(), Signal: int(number)})
		}
	}
}

// resizeTo gives the terminal inside the size of ours.
func (c *container) resizeTo(ctx context.Context, tty *os.File) {
	if size, ok := windowSize(tty); ok {
		_ = c.resize(ctx, c.init(), size.Rows, size.Cols)
	}
}

// takeStdio moves the container's descriptors out of the way: a stray write of
// a library must not end up in its output.
func takeStdio() (Stdio, error) {
	var files [3]*os.File
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		fd, err := unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			return Stdio{}, fmt.Errorf("%s: %w", name, err)
		}
		files[i] = os.NewFile(uintptr(fd), name)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Stdio{}, err
	}
	defer null.Close()
	for i := range files {
		if err := unix.Dup2(int(null.Fd()), i); err != nil {
			return Stdio{}, os.NewSyscallError("dup2", err)
		}
	}
	return Stdio{In: files[0], Out: files[1], Err: files[2]}, nil
}

// logTo keeps what the shim has to say, panics included, for who looks into the
// container's directory.
func logTo(path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Dup2(int(f.Fd()), 2)
}
