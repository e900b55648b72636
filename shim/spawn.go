package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/vm"
)

// The words that come first on the command lines of a shim (vmruntime-shim) and
// a proxy (vmruntime), behind them the directory of the container: by these
// they are told from other processes.
const (
	ShimWord  = "run"
	ProxyWord = "proxy"
)

// TemplateWord is the first on the command line of a template's builder
// (vmruntime-shim).
const TemplateWord = "template"

// Stdio are the descriptors that a process of the container reads and writes.
// With Terminal all three are the slave of one pty in raw mode, which becomes
// the controlling terminal of the shim or proxy.
type Stdio struct {
	In, Out, Err *os.File
	Terminal     bool
}

// outcome is what such a child tells its parent once: an empty error when
// all went well.
type outcome struct {
	Error string `json:"error,omitempty"`
	// Start and Phases are a shim's.
	Start  Start         `json:"start,omitzero"`
	Phases []trace.Phase `json:"phases,omitempty"`
}

// Spawn starts a shim, the program exe, for the plan. It returns the process once
// the VM runs and the container is created in it. The process is the caller's
// child: wait for it, or exit and let its pid be reaped by who adopts it. While
// the VM boots, inside is called with the shim's pid, which is in the container's
// network namespace; its context ends when the boot fails or somebody kills the
// shim. On any error nothing is left.
func Spawn(ctx context.Context, exe string, plan Plan, stdio Stdio, inside func(ctx context.Context, pid int) error) (*os.Process, Start, error) {
	if err := os.MkdirAll(plan.Dir, 0o700); err != nil {
		return nil, Start{}, fmt.Errorf("directory of container %s: %w", plan.ID, err)
	}
	process, start, err := spawnShim(ctx, exe, plan, stdio, inside)
	if err != nil {
		return nil, Start{}, errors.Join(err, Clean(context.WithoutCancel(ctx), plan.Machine.Metadata.Root, plan.ID))
	}
	return process, start, nil
}

func spawnShim(ctx context.Context, exe string, plan Plan, stdio Stdio, inside func(ctx context.Context, pid int) error) (*os.Process, Start, error) {
	attr := &syscall.SysProcAttr{Setsid: true, Setctty: stdio.Terminal}
	if plan.URI == vm.URIEmbed {
		// QEMU shares the namespace in which the shares are mounted.
		attr.Cloneflags |= syscall.CLONE_NEWNS
	}
	if plan.Netns == "" {
		attr.Cloneflags |= syscall.CLONE_NEWNET
	}
	group, err := plan.makeCgroup(ctx)
	if err != nil {
		return nil, Start{}, err
	}
	cmd := exec.Command(exe, ShimWord, plan.Dir, plan.ID)
	cmd.SysProcAttr = attr
	child, err := begin("the shim", cmd, stdio, plan.Netns)
	if err != nil {
		return nil, Start{}, err
	}
	// It waits for its plan: all that it starts is born there.
	plan.scoreOOM(child.cmd.Process.Pid)
	if err := plan.enter(ctx, group, child.cmd.Process.Pid); err != nil {
		child.abandon()
		return nil, Start{}, err
	}
	if plan.hooksFirst() {
		if err := inside(ctx, child.cmd.Process.Pid); err != nil {
			child.abandon()
			return nil, Start{}, err
		}
		inside = nil
	}
	process, err := child.ready(ctx, plan, inside)
	trace.Add(ctx, child.told.Phases)
	return process, child.told.Start, err
}

// execPlan is what a proxy is told.
type execPlan struct {
	Dir     string         `json:"dir"`
	Build   string         `json:"build"`
	Process *specs.Process `json:"process"`
}

// SpawnExec starts the proxy, the program exe, of a further process in a running
// container and returns it once that process runs. The proxy exits with its exit
// status.
func SpawnExec(ctx context.Context, exe string, c Client, process *specs.Process, stdio Stdio) (*os.Process, error) {
	cmd := exec.Command(exe, ProxyWord, c.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: stdio.Terminal}
	child, err := begin("the proxy", cmd, stdio, "")
	if err != nil {
		return nil, err
	}
	return child.ready(ctx, execPlan{c.Dir, c.Build, process}, nil)
}

// SpawnTemplate has a process of its own, the program exe, build a template. If the
// plan says so it waits for the outcome, otherwise the process goes on alone until
// it is done or its time is up.
func SpawnTemplate(ctx context.Context, exe string, plan TemplatePlan) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	cmd := exec.Command(exe, TemplateWord)
	// Its taps are nobody's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNET}
	child, err := begin("the template's builder", cmd, Stdio{In: null, Out: null, Err: null}, "")
	if err != nil {
		return err
	}
	if !plan.Wait {
		defer child.conn.Close()
		go func() { _ = cmd.Wait() }()
		return protocol.WriteMessage(child.conn, plan)
	}
	if _, err := child.ready(ctx, plan, nil); err != nil {
		return err
	}
	return cmd.Wait()
}

// A child is a shim, proxy or builder that has not told its outcome yet. The socket
// between the two also tells each when the other is gone.
type child struct {
	name string
	cmd  *exec.Cmd
	conn *os.File
	// told is the outcome.
	told outcome
}

func begin(name string, cmd *exec.Cmd, stdio Stdio, netns string) (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "child"), os.NewFile(uintptr(fds[1]), "parent")
	defer theirs.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdio.In, stdio.Out, stdio.Err
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Dir = "/"
	// Nothing of the engine's environment concerns the machine.
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	if err := startIn(netns, cmd); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start of %s: %w", name, err)
	}
	return &child{name: name, cmd: cmd, conn: ours}, nil
}

// startIn starts cmd in the network namespace at path, or in the caller's when
// path is empty.
func startIn(path string, cmd *exec.Cmd) error {
	if path == "" {
		return start(cmd)
	}
	ns, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace %s is gone", path)
	}
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer ns.Close()
	started := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else
		// runs in that namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			started <- fmt.Errorf("join network namespace %s: %w", path, err)
			return
		}
		started <- start(cmd)
	}()
	return <-started
}

// start words a missing program differently than the system, whose words engines
// take for a missing program of the container.
func start(cmd *exec.Cmd) error {
	err := cmd.Start()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not installed", cmd.Path)
	}
	return err
}

// ready tells the child its plan and waits for its outcome.
func (c *child) ready(ctx context.Context, plan any, inside func(ctx context.Context, pid int) error) (*os.Process, error) {
	defer c.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })
	defer stop()
	if err := c.talk(ctx, plan, inside); err != nil {
		// The shim may be telling why it failed when a hook fails as well; the
		// first one counts.
		c.abandon()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return c.cmd.Process, nil
}

// abandon ends a child that nobody wants any more.
func (c *child) abandon() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.conn.Close()
}

func (c *child) talk(ctx context.Context, plan any, inside func(ctx context.Context, pid int) error) error {
	if err := protocol.WriteMessage(c.conn, plan); err != nil {
		// A child that does not take its plan says why.
		if told := c.outcome(); told != nil {
			return told
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan error, 1)
	go func() {
		err := c.outcome()
		if err != nil {
			cancel()
		}
		told <- err
	}()
	if inside != nil {
		err := inside(ctx, c.cmd.Process.Pid)
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return <-told
}

func (c *child) outcome() error {
	var o outcome
	if err := protocol.ReadMessage(c.conn, protocol.MaxResponse, &o); err != nil {
		return fmt.Errorf("%s ended before it was ready", c.name)
	}
	if o.Error != "" {
		return errors.New(o.Error)
	}
	c.told = o
	return nil
}
