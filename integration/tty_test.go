package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A console is what an engine holds of a terminal: the master, and what has
// been read from it.
type console struct {
	master *os.File
	output *stream
}

func newConsole(t testing.TB, master *os.File) *console {
	t.Helper()
	t.Cleanup(func() { master.Close() })
	return &console{master: master, output: collect("terminal", master)}
}

func (c *console) typeIn(t testing.TB, text string) {
	t.Helper()
	if _, err := c.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func (c *console) resize(t testing.TB, rows, cols uint16) {
	t.Helper()
	// Not Fd, which would make the descriptor blocking and its reader immortal.
	raw, err := c.master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
}

// hangUp closes the terminal as an engine does that is not interested any more.
func (c *console) hangUp() { c.master.Close() }

// A consoleSocket is where an engine waits for a terminal's master.
type consoleSocket struct{ *net.UnixListener }

func listenConsole(t testing.TB) consoleSocket {
	t.Helper()
	path := filepath.Join(t.TempDir(), "console.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return consoleSocket{l}
}

func (s consoleSocket) path() string { return s.Addr().String() }

// receive takes the master as go-runc and conmon do: one message, one
// descriptor, a name as the message's text. It has to wait in the backlog by
// the time the command has returned.
func (s consoleSocket) receive(t testing.TB) *console {
	t.Helper()
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd, accepted := -1, error(nil)
	if err := raw.Control(func(l uintptr) { fd, _, accepted = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) }); err != nil || accepted != nil {
		t.Fatal("no terminal was sent before the command returned: ", errors.Join(err, accepted))
	}
	defer unix.Close(fd)
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(16*4))
	n, rightsN, _, _, err := unix.Recvmsg(fd, text, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal("console socket: ", err)
	}
	if n < 1 || n > 4095 {
		t.Errorf("the terminal's name has %d bytes", n)
	}
	if rightsN != unix.CmsgSpace(4) {
		t.Errorf("the message carries %d bytes of rights, not those of one descriptor", rightsN)
	}
	return newConsole(t, parseMaster(t, rights[:rightsN]))
}

func parseMaster(t testing.TB, rights []byte) *os.File {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages: %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%d descriptors: %v", len(fds), err)
	}
	// Non-blocking, so that closing it ends a read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "master")
}

// createOnConsole creates a container with a terminal as containerd does: the
// command's output is one pipe that is read to its end.
func (r runtime) createOnConsole(t testing.TB, changes ...change) (*container, *console) {
	t.Helper()
	socket := listenConsole(t)
	c := &container{runtime: r, id: r.newID(t), bundle: r.bundle(t, append(changes, terminal(true))...)}
	pidFile := filepath.Join(t.TempDir(), "pid")
	r.must(t, "create", "--bundle", c.bundle, "--console-socket", socket.path(), "--pid-file", pidFile, c.id)
	c.pid = readPid(t, pidFile)
	c.exited = reap(c.pid)
	return c, socket.receive(t)
}

// sizes tells the terminal's size at the beginning and after each change.
var sizes = script(
	`trap 'echo "size $(stty size)"' WINCH`,
	`trap 'exit 21' HUP`,
	`echo "tty $(tty) $(stty size)"`,
	`echo "to stderr" >&2`,
	// Not in this shell, whose read a signal would end.
	`exec 3<&0; while read line; do echo "got $line"; done <&3 &`,
	`while kill -0 $! 2>/dev/null; do wait $!; done`,
	`echo "end of input"`,
	`exit 5`)

func TestConsoleSocket(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c, tty := r.createOnConsole(t, sizes)
		tty.resize(t, 31, 97)
		c.start(t)
		tty.output.wait(t, "tty /dev/")
		tty.output.wait(t, " 31 97\r\n")
		tty.output.wait(t, "to stderr\r\n")
		tty.resize(t, 40, 132)
		tty.output.wait(t, "size 40 132\r\n")
		tty.typeIn(t, "hello\n")
		tty.output.wait(t, "hello\r\ngot hello\r\n")
		tty.typeIn(t, "\x04")
		tty.output.wait(t, "end of input\r\n")
		c.expect(t, 5)
		tty.output.all(t)
		c.delete(t)
	})
}

// Nobody at the other end any more: the process is told as by a modem.
func TestHangup(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c, tty := r.createOnConsole(t, script(`trap "exit 21" HUP`, `echo ready`, `cat`, `sleep 1000`))
	c.start(t)
	tty.output.wait(t, "ready\r\n")
	tty.hangUp()
	c.expect(t, 21)
	c.delete(t)
}

// Control characters are the inner terminal's business.
func TestInterruptKey(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c, tty := r.createOnConsole(t, script(`trap "echo interrupted; exit 6" INT`, `echo ready`, forever))
	c.start(t)
	tty.output.wait(t, "ready\r\n")
	tty.typeIn(t, "\x03")
	tty.output.wait(t, "interrupted\r\n")
	c.expect(t, 6)
	c.delete(t)
}

// openTerminal is a terminal as a person has it in front of them.
func openTerminal(t testing.TB, rows, cols uint16) (*console, *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "master")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	c := newConsole(t, master)
	c.resize(t, rows, cols)
	return c, slave
}

// A session is a command in the foreground of a terminal.
type session struct {
	*console
	slave *os.File
	ended chan int
}

func (r runtime) onTerminal(t testing.TB, rows, cols uint16, args ...string) *session {
	t.Helper()
	tty, slave := openTerminal(t, rows, cols)
	cmd, _ := r.command(t, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &session{console: tty, slave: slave, ended: make(chan int, 1)}
	go func() {
		_ = cmd.Wait()
		s.ended <- testutil.ExitCode(cmd.ProcessState)
	}()
	return s
}

func (s *session) wait(t testing.TB) int {
	t.Helper()
	return receive(t, "end of the command on the terminal", s.ended)
}

// settings of the terminal; those of the slave are the terminal's.
func (s *session) settings(t testing.TB) unix.Termios {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *settings
}

func isRaw(s unix.Termios) bool { return s.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 }

func TestRunOnTerminal(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		tty, slave := openTerminal(t, 1, 1)
		before := (&session{console: tty, slave: slave}).settings(t)
		s := r.onTerminal(t, 33, 101, "run", "--bundle", r.bundle(t, terminal(true), sizes), r.newID(t))
		checkTerminal(t, s)
		s.typeIn(t, "\x04")
		s.output.wait(t, "end of input\r\n")
		if got := s.wait(t); got != 5 {
			t.Errorf("run exited %d, not 5", got)
		}
		if diff := cmp.Diff(before, s.settings(t)); diff != "" {
			t.Errorf("the terminal's settings were not restored (-before +after):\n%s", diff)
		}
	})
}

// checkTerminal looks at a session that runs sizes.
func checkTerminal(t testing.TB, s *session) {
	t.Helper()
	s.output.wait(t, " 33 101\r\n")
	if !isRaw(s.settings(t)) {
		t.Error("the caller's terminal is not in raw mode")
	}
	s.resize(t, 50, 150)
	s.output.wait(t, "size 50 150\r\n")
	s.typeIn(t, "hello\r")
	s.output.wait(t, "got hello\r\n")
	// Echoed once: by the inner terminal and not by the outer.
	if got := strings.Count(s.output.text(), "hello"); got != 2 {
		t.Errorf("hello is there %d times, not twice: %q", got, s.output.text())
	}
}

func TestExecOnTerminal(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	s := r.onTerminal(t, 33, 101, append([]string{"exec", "--tty", c.id}, sizesArgs()...)...)
	checkTerminal(t, s)
	s.typeIn(t, "\x04")
	if got := s.wait(t); got != 5 {
		t.Errorf("exec exited %d, not 5", got)
	}
	if isRaw(s.settings(t)) {
		t.Error("the terminal's settings were not restored")
	}
	c.end(t)
}

// A person who closes the window.
func TestRunOnTerminalThatGoesAway(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	s := r.onTerminal(t, 24, 80, "run", "--bundle", r.bundle(t, terminal(true), script(`trap "exit 21" HUP`, `echo ready`, forever)), r.newID(t))
	s.output.wait(t, "ready\r\n")
	s.slave.Close()
	s.hangUp()
	if got := s.wait(t); got != 21 {
		t.Errorf("run exited %d, not 21", got)
	}
}

func TestExecOnConsoleSocket(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	socket := listenConsole(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	r.must(t, append([]string{"exec", "--detach", "--tty", "--console-socket", socket.path(), "--pid-file", pidFile, c.id}, sizesArgs()...)...)
	exited := reap(readPid(t, pidFile))
	tty := socket.receive(t)
	tty.output.wait(t, "tty /dev/")
	tty.resize(t, 40, 132)
	tty.output.wait(t, "size 40 132\r\n")
	tty.hangUp()
	if got := receive(t, "exit of the exec", exited); got != 21 {
		t.Errorf("exited %d, not 21", got)
	}
	c.end(t)
}

func sizesArgs() []string {
	s := specs.Spec{Process: &specs.Process{}}
	sizes(&s)
	return s.Process.Args
}
