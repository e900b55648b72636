package shim

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// ProxyMain is a proxy: it stands for one exec on the host, so that an engine
// can reap and kill it like a process. It never returns.
func ProxyMain() {
	p, err := openParent()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmruntime:", err)
		os.Exit(failureCode)
	}
	var plan execPlan
	if err := p.plan(&plan); err != nil {
		p.tell(fmt.Errorf("what the proxy was told: %w", err))
		os.Exit(failureCode)
	}
	stdio, err := takeStdio()
	if err != nil {
		p.tell(err)
		os.Exit(failureCode)
	}
	stdio.Terminal = plan.Process.Terminal
	p.follow()
	os.Exit(proxy(p, plan, stdio))
}

func proxy(p parent, plan execPlan, stdio Stdio) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	client := Client{Dir: plan.Dir, Build: plan.Build}
	session, err := client.Exec(context.Background(), plan.Process, stdio)
	if err != nil {
		p.tell(err)
		return failureCode
	}
	if stdio.Terminal {
		session.tty = stdio.In
		session.resize()
	} else {
		// The shim has them now.
		closeAll([]*os.File{stdio.In, stdio.Out, stdio.Err})
	}
	p.tell(nil)
	go session.Forward(signals)
	return session.Wait()
}

// A Session is the connection to the shim while a further process runs, of the
// process that stands for it on the host.
type Session struct {
	conn *net.UnixConn
	tty  *os.File
}

// Exec runs a further process on the given descriptors. It is killed when the
// caller goes away or closes the session. With a terminal the caller has to be its
// session's leader, see SpawnExec.
func (c Client) Exec(ctx context.Context, process *specs.Process, stdio Stdio) (*Session, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	files := []*os.File{stdio.In, stdio.Out, stdio.Err}
	if _, err := c.turn(ctx, conn, call{Exec: process}, files); err != nil {
		conn.Close()
		return nil, err
	}
	// The process runs as long as it likes.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &Session{conn: conn}, nil
}

// Close ends the process if it runs still.
func (s *Session) Close() error { return s.conn.Close() }

// Wait returns the process's exit status. When the shim goes first, so has the
// process.
func (s *Session) Wait() int {
	var r reply
	err := protocol.ReadMessage(s.conn, protocol.MaxRequest, &r)
	switch {
	case err != nil:
		return 128 + int(unix.SIGKILL)
	case r.Exit == nil || r.err() != nil:
		return failureCode
	}
	return r.Exit.Code
}

// Forward passes on what is sent to the process's stand-in. SIGKILL cannot be
// passed on: the shim notices that the connection is gone.
func (s *Session) Forward(signals <-chan os.Signal) {
	for received := range signals {
		number, ok := received.(syscall.Signal)
		switch {
		case !ok || ownSignal(number):
		case number == syscall.SIGWINCH && s.tty != nil:
			s.resize()
		case number == syscall.SIGHUP && s.tty != nil:
			// The input ends as well, which hangs up the terminal inside.
		default:
			_ = protocol.WriteMessage(s.conn, call{Signal: &signalCall{Signal: int(number)}})
		}
	}
}

func (s *Session) resize() {
	if size, ok := windowSize(s.tty); ok {
		_ = protocol.WriteMessage(s.conn, call{Resize: &size})
	}
}

// ownSignal tells the signals that are about the process that receives them.
func ownSignal(s syscall.Signal) bool {
	return s == syscall.SIGCHLD || s == syscall.SIGURG || s == syscall.SIGPIPE
}

// windowSize of a terminal; one of 0x0 is nobody's wish.
func windowSize(tty *os.File) (resizeCall, bool) {
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 || size.Col == 0 {
		return resizeCall{}, false
	}
	return resizeCall{Rows: size.Row, Cols: size.Col}, true
}
