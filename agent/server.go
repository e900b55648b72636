package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// serve answers the host until the channel ends.
func (a *agent) serve() error {
	slowMonitor()
	port, err := openPort()
	if err != nil {
		return err
	}
	session, err := newChannel(port)
	if err != nil {
		return err
	}
	a.serveSession(session)
	return nil
}

func (a *agent) serveSession(session *channel) {
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go guarded(func() { a.serveStream(session.output(stream)) })
	}
}

// serveStream answers the one request of a stream.
func (a *agent) serveStream(stream net.Conn) {
	defer stream.Close()
	var request protocol.Request
	if err := protocol.ReadMessage(stream, protocol.MaxRequest, &request); err != nil {
		_ = protocol.WriteMessage(stream, protocol.Response{Error: err.Error()})
		return
	}
	if request.Resolver != nil {
		a.serveResolver(stream, *request.Resolver)
		return
	}
	if request.Stdio != nil {
		a.serveStdio(stream, *request.Stdio)
		return
	}
	response, err := a.answer(request)
	if err != nil {
		response = protocol.Response{Error: err.Error()}
	}
	_ = protocol.WriteMessage(stream, response)
	a.answered(request)
}

// answered does what a request leaves for later than its answer.
func (a *agent) answered(r protocol.Request) {
	if r.Wait == nil || r.Wait.Process != "" {
		return
	}
	if c, err := a.find(r.Wait.Container); err == nil {
		c.release()
	}
}

// serveStdio turns the stream into one of a process's.
func (a *agent) serveStdio(stream net.Conn, r protocol.Stdio) {
	p, err := a.process(r.Target)
	var pump func(net.Conn)
	if err == nil {
		pump, err = p.attach(r.FD)
	}
	if err != nil {
		_ = protocol.WriteMessage(stream, protocol.Response{Error: err.Error()})
		return
	}
	if err := protocol.WriteMessage(stream, protocol.Response{}); err != nil {
		stream.Close()
	}
	pump(stream)
}

func (a *agent) answer(r protocol.Request) (protocol.Response, error) {
	switch {
	case r.Hello != nil:
		return a.hello(*r.Hello)
	case r.Create != nil:
		return protocol.Response{}, a.create(r.Create)
	case r.Created != nil:
		return protocol.Response{}, a.created(r.Created.Container)
	case r.Start != nil:
		return protocol.Response{}, a.on(r.Start.Container, (*container).start)
	case r.Exec != nil:
		return protocol.Response{}, a.on(r.Exec.Container, func(c *container) error {
			return c.exec(r.Exec.Process, r.Exec.Spec)
		})
	case r.Wait != nil:
		return a.wait(*r.Wait)
	case r.Signal != nil:
		return protocol.Response{}, a.signal(*r.Signal)
	case r.Resize != nil:
		return protocol.Response{}, a.resize(*r.Resize)
	case r.Stats != nil:
		return a.stats(*r.Stats)
	case r.OOM != nil:
		return a.oom(*r.OOM)
	case r.Update != nil:
		return protocol.Response{}, a.on(r.Update.Container, func(c *container) error {
			c.updating.Lock()
			defer c.updating.Unlock()
			return c.cgroup.update(r.Update.Resources)
		})
	case r.Network != nil:
		return protocol.Response{}, a.setNetwork(r.Network)
	case r.Processes != nil:
		return a.processes(*r.Processes)
	}
	return protocol.Response{}, errors.New("the request is unknown to this agent")
}

func (a *agent) on(id string, do func(*container) error) error {
	c, err := a.find(id)
	if err != nil {
		return err
	}
	return do(c)
}

// hello introduces the agent and makes clock and randomness the machine's own: a
// guest that was paused or cloned has another time than the host.
func (a *agent) hello(h protocol.Hello) (protocol.Response, error) {
	if err := h.Check("the host's shim"); err != nil {
		return protocol.Response{}, err
	}
	setClock(h.Time)
	if len(h.Entropy) > 0 {
		if err := reseed(h.Entropy); err != nil {
			return protocol.Response{}, err
		}
	}
	a.greeted()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return protocol.Response{}, fmt.Errorf("uname: %w", err)
	}
	return protocol.Response{Hello: &protocol.Hello{
		Version: protocol.Version,
		Build:   a.build,
		Kernel:  unix.ByteSliceToString(name.Release[:]),
	}}, nil
}

// clockSlack is how far off a clock may be: files get the host's times, and one
// from the future makes tools like make complain.
const clockSlack = 10 * time.Millisecond

func setClock(nanoseconds int64) {
	if nanoseconds == 0 || time.Until(time.Unix(0, nanoseconds)).Abs() <= clockSlack {
		return
	}
	now := unix.NsecToTimespec(nanoseconds)
	_ = unix.ClockSettime(unix.CLOCK_REALTIME, &now)
}

// created waits until the container of the seed is set up.
func (a *agent) created(id string) error {
	<-a.seeded
	c, err := a.find(id)
	if err != nil {
		return errors.Join(a.seedErr, err)
	}
	<-c.setUp
	return c.err
}

// wait answers when a process has ended and its output has been handed over.
func (a *agent) wait(t protocol.Target) (protocol.Response, error) {
	c, err := a.find(t.Container)
	if err != nil {
		return protocol.Response{}, err
	}
	p, err := c.process(t.Process)
	if err != nil {
		return protocol.Response{}, err
	}
	<-p.exited
	p.outputs.Wait()
	if t.Process == "" {
		// The host may end the VM as soon as it knows.
		syncFiles(protocol.ShareDir)
		syncUpper(c.config)
	}
	c.forget(t.Process)
	oom := t.Process == "" && p.code == 128+int(unix.SIGKILL) && c.cgroup.oomKills() > 0
	return protocol.Response{Exit: &protocol.Exit{Code: p.code, OOM: oom}}, nil
}

// syncFiles writes back what the guest's cache holds of the file system at path.
func syncFiles(path string) {
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	_ = unix.Syncfs(int(dir.Fd()))
}

func (a *agent) signal(s protocol.Signal) error {
	c, err := a.find(s.Container)
	if err != nil {
		return err
	}
	if s.All {
		return c.signalAll(unix.Signal(s.Signal))
	}
	return c.signal(s.Process, unix.Signal(s.Signal))
}

func (a *agent) resize(r protocol.Resize) error {
	p, err := a.process(r.Target)
	if err != nil {
		return err
	}
	return p.resize(r.Rows, r.Cols)
}

func (a *agent) processes(t protocol.Target) (protocol.Response, error) {
	c, err := a.find(t.Container)
	if err != nil {
		return protocol.Response{}, err
	}
	pids, err := c.pids()
	return protocol.Response{Processes: pids}, err
}

func (a *agent) stats(t protocol.Target) (protocol.Response, error) {
	c, err := a.find(t.Container)
	if err != nil {
		return protocol.Response{}, err
	}
	s, err := c.cgroup.stats()
	return protocol.Response{Stats: &s}, err
}

func (a *agent) oom(o protocol.OOM) (protocol.Response, error) {
	c, err := a.find(o.Container)
	if err != nil {
		return protocol.Response{}, err
	}
	return protocol.Response{Stats: &protocol.Stats{OOMKills: c.awaitOOM(o.Seen)}}, nil
}
