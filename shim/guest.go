package shim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/yamux"

	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/protocol"
)

// answerTimeout bounds a call that the guest answers without waiting for
// anything; a machine without KVM under load is slow.
const answerTimeout = 60 * time.Second

// streamWindow is how much of a stream may be under way from the guest, in bytes.
// Each half of it that has been passed on is told to the guest, which costs time
// there.
const streamWindow = 1 << 20

// A guest is the agent at the other end of the channel.
type guest struct {
	session *yamux.Session
	guard   *guard
}

// newGuest speaks to the agent through conn. No timer runs on the session: a
// paused machine is silent for as long as its user likes.
func newGuest(conn net.Conn) (*guest, error) {
	g := newGuard(conn)
	config := yamux.DefaultConfig()
	// How many streams may wait for the guest to acknowledge them; the guard lets
	// none of the guest's own through.
	config.AcceptBacklog = 256
	config.EnableKeepAlive = false
	config.ConnectionWriteTimeout = math.MaxInt64
	config.StreamOpenTimeout = 0
	config.StreamCloseTimeout = 0
	config.MaxStreamWindowSize = streamWindow
	config.LogOutput = io.Discard
	session, err := yamux.Client(g, config)
	if err != nil {
		return nil, fmt.Errorf("agent channel: %w", err)
	}
	return &guest{session: session, guard: g}, nil
}

func (g *guest) close() { g.session.Close() }

// gone is closed when the channel has ended, by whoever.
func (g *guest) gone() <-chan struct{} { return g.session.CloseChan() }

// stream opens a stream with one request and its response. It fails when the
// guest has not answered by the end of ctx.
func (g *guest) stream(ctx context.Context, r protocol.Request) (net.Conn, protocol.Response, error) {
	done := make(chan answer, 1)
	go func() { done <- g.open(ctx, r) }()
	select {
	case a := <-done:
		return a.stream, a.response, a.err
	case <-ctx.Done():
		// yamux knows no deadline while the guest does not read at all.
		go func() { (<-done).close() }()
		return nil, protocol.Response{}, errSilent
	}
}

// errSilent stands for an answer that is overdue.
var errSilent = errors.New("the guest does not answer")

// An answer is a stream that the guest has answered on, or an error.
type answer struct {
	stream   net.Conn
	response protocol.Response
	err      error
}

func (a answer) close() {
	if a.stream != nil {
		a.stream.Close()
	}
}

func (g *guest) open(ctx context.Context, r protocol.Request) answer {
	// The guard has to know of the stream before the guest does.
	g.guard.opened.Add(1)
	stream, err := g.session.OpenStream()
	if err != nil {
		return answer{err: g.failure(err)}
	}
	response, err := turn(ctx, stream, r)
	if err != nil {
		stream.Close()
		return answer{err: g.failure(err)}
	}
	if response.Error != "" {
		stream.Close()
		return answer{err: errors.New(plain(response.Error))}
	}
	return answer{stream: stream, response: response}
}

func turn(ctx context.Context, stream net.Conn, r protocol.Request) (protocol.Response, error) {
	var response protocol.Response
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := protocol.WriteMessage(stream, r); err != nil {
		return response, err
	}
	err := protocol.ReadMessage(stream, protocol.MaxResponse, &response)
	return response, err
}

// maxText is how much of a guest's text an error quotes, in bytes.
const maxText = 4 << 10

// plain makes the guest's text fit for a log and a terminal, which would obey
// its control characters.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text[:min(len(text), maxText)], "?"))
}

// failure names what the guest did wrong, if that is what ended the channel.
func (g *guest) failure(err error) error {
	if violation := g.guard.violation(); violation != nil {
		return violation
	}
	return fmt.Errorf("agent channel: %w", err)
}

// call is a stream that ends with its response.
func (g *guest) call(ctx context.Context, r protocol.Request) (protocol.Response, error) {
	stream, response, err := g.stream(ctx, r)
	if err != nil {
		return response, err
	}
	return response, stream.Close()
}

// ask is a call that the guest answers at once.
func (g *guest) ask(ctx context.Context, r protocol.Request) (protocol.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return g.call(ctx, r)
}

// greet introduces the two builds to each other. Whatever the guest does for the
// container comes after it: it has a clone's clock and randomness become its own.
func (g *guest) greet(ctx context.Context, build string, clone bool) error {
	defer trace.Begin(ctx, "wait for the agent")()
	ours := protocol.Hello{Version: protocol.Version, Build: build, Entropy: make([]byte, protocol.EntropySize)}
	if _, err := rand.Read(ours.Entropy); err != nil {
		return err
	}
	if clone {
		ours.Time = time.Now().UnixNano()
	}
	// The guest may still boot: ctx says for how long.
	r, err := g.call(ctx, protocol.Request{Hello: &ours})
	if err != nil {
		return err
	}
	if r.Hello == nil {
		return fmt.Errorf("%w: hello without an answer", errHostile)
	}
	r.Hello.Build = plain(r.Hello.Build)
	if err := r.Hello.Check("the guest's agent"); err != nil || clone {
		return err
	}
	// The first hello has waited in the channel while the guest booted: its time
	// would have been seconds old.
	return g.setTime(ctx, build)
}

// setTime sets the guest's clock.
func (g *guest) setTime(ctx context.Context, build string) error {
	now := protocol.Hello{Version: protocol.Version, Build: build, Time: time.Now().UnixNano()}
	_, err := g.ask(ctx, protocol.Request{Hello: &now})
	return err
}

// wait returns how a process ended. All of its output has been sent by then.
func (g *guest) wait(ctx context.Context, t protocol.Target) (protocol.Exit, error) {
	r, err := g.call(ctx, protocol.Request{Wait: &t})
	if err != nil {
		return protocol.Exit{}, err
	}
	if r.Exit == nil || r.Exit.Code < 0 || r.Exit.Code > 255 {
		return protocol.Exit{}, fmt.Errorf("%w: an exit without a code", errHostile)
	}
	return *r.Exit, nil
}

// stdio opens one of a process's streams.
func (g *guest) stdio(ctx context.Context, t protocol.Target, fd int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, _, err := g.stream(ctx, protocol.Request{Stdio: &protocol.Stdio{Target: t, FD: fd}})
	return stream, err
}
