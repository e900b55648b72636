package engines

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

var stdioRows = []feature{
	{name: "exit status, also 125, 126 and 127", try: exitStatus},
	{name: "stdout and stderr apart", try: streams},
	{name: "-i", try: stdin},
	{name: "-t, with its size and resize", try: terminalSize},
	{name: "-it: detach and attach again", try: detachAttach},
	{name: "attach", try: attach},
	{name: "logs, logs -f", try: logs},
	{name: "create and start -a -i", try: createStart},
	{name: "wait", try: wait},
}

func exitStatus(t *testing.T, e engine) {
	for _, c := range []struct {
		line []string
		want int
	}{
		{[]string{"busybox", "sh", "-c", "exit 7"}, 7},
		{[]string{"busybox", "nosuchprogram"}, 127},
		{[]string{"busybox", "/etc/passwd"}, 126},
		{[]string{"--cap-add", "nosuch", "busybox"}, 125},
	} {
		if r := e.try(t, c.line...); r.Code != c.want {
			t.Errorf("%s: got %d, want %d: %s", testutil.ShellLine(c.line...), r.Code, c.want, r)
		}
	}
}

func streams(t *testing.T, e engine) {
	r := e.try(t, "busybox", "sh", "-c", "echo out; echo err >&2")
	same(t, "stdout", r.Out, "out\n")
	same(t, "stderr", r.Err, "err\n")
}

// feed runs an engine's command with this stdin.
func (e engine) feed(t testing.TB, input string, args ...string) result {
	t.Helper()
	cmd := command(t, e.line(args...)...)
	cmd.Stdin = strings.NewReader(input)
	return finish(t, cmd)
}

func stdin(t *testing.T, e engine) {
	input := strings.Repeat("line\n", 20000)
	r := e.feed(t, input, e.runLine(t, "run", e.newName(t), "-i", "busybox", "wc", "-c")...)
	same(t, "bytes", strings.TrimSpace(r.Out), "100000")
}

// A collector keeps what is written, for who looks at it meanwhile.
type collector struct {
	mu     sync.Mutex
	output bytes.Buffer
}

func (c *collector) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output.Write(p)
}

func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output.String()
}

func (c *collector) shows(t testing.TB, text string) {
	t.Helper()
	until(t, "output "+text, func() bool { return strings.Contains(c.text(), text) })
}

// A terminal is what a person sees of a command.
type terminal struct {
	t      testing.TB
	master console.Console
	ended  chan int
	output *collector
}

// onTerminal starts a command on a terminal of 40 rows and 100 columns.
func onTerminal(t testing.TB, line ...string) *terminal {
	t.Helper()
	master, slavePath, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(slavePath, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	tty := &terminal{t: t, master: master, ended: make(chan int, 1), output: &collector{}}
	tty.resize(40, 100)
	cmd := command(t, line...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(tty.output, master) }()
	go func() {
		_ = cmd.Wait()
		tty.ended <- testutil.ExitCode(cmd.ProcessState)
	}()
	t.Cleanup(func() {
		master.Close()
		if t.Failed() {
			t.Logf("the terminal: %s", testutil.Abbreviate(tty.output.text()))
		}
	})
	return tty
}

func (tty *terminal) resize(rows, columns uint16) {
	tty.t.Helper()
	if err := tty.master.Resize(console.WinSize{Height: rows, Width: columns}); err != nil {
		tty.t.Fatal(err)
	}
}

func (tty *terminal) shows(text string) {
	tty.t.Helper()
	tty.output.shows(tty.t, text)
}

// typeIn waits until the engine has the terminal to itself: before that the kernel
// edits the line, and keeps some keys.
func (tty *terminal) typeIn(text string) {
	tty.t.Helper()
	until(tty.t, "the terminal is raw", func() bool {
		settings, err := unix.IoctlGetTermios(int(tty.master.Fd()), unix.TCGETS)
		return err == nil && settings.Lflag&unix.ICANON == 0
	})
	if _, err := io.WriteString(tty.master, text); err != nil {
		tty.t.Fatal(err)
	}
}

// end waits for the command's.
func (tty *terminal) end() int {
	tty.t.Helper()
	select {
	case code := <-tty.ended:
		return code
	case <-time.After(patience):
		tty.t.Fatal("the command never ends")
		panic("unreachable")
	}
}

// sizes is a shell's script that tells the terminal's size, and every change, until
// a line comes in.
const sizes = `trap "echo changed: \$(stty size)" WINCH; test -t 0 && test -t 1 && echo is a tty
while [ "$(stty size)" != "40 100" ]; do :; done; echo first: $(stty size)
until read line; do :; done; echo got: $line; exit 3`

// resized talks to the script sizes.
func resized(t *testing.T, line ...string) {
	t.Helper()
	tty := onTerminal(t, line...)
	tty.shows("is a tty")
	tty.shows("first: 40 100")
	tty.resize(25, 70)
	tty.shows("changed: 25 70")
	tty.typeIn("hello\n")
	tty.shows("got: hello")
	if code := tty.end(); code != 3 {
		t.Errorf("exit status %d, want 3", code)
	}
}

func terminalSize(t *testing.T, e engine) {
	resized(t, e.line(e.runLine(t, "run", e.newName(t), "-it", "busybox", "sh", "-c", sizes)...)...)
}

// detachKey is the one that the engine keeps to itself. Podman wants to read it
// alone, and does not get to it before it has attached: it is typed until it works.
const detachKey, detachKeyName = "\x01", "ctrl-a"

func (tty *terminal) detach() {
	tty.t.Helper()
	until(tty.t, "detached", func() bool {
		select {
		case <-tty.ended:
			return true
		default:
			_, _ = io.WriteString(tty.master, detachKey)
			return false
		}
	})
}

func detachAttach(t *testing.T, e engine) {
	name := e.newName(t)
	script := "echo ready; while read line; do echo got: $line; done"
	tty := onTerminal(t, e.line(e.runLine(t, "run", name, "-it", "--detach-keys", detachKeyName, "busybox", "sh", "-c", script)...)...)
	tty.shows("ready")
	tty.detach()
	same(t, "running", e.inspect(t, name, "{{.State.Running}}"), "true")
	again := onTerminal(t, e.line("attach", name)...)
	// Some of the keys may have reached the container.
	again.typeIn("\nhello\n")
	again.shows("got: hello")
	again.typeIn("\x04")
	if code := again.end(); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
}

func attach(t *testing.T, e engine) {
	name := e.start(t, "-i", "busybox", "sh", "-c", "read line; echo got: $line; read line; exit 5")
	cmd, output := command(t, e.line("attach", name)...), &collector{}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = output
	ended := make(chan int, 1)
	go func() {
		_ = cmd.Run()
		ended <- testutil.ExitCode(cmd.ProcessState)
	}()
	fmt.Fprintln(input, "hello")
	output.shows(t, "got: hello\n")
	fmt.Fprintln(input, "bye")
	<-ended
	// Podman's attach has a status of its own.
	same(t, "exit status", e.must(t, "wait", name), "5")
}

func logs(t *testing.T, e engine) {
	name := e.start(t, "busybox", "sh", "-c", "echo out; echo err >&2")
	r := e.call(t, "logs", "-f", name)
	same(t, "stdout", r.Out, "out\n")
	same(t, "stderr", r.Err, "err\n")
	same(t, "the last line", e.call(t, "logs", "--tail", "1", e.box).Out, "ready\n")
}

func createStart(t *testing.T, e engine) {
	name := e.newName(t)
	e.must(t, e.runLine(t, "create", name, "-i", "busybox", "sh", "-c", "cat; exit 4")...)
	r := e.feed(t, "hello\n", "start", "-a", "-i", name)
	same(t, "stdout", r.Out, "hello\n")
	if r.Code != 4 {
		t.Errorf("exit status %d, want 4", r.Code)
	}
}

func wait(t *testing.T, e engine) {
	name := e.start(t, "-i", "busybox", "sh", "-c", "exit 9")
	same(t, "exit status", e.must(t, "wait", name), "9")
}
