package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
)

const (
	// callTimeout bounds a call that takes the shim one turn to the guest.
	callTimeout = 60 * time.Second
	// statusTimeout bounds one that the shim answers by itself: a shim that
	// somebody has stopped must not hold up a list of all containers.
	statusTimeout = 10 * time.Second
)

// Errors of commands in a state that does not allow them; their texts are runc's,
// and engines look for them. ErrNotRunning is also returned for a container whose
// shim does not run any more.
var (
	ErrNotRunning = errors.New("container not running")
	ErrNotPaused  = errors.New("container not paused")
)

// StatePaused is runc's addition to the states of the specification.
const StatePaused specs.ContainerState = "paused"

// A Client talks to the shim of one container.
type Client struct {
	// Dir is Plan.Dir.
	Dir string
	// Build is the version of the program that calls.
	Build string
}

// Status is created, running or paused; ErrNotRunning stands for stopped.
func (c Client) Status(ctx context.Context) (specs.ContainerState, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	r, err := c.call(ctx, call{Status: true})
	return r.Status, err
}

// Start lets the container's process run.
func (c Client) Start(ctx context.Context) error {
	_, err := c.call(ctx, call{Start: true})
	return err
}

// Pause stops the machine's CPUs.
func (c Client) Pause(ctx context.Context) error {
	_, err := c.call(ctx, call{Pause: true})
	return err
}

// Resume lets the machine's CPUs go on.
func (c Client) Resume(ctx context.Context) error {
	_, err := c.call(ctx, call{Resume: true})
	return err
}

// Update changes limits of the container: those that are there and not 0.
func (c Client) Update(ctx context.Context, changes *specs.LinuxResources) error {
	_, err := c.call(ctx, call{Update: changes})
	return err
}

// Stats are the container's figures.
func (c Client) Stats(ctx context.Context) (cgroup.Stats, error) {
	r, err := c.call(ctx, call{Stats: true})
	if err != nil || r.Stats == nil {
		return cgroup.Stats{}, err
	}
	return *r.Stats, nil
}

// OOMKills is how many processes of the container were killed for want of memory.
// With seen it waits a while for more than that.
func (c Client) OOMKills(ctx context.Context, seen *uint64) (uint64, error) {
	r, err := c.call(ctx, call{OOM: &oomCall{seen}})
	return r.OOMKills, err
}

// Signal sends a signal to the container's init, or to all its processes. It
// returns once the guest has accepted it; SIGKILL needs no guest.
func (c Client) Signal(ctx context.Context, signal int, all bool) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = c.turn(ctx, conn, call{Signal: &signalCall{Signal: signal, All: all}}, nil)
	if signal == int(unix.SIGKILL) && errors.Is(err, ErrNotRunning) {
		// It ended before it could answer, which is what was asked.
		return nil
	}
	return err
}

// Processes lists the host's pids that stand for the container's processes: the
// shim first, then the proxies of its execs.
func (c Client) Processes(ctx context.Context) ([]int, error) {
	r, err := c.call(ctx, call{Processes: true})
	return r.Processes, err
}

func (c Client) call(ctx context.Context, what call) (reply, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	return c.turn(ctx, conn, what, nil)
}

// turn sends one call and receives its reply.
func (c Client) turn(ctx context.Context, conn *net.UnixConn, what call, files []*os.File) (reply, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	what.Version, what.Build = controlVersion, c.Build
	if err := writeCall(conn, what, files); err != nil {
		return reply{}, ErrNotRunning
	}
	var r reply
	if err := protocol.ReadMessage(conn, protocol.MaxRequest, &r); err != nil {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return reply{}, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return reply{}, errors.New("the container's shim does not answer")
		}
		// The shim ended before it answered.
		return reply{}, ErrNotRunning
	}
	if r.Build != c.Build {
		slog.Warn(fmt.Sprintf("the container's shim is vmruntime %s, this is %s", r.Build, c.Build))
	}
	return r, r.err()
}

func (c Client) dial(ctx context.Context) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", controlSocket(c.Dir))
	if err != nil {
		return nil, ErrNotRunning
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return conn.(*net.UnixConn), nil
}
