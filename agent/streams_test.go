package agent

import (
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

func testOutput(t *testing.T, g *guest) {
	config := g.config(shell("echo out; echo err >&2; exit 7"))
	r := g.container(config)
	g.start(config.ID)
	if code := r.end(); code != 7 || r.stdout.String() != "out\n" || r.stderr.String() != "err\n" {
		t.Fatalf("code %d, stdout %q, stderr %q", code, &r.stdout, &r.stderr)
	}
	for _, again := range []error{g.signal(config.ID, "", 15), errOf(g.call(protocol.Request{Exec: &protocol.Exec{
		Target: protocol.Target{Container: config.ID, Process: "x"}, Spec: shell("true")}}))} {
		if again == nil || !strings.Contains(again.Error(), "container not running") {
			t.Errorf("after the end: %v", again)
		}
	}
	if _, err := g.call(protocol.Request{Start: &protocol.Target{Container: config.ID}}); err == nil {
		t.Error("a stopped container is started")
	}
}

func testStdin(t *testing.T, g *guest) {
	config := g.config(shell("cat; echo end"))
	r := g.container(config)
	g.start(config.ID)
	_, err := io.WriteString(r.stdin, "hello\x00\n")
	must(t, err)
	r.stdin.Close()
	if code := r.end(); code != 0 || r.stdout.String() != "hello\x00\nend\n" {
		t.Fatalf("code %d, stdout %q", code, &r.stdout)
	}
}

func testLarge(t *testing.T, g *guest) {
	config := g.config(shell("cat"))
	r := g.container(config)
	g.start(config.ID)
	body := make([]byte, 8<<20)
	_, _ = rand.Read(body)
	started := time.Now()
	_, err := r.stdin.Write(body)
	must(t, err)
	r.stdin.Close()
	if code := r.end(); code != 0 || r.stdout.String() != string(body) {
		t.Fatalf("code %d, %d bytes of %d came back, or others", code, len(r.stdout.String()), len(body))
	}
	t.Logf("%.1f MiB/s through cat", float64(len(body)>>20)/time.Since(started).Seconds())
}

func testSlowReader(t *testing.T, g *guest) {
	config := g.config(shell("echo err >&2; cat /dev/zero"))
	g.must(protocol.Request{Create: &config})
	target := protocol.Target{Container: config.ID}
	out, errs := g.stdio(target, 1), g.stdio(target, 2)
	defer out.Close()
	g.start(config.ID)
	line := make([]byte, 4)
	if _, err := io.ReadFull(errs, line); err != nil || string(line) != "err\n" {
		t.Fatalf("stderr: %q, %v", line, err)
	}
	r := g.exec(config.ID, "e", shell("echo alive"))
	if code := r.end(); code != 0 || r.stdout.String() != "alive\n" {
		t.Errorf("exec beside a blocked stream: code %d", code)
	}
	must(t, g.signal(config.ID, "", 9))
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if code := g.wait(target); code != 137 {
		t.Errorf("code %d", code)
	}
}

func testEarlyClose(t *testing.T, g *guest) {
	config := g.config(shell("yes; echo status $? >&2; cat"))
	g.must(protocol.Request{Create: &config})
	target := protocol.Target{Container: config.ID}
	in, out, errs := g.stdio(target, 0), g.stdio(target, 1), g.stdio(target, 2)
	g.start(config.ID)
	_, err := io.ReadFull(out, make([]byte, 1000))
	must(t, err)
	out.Close()
	text := make([]byte, len("status 141\n"))
	for n := 0; n < len(text); {
		read, err := errs.Read(text[n:])
		must(t, err)
		n += read
		if strings.Contains(string(text[:n]), "roken pipe") {
			n = 0
		}
	}
	in.Close()
	errs.Close()
	g.wait(target)
}

func testTerminal(t *testing.T, g *guest) {
	p := shell("tty; ls -l /dev/console; stty size; read line; echo got $line; read resized; stty size; trap 'exit 4' INT; echo armed; while :; do sleep 0.1; done")
	p.Terminal = true
	p.ConsoleSize = &specs.Box{Height: 33, Width: 77}
	config := g.config(p)
	r := g.container(config)
	g.start(config.ID)
	if _, err := g.call(protocol.Request{Stdio: &protocol.Stdio{Target: r.target, FD: 2}}); err == nil {
		t.Error("a terminal has a stderr")
	}
	r.expect("33 77\r\n")
	_, err := io.WriteString(r.stdin, "abc\n")
	must(t, err)
	r.expect("got abc")
	g.must(protocol.Request{Resize: &protocol.Resize{Target: r.target, Rows: 44, Cols: 88}})
	_, err = io.WriteString(r.stdin, "\n")
	must(t, err)
	r.expect("armed")
	_, err = io.WriteString(r.stdin, "\x03")
	must(t, err)
	code := r.end()
	out := r.stdout.String()
	for _, want := range []string{"/dev/pts/0\r\n", "33 77\r\n", "got abc\r\n", "44 88\r\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %q", want, out)
		}
	}
	if code != 4 {
		t.Errorf("code %d after ^C", code)
	}
}

func testExecTerminal(t *testing.T, g *guest) {
	config := g.config(shell("sleep 1000"))
	init := g.container(config)
	g.start(config.ID)
	// Not a cat: its shell may end with it before the trap runs.
	p := shell("trap 'echo hup > /dev/shm/hup; exit' HUP; tty; while :; do sleep 0.1; done")
	p.Terminal = true
	r := g.exec(config.ID, "t", p)
	r.expect("/dev/pts/0\r\n")
	r.stdin.Close()
	r.end()
	if !strings.Contains(r.stdout.String(), "/dev/pts/0\r\n") {
		t.Errorf("output %q", &r.stdout)
	}
	check := g.exec(config.ID, "check", shell("cat /dev/shm/hup"))
	if check.end(); check.stdout.String() != "hup\n" {
		t.Errorf("no SIGHUP came: %q %q", &check.stdout, &check.stderr)
	}
	must(t, g.signal(config.ID, "", 9))
	init.end()
}
