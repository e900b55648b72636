package agent

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

// A client is the host's side of the channel, as plain as it can be.
type client struct {
	t       *testing.T
	session *yamux.Session
	patient time.Duration
}

func newClient(t *testing.T, conn net.Conn, patient time.Duration) *client {
	t.Helper()
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.ConnectionWriteTimeout = math.MaxInt64
	config.LogOutput = io.Discard
	session, err := yamux.Client(conn, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return &client{t: t, session: session, patient: patient}
}

// open sends one request and gives the stream with its response.
func (c *client) open(r protocol.Request) (net.Conn, protocol.Response, error) {
	c.t.Helper()
	stream, err := c.session.OpenStream()
	if err != nil {
		return nil, protocol.Response{}, err
	}
	if err := stream.SetReadDeadline(time.Now().Add(c.patient)); err != nil {
		return nil, protocol.Response{}, err
	}
	if err := protocol.WriteMessage(stream, r); err != nil {
		return nil, protocol.Response{}, err
	}
	var response protocol.Response
	if err := protocol.ReadMessage(stream, protocol.MaxResponse, &response); err != nil {
		return nil, response, err
	}
	if response.Error != "" {
		stream.Close()
		return nil, response, fmt.Errorf("%s", response.Error)
	}
	return stream, response, nil
}

func (c *client) call(r protocol.Request) (protocol.Response, error) {
	c.t.Helper()
	stream, response, err := c.open(r)
	if err == nil {
		stream.Close()
	}
	return response, err
}

func (c *client) must(r protocol.Request) protocol.Response {
	c.t.Helper()
	response, err := c.call(r)
	if err != nil {
		c.t.Fatalf("request %+v: %v", r, err)
	}
	return response
}

func (c *client) stdio(t protocol.Target, fd int) net.Conn {
	c.t.Helper()
	stream, _, err := c.open(protocol.Request{Stdio: &protocol.Stdio{Target: t, FD: fd}})
	if err != nil {
		c.t.Fatalf("stdio %d of %v: %v", fd, t, err)
	}
	return stream
}

func (c *client) wait(t protocol.Target) int {
	c.t.Helper()
	r := c.must(protocol.Request{Wait: &t})
	if r.Exit == nil {
		c.t.Fatalf("wait for %v: no exit in the answer", t)
	}
	return r.Exit.Code
}

// A run is a process with its streams connected.
type run struct {
	c      *client
	target protocol.Target
	stdin  net.Conn
	// output is closed when stdout and stderr have ended.
	output         chan struct{}
	stdout, stderr buffer
}

func (c *client) attach(t protocol.Target, terminal bool) *run {
	c.t.Helper()
	r := &run{c: c, target: t, output: make(chan struct{})}
	r.stdin = c.stdio(t, 0)
	out := c.stdio(t, 1)
	ends := make(chan error, 2)
	streams := 1
	go func() { ends <- copyAll(&r.stdout, out) }()
	if !terminal {
		errs := c.stdio(t, 2)
		streams++
		go func() { ends <- copyAll(&r.stderr, errs) }()
	}
	go func() {
		for range streams {
			if err := <-ends; err != nil {
				c.t.Errorf("output of %v: %v", t, err)
			}
		}
		close(r.output)
	}()
	return r
}

func copyAll(to io.Writer, from net.Conn) error {
	defer from.Close()
	_, err := io.Copy(to, from)
	return err
}

// end waits for the process and all of its output.
func (r *run) end() (code int) {
	r.c.t.Helper()
	code = r.c.wait(r.target)
	select {
	case <-r.output:
	case <-time.After(r.c.patient):
		r.c.t.Fatalf("output of %v does not end", r.target)
	}
	r.stdin.Close()
	return code
}

// container creates a container and connects its init.
func (c *client) container(config protocol.Container) *run {
	c.t.Helper()
	c.must(protocol.Request{Create: &config})
	return c.attach(protocol.Target{Container: config.ID}, config.Spec.Process.Terminal)
}

func (c *client) start(id string) {
	c.t.Helper()
	c.must(protocol.Request{Start: &protocol.Target{Container: id}})
}

// exec runs a process in a container and connects it.
func (c *client) exec(id, name string, p *specs.Process) *run {
	c.t.Helper()
	t := protocol.Target{Container: id, Process: name}
	c.must(protocol.Request{Exec: &protocol.Exec{Target: t, Spec: p}})
	return c.attach(t, p.Terminal)
}

func (c *client) signal(id, name string, number int) error {
	c.t.Helper()
	t := protocol.Target{Container: id, Process: name}
	_, err := c.call(protocol.Request{Signal: &protocol.Signal{Target: t, Signal: number}})
	return err
}

// expect waits until the process has written text.
func (r *run) expect(text string) {
	r.c.t.Helper()
	for deadline := time.Now().Add(r.c.patient); !strings.Contains(r.stdout.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.c.t.Fatalf("%v does not write %q but %q", r.target, text, &r.stdout)
		}
	}
}

// A buffer is read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
