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
	session, err := client.exec(context.Background(), plan.Process, stdio)
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
	go session.forward(signals)
	return session.wait()
}

// A session is the proxy's connection to the shim while the process runs.
type session struct {
	conn *net.UnixConn
	tty  *os.File
}

// exec asks the shim for a process on the given descriptors.
func (c Client) exec(ctx context.Context, process *specs.Process, stdio Stdio) (*session, error) {
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
	return &session{conn: conn}, nil
}

// wait returns the process's exit status. When the shim goes first, so has the
// process.
func (s *session) wait() int {
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

// forward passes on what is sent to the proxy. SIGKILL cannot be passed on: the
// shim notices that the connection is gone.
func (s *session) forward(signals <-chan os.Signal) {
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

func (s *session) resize() {
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
