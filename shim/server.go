package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// serve answers clients until the shim ends.
func (c *container) serve(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			c.answer(ctx, conn)
		}()
	}
}

func (c *container) answer(ctx context.Context, conn *net.UnixConn) {
	what, files, err := readCall(conn)
	if err != nil {
		return
	}
	defer closeAll(files)
	if what.Version != controlVersion {
		c.reply(conn, reply{}, fmt.Errorf("this container's shim is vmruntime %s (control version %d), the caller is %s (%d): use the vmruntime that started it, or delete --force", c.build, controlVersion, what.Build, what.Version))
		return
	}
	if what.Exec != nil {
		c.exec(ctx, conn, what, files)
		return
	}
	r, err := c.do(ctx, what)
	c.reply(conn, r, err)
}

func (c *container) do(ctx context.Context, what call) (reply, error) {
	switch {
	case what.Status:
		return reply{Status: c.state()}, nil
	case what.Start:
		return reply{}, c.start(ctx)
	case what.Pause:
		return reply{}, c.pause()
	case what.Resume:
		return reply{}, c.resume(ctx)
	case what.Processes:
		return reply{Processes: c.processes()}, nil
	case what.Stats:
		s, err := c.stats(ctx)
		return reply{Stats: &s}, err
	case what.OOM != nil:
		kills, err := c.oomKills(ctx, what.OOM.Seen)
		return reply{OOMKills: kills}, err
	case what.Update != nil:
		return reply{}, c.update(ctx, what.Update)
	case what.Signal != nil:
		return reply{}, c.signal(ctx, protocol.Signal{Target: c.init(), Signal: what.Signal.Signal, All: what.Signal.All})
	}
	return reply{}, errors.New("the shim was asked for nothing that it knows")
}

func (c *container) reply(conn *net.UnixConn, r reply, err error) {
	r.Build = c.build
	if err != nil {
		r.Error = err.Error()
	}
	// A client that is gone needs no answer.
	_ = protocol.WriteMessage(conn, r)
}

// exec runs a further process. Its proxy's connection stays open for signals
// and sizes, and kills the process when it ends early.
func (c *container) exec(ctx context.Context, conn *net.UnixConn, what call, files []*os.File) {
	if len(files) != maxFiles {
		c.reply(conn, reply{}, errors.New("an exec needs three descriptors"))
		return
	}
	if c.state() == StatePaused {
		c.reply(conn, reply{}, errPaused)
		return
	}
	name, err := c.execs.add(conn)
	if err != nil {
		c.reply(conn, reply{}, err)
		return
	}
	defer c.execs.remove(name)
	target := protocol.Target{Container: c.plan.ID, Process: name}
	streams, err := c.begin(ctx, target, what, files)
	if err != nil {
		c.reply(conn, reply{}, err)
		return
	}
	defer streams.close()
	c.reply(conn, reply{}, nil)
	go c.control(ctx, conn, target)

	exit, err := c.guest.wait(ctx, target)
	if err == nil {
		<-streams.delivered()
	}
	streams.close()
	// Whoever reads the output sees its end before the proxy's exit.
	closeAll(files)
	c.reply(conn, reply{Exit: &exit}, err)
}

func (c *container) begin(ctx context.Context, t protocol.Target, what call, files []*os.File) (*processIO, error) {
	if _, err := c.guest.ask(ctx, protocol.Request{Exec: &protocol.Exec{Target: t, Spec: what.Exec}}); err != nil {
		return nil, err
	}
	stdio := Stdio{In: files[0], Out: files[1], Err: files[2], Terminal: what.Exec.Terminal}
	streams, err := attach(ctx, c.guest, t, stdio)
	if err != nil {
		c.kill(ctx, t)
		return nil, err
	}
	streams.feed()
	return streams, nil
}

// control passes on what the proxy asks for while the process runs.
func (c *container) control(ctx context.Context, conn *net.UnixConn, t protocol.Target) {
	for {
		var what call
		err := protocol.ReadMessage(conn, protocol.MaxRequest, &what)
		switch {
		case err != nil:
			c.kill(ctx, t)
			return
		case what.Signal != nil:
			_ = c.signal(ctx, protocol.Signal{Target: t, Signal: what.Signal.Signal})
		case what.Resize != nil:
			_ = c.resize(ctx, t, what.Resize.Rows, what.Resize.Cols)
		}
	}
}

// kill ends an exec; one that has ended already needs nothing.
func (c *container) kill(ctx context.Context, t protocol.Target) {
	_ = c.signal(ctx, protocol.Signal{Target: t, Signal: int(unix.SIGKILL)})
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
