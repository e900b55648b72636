package integration

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

func TestExitStatus(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		if got := r.call(t, "run", "--bundle", r.bundle(t, script("exit 7")), r.newID(t)); got.Code != 7 {
			t.Errorf("run exited %d, not 7", got.Code)
		}
		c := r.startNew(t, idle)
		for _, test := range []struct {
			script string
			code   int
		}{
			{"exit 0", 0}, {"exit 1", 1}, {"exit 127", 127}, {"exit 255", 255},
			{"kill -KILL $$", 137}, {"kill -TERM $$", 143}, {"kill -SEGV $$", 139},
		} {
			if got := c.exec(t, "/bin/sh", "-c", test.script); got.Code != test.code {
				t.Errorf("exec of %q exited %d, not %d", test.script, got.Code, test.code)
			}
		}
		c.end(t)
	})
}

// everyByte is what a careless layer would change.
func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return strings.Repeat(string(b), 3) + "\r\n\x04\x1a"
}

func TestStdio(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		in, feed := pipe(t)
		c := r.create(t, r.bundle(t, script("cat", "echo to stderr >&2", "exit 3")), options{stdin: in})
		in.Close()
		// Written before start, it waits.
		if _, err := io.WriteString(feed, everyByte()); err != nil {
			t.Fatal(err)
		}
		c.start(t)
		c.stdout.wait(t, everyByte())
		if _, err := io.WriteString(feed, "later"); err != nil {
			t.Fatal(err)
		}
		c.stdout.wait(t, "later")
		if text := c.stderr.text(); text != "" {
			t.Errorf("cat ended before its input did: %q", text)
		}
		feed.Close()
		c.expect(t, 3)
		if got, want := c.stdout.all(t), everyByte()+"later"; got != want {
			t.Errorf("stdout: %s, not %s", testutil.Abbreviate(got), testutil.Abbreviate(want))
		}
		if got, want := c.stderr.all(t), "to stderr\n"; got != want {
			t.Errorf("stderr: %s, not %s", testutil.Abbreviate(got), testutil.Abbreviate(want))
		}
		c.delete(t)
	})
}

// randomFile is a file of that many random bytes, and their checksum.
func randomFile(t testing.TB, size int64) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "random")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(file, hash), rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path, hex.EncodeToString(hash.Sum(nil))
}

// All output is there when the exit status is, even of a process that exits
// right after its write.
func TestOutputIsComplete(t *testing.T) {
	const size, rounds = 1 << 20, 10
	eachTransport(t, func(t *testing.T, r runtime) {
		path, sum := randomFile(t, size)
		mount := bind(filepath.Dir(path), "/mnt", "ro")
		root := rootfs(newRootfs(t))
		got := r.call(t, "run", "--bundle", r.bundle(t, root, mount, args("/bin/cat", "/mnt/random")), r.newID(t))
		checkSum(t, "run", got, sum)
		c := r.startNew(t, root, mount, idle)
		for range rounds {
			checkSum(t, "exec", c.exec(t, "/bin/cat", "/mnt/random"), sum)
		}
		c.end(t)
	})
}

func checkSum(t testing.TB, what string, got result, sum string) {
	t.Helper()
	hash := sha256.Sum256([]byte(got.Out))
	if hex.EncodeToString(hash[:]) != sum || got.Code != 0 {
		t.Errorf("%s: %d bytes of another checksum, exit %d", what, len(got.Out), got.Code)
	}
}

func TestBigPipe(t *testing.T) {
	const size = 256 << 20
	eachDriver(t, func(t *testing.T, r runtime) {
		path, sum := randomFile(t, size)
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		hash := sha256.New()
		got := r.callWith(t, func(cmd *exec.Cmd) {
			cmd.Stdin, cmd.Stdout = in, hash
		}, "run", "--bundle", r.bundle(t, args("/bin/cat")), r.newID(t))
		if got.Code != 0 || hex.EncodeToString(hash.Sum(nil)) != sum {
			t.Errorf("256 MiB through cat came out changed: %s", got)
		}
	})
}

// A reader that sleeps holds up its own stream and nothing else.
func TestSleepingReader(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		unread, out := pipe(t)
		c := r.create(t, r.bundle(t, script(
			`trap "echo signal >&2" USR1`,
			`cat /dev/zero &`,
			`echo ready >&2`,
			`while :; do wait; done`)), options{stdout: out})
		out.Close()
		c.start(t)
		c.stderr.wait(t, "ready\n")
		awaitFull(t, unread)
		if got := c.exec(t, "/bin/echo", "exec"); got.Out != "exec\n" {
			t.Errorf("exec: %s", got)
		}
		c.kill(t, "USR1")
		c.stderr.wait(t, "signal\n")
		c.kill(t, "KILL")
		c.expect(t, 137)
		c.delete(t)
	})
}

// awaitFull waits until no more fits into a pipe.
func awaitFull(t testing.TB, read *os.File) {
	t.Helper()
	capacity, err := unix.FcntlInt(read.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the pipe is full", func() bool {
		waiting, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCINQ)
		return err == nil && waiting == capacity
	})
}

// A reader that goes away ends the writer.
func TestClosedReader(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle)
		read, out := pipe(t)
		p := c.execDetached(t, options{stdout: out}, "/bin/cat", "/dev/zero")
		out.Close()
		if _, err := io.ReadFull(read, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		read.Close()
		if got, want := p.wait(t), 128+int(unix.SIGPIPE); got != want {
			t.Errorf("cat exited %d, not %d", got, want)
		}
		c.end(t)
	})
}

// A process that closes its output lives on, and whoever reads it sees the end at
// once, not with the container's.
func TestClosedOutput(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		const closing = `trap "exit 5" TERM; echo last words; echo complaint >&2; exec >&- 2>&-; ` + forever
		c := r.startNew(t, script(closing))
		p := c.execDetached(t, options{}, "/bin/sh", "-c", closing)
		for name, p := range map[string]process{"init": c.process, "exec": p} {
			if out, err := p.stdout.all(t), p.stderr.all(t); out != "last words\n" || err != "complaint\n" {
				t.Errorf("%s wrote %q and %q", name, out, err)
			}
		}
		if got := c.status(t); got != "running" {
			t.Errorf("the container is %s after it closed its output", got)
		}
		p.kill(t, unix.SIGTERM)
		if got := p.wait(t); got != 5 {
			t.Errorf("exec exited %d, not 5", got)
		}
		c.kill(t, "TERM")
		c.expect(t, 5)
		c.delete(t)
	})
}

// A process that does not read its input is not held up by it, and nobody reads
// on for it when it is gone.
func TestUnreadInput(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	in, feed := pipe(t)
	go func() {
		// It ends with an error when the last reader is gone.
		_, _ = io.Copy(feed, neverEnding{})
		feed.Close()
	}()
	p := c.execDetached(t, options{stdin: in}, "/bin/sh", "-c", "head -c 5 | wc -c; exit 4")
	in.Close()
	if got := p.wait(t); got != 4 {
		t.Errorf("exited %d, not 4", got)
	}
	if got := p.stdout.all(t); strings.TrimSpace(got) != "5" {
		t.Errorf("stdout: %q", got)
	}
	c.end(t)
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte("x"), len(p)))
	return len(p), nil
}
