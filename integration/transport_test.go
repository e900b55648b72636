package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// A commanded container does what it is told on its stdin, without the delay of an
// exec: what it sees then is what the host has just done.
type commanded struct {
	*container
	feed *os.File
	seen int
}

func (r runtime) startCommanded(t testing.TB, changes ...change) *commanded {
	t.Helper()
	in, feed := pipe(t)
	loop := script(`while read -r line; do eval "$line" 2>&1; echo "<done>"; done`)
	c := r.create(t, r.bundle(t, append(changes, loop)...), options{stdin: in})
	in.Close()
	c.start(t)
	return &commanded{container: c, feed: feed}
}

// do runs a line and returns what it printed.
func (c *commanded) do(t testing.TB, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(c.feed, line); err != nil {
		t.Fatal(err)
	}
	const end = "<done>\n"
	text := c.stdout.await(t, "the answer to "+line, func(text string, ended bool) bool {
		return ended || strings.Contains(text[c.seen:], end)
	})
	answer, _, _ := strings.Cut(text[c.seen:], end)
	c.seen += len(answer) + len(end)
	return answer
}

// What either side does to a file the other one sees at once: engines write
// resolv.conf anew, in place or by a rename, and tell nobody.
func TestLiveFiles(t *testing.T) {
	const rounds = 10
	eachTransport(t, func(t *testing.T, r runtime) {
		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		c := r.startCommanded(t, bind(dir, "/mnt"))
		see := func(line, want string) {
			t.Helper()
			if got := c.do(t, line); got != want {
				t.Errorf("%s: %q, not %q", line, got, want)
			}
		}
		for i := range rounds {
			// The same size, so that nothing but the content tells.
			testutil.WriteFile(t, path("same"), fmt.Sprintf("%03d\n", i))
			see("cat /mnt/same", fmt.Sprintf("%03d\n", i))
			testutil.WriteFile(t, path("grown"), strings.Repeat("x", i*5000))
			see("cat /mnt/grown | wc -c; stat -c %s /mnt/grown", fmt.Sprintf("%d\n%d\n", i*5000, i*5000))
			testutil.WriteFile(t, path("new"), "")
			see("ls /mnt", "grown\nnew\nsame\n")
			if err := os.Remove(path("new")); err != nil {
				t.Fatal(err)
			}
			see("[ -e /mnt/new ] || echo gone; ls /mnt", "gone\ngrown\nsame\n")
			testutil.WriteFile(t, path("other"), fmt.Sprintf("renamed %d\n", i))
			if err := os.Rename(path("other"), path("same")); err != nil {
				t.Fatal(err)
			}
			see("cat /mnt/same; ls /mnt", fmt.Sprintf("renamed %d\ngrown\nsame\n", i))
			if err := os.Chmod(path("same"), 0o600+os.FileMode(i)); err != nil {
				t.Fatal(err)
			}
			see("stat -c %a /mnt/same", fmt.Sprintf("%o\n", 0o600+i))

			see(fmt.Sprintf("echo inside %d > /mnt/same", i), "")
			if got, want := testutil.ReadFile(t, path("same")), fmt.Sprintf("inside %d\n", i); got != want {
				t.Errorf("on the host: %q, not %q", got, want)
			}
			see(fmt.Sprintf("echo moved %d > /mnt/t; mv /mnt/t /mnt/same; rm /mnt/grown", i), "")
			if got, want := testutil.ReadFile(t, path("same")), fmt.Sprintf("moved %d\n", i); got != want {
				t.Errorf("on the host: %q, not %q", got, want)
			}
			if left := tree(t, dir); len(left) != 1 {
				t.Errorf("on the host: %v", left)
			}
		}
		c.end(t)
	})
}

// An open file is the same file on both sides, while it grows as well.
func TestLiveOpenFile(t *testing.T) {
	eachTransport(t, func(t *testing.T, r runtime) {
		path := filepath.Join(t.TempDir(), "log")
		testutil.WriteFile(t, path, "")
		c := r.startCommanded(t, bind(filepath.Dir(path), "/mnt"))
		c.do(t, "exec 3</mnt/log")
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for i := range 20 {
			line := fmt.Sprintf("line %d\n", i)
			if _, err := file.WriteString(line); err != nil {
				t.Fatal(err)
			}
			if got := c.do(t, "cat <&3"); got != line {
				t.Errorf("read %q, not %q", got, line)
			}
		}
		c.end(t)
	})
}

// What only virtiofs can with Debian 12's QEMU: FIFOs, sockets and devices in
// shared files, and changes to a file that has no name any more.
func TestVirtiofsSpecialFiles(t *testing.T) {
	needVM(t)
	needRoot(t)
	r := overVirtiofs(t, uriEmbed)
	root := debianRootfs(t)
	nothingLeft(t)
	dir := t.TempDir()
	c := r.startNew(t, rootfs(root), bind(dir, "/mnt"), idle, capabilities("CAP_MKNOD", "CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"))
	for _, test := range []struct{ command, want string }{
		{"mkfifo -m 640 /mnt/fifo; (echo through > /mnt/fifo &); cat /mnt/fifo", "through\n"},
		{"mknod /mnt/null c 1 3; stat -c '%F %t:%T' /mnt/null; echo x > /mnt/null; wc -c < /mnt/null", "character special file 1:3\n0\n"},
		{`perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0); bind(S,sockaddr_un("/mnt/socket")) or die $!; listen(S,1);` +
			` socket(C,AF_UNIX,SOCK_STREAM,0); connect(C,sockaddr_un("/mnt/socket")) or die $!; accept(A,S); syswrite(C,"hello\n"); sysread(A,$b,99); print $b'`, "hello\n"},
		{`perl -e 'open(F,"+>","/mnt/gone"); unlink("/mnt/gone"); syswrite(F,"12345"); truncate(F,2) or die $!; chmod(0600,*F) or die $!; print -s F'`, "2"},
	} {
		if got := c.exec(t, "/bin/sh", "-c", test.command); got.Out != test.want {
			t.Errorf("%s: %s, not %q", test.command, got, test.want)
		}
	}
	for name, mode := range map[string]os.FileMode{"fifo": os.ModeNamedPipe | 0o640, "null": os.ModeDevice | os.ModeCharDevice | 0o644, "socket": os.ModeSocket | 0o755} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s on the host: %v, %v", name, info, err)
		}
	}
	c.end(t)
}

// Who may make a file is decided inside, with all of the user's groups, and it
// belongs to him on the host.
func TestOwnersOfNewFiles(t *testing.T) {
	eachTransport(t, func(t *testing.T, r runtime) {
		dir := t.TempDir()
		if err := os.Chown(dir, 0, 2000); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o770); err != nil {
			t.Fatal(err)
		}
		got := r.call(t, "run", "--bundle", r.bundle(t, bind(dir, "/mnt"), func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{2000}}
		}, script("umask 027; echo x > /mnt/file; mkdir /mnt/dir; ln -s file /mnt/link; mkfifo /mnt/fifo 2>/dev/null; chmod 2750 /mnt/dir; stat -c '%n %a %u %g' /mnt/file /mnt/dir")), r.newID(t))
		if want := "/mnt/file 640 1000 1001\n/mnt/dir 2750 1000 1001\n"; got.Out != want {
			t.Errorf("inside: %s, not %q", got, want)
		}
		for _, name := range []string{"file", "dir", "link"} {
			var stat unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, name), &stat); err != nil || stat.Uid != 1000 || stat.Gid != 1001 {
				t.Errorf("%s on the host: %d:%d, %v", name, stat.Uid, stat.Gid, err)
			}
		}
	})
}

// virtiofsdOf is the pid of the container's file server.
func virtiofsdOf(t testing.TB, c *container) int {
	t.Helper()
	_, dir := shimOf(c.id)
	for pid, s := range readStats() {
		if slices.Contains(commandLine(pid), "source="+filepath.Join(dir, "share")) && s.state != "Z" {
			return pid
		}
	}
	t.Fatalf("%s has no virtiofsd", c.id)
	return 0
}

// The file server is the container's own: it goes with the shim, and the machine
// goes with it.
func TestVirtiofsdDies(t *testing.T) {
	needVM(t)
	needRoot(t)
	for _, uri := range []string{uriEmbed, uriSystem} {
		r := overVirtiofs(t, uri)
		t.Run(r.name, func(t *testing.T) {
			if err := startLibvirtd(t); uri == uriSystem && err != nil {
				t.Skip("needs libvirtd: ", err)
			}
			nothingLeft(t)
			c := r.startNew(t, idle)
			c.stdout.wait(t, "ready\n")
			server, qemu := virtiofsdOf(t, c), qemuOf(t, c)
			c.process.kill(t, unix.SIGKILL)
			awaitDeath(t, patience, "virtiofsd", server)
			awaitDeath(t, patience, "QEMU", qemu)
			c.expect(t, 137)
			checkGone(t, c)

			c = r.startNew(t, idle)
			c.stdout.wait(t, "ready\n")
			if err := unix.Kill(virtiofsdOf(t, c), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			c.expect(t, 255)
			checkGone(t, c)
		})
	}
}

// virtiofsd is reachable by the guest: it keeps what it needs to make files as the
// users inside, and sees the share only. QEMU then needs no capability at all.
func TestVirtiofsdConfinement(t *testing.T) {
	needVM(t)
	needRoot(t)
	r := overVirtiofs(t, uriEmbed)
	nothingLeft(t)
	c := r.startNew(t, idle)
	server := fmt.Sprintf("/proc/%d", virtiofsdOf(t, c))
	status := testutil.ReadFile(t, server+"/status")
	want := ninepCapabilities() | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	for set, want := range map[string]uint64{"CapPrm": want, "CapEff": want, "CapBnd": 0, "NoNewPrivs": 1, "Seccomp": 2} {
		if got := statusField(t, status, set); got != want {
			t.Errorf("%s of virtiofsd: %x, not %x", set, got, want)
		}
	}
	entries, err := os.ReadDir(server + "/root")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("virtiofsd sees more than the share: %v", entries)
	}
	if netns(virtiofsdOf(t, c)) == netns(c.pid) {
		t.Error("virtiofsd is in the container's network")
	}
	qemu := fmt.Sprintf("/proc/%d", qemuOf(t, c))
	if got := statusField(t, testutil.ReadFile(t, qemu+"/status"), "CapEff"); got != 0 {
		t.Errorf("QEMU has capabilities %x without 9p", got)
	}
	_, dir := shimOf(c.id)
	if _, err := os.Stat(qemu + "/root" + dir + "/share"); !os.IsNotExist(err) {
		t.Errorf("QEMU sees the share without 9p: %v", err)
	}
	c.end(t)
}
