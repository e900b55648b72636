package agent

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

func openRoot(t *testing.T, dir string) *os.File {
	t.Helper()
	root, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

// Keys come beside those that are there, once, and to no file that a link names.
func TestAuthorize(t *testing.T) {
	dir := t.TempDir()
	root := openRoot(t, dir)
	must(t, authorize(root, []string{"key a"}))
	file := filepath.Join(dir, "root/.ssh/authorized_keys")
	must(t, os.WriteFile(file, []byte("own\nkey a"), 0o600))
	for range 2 {
		must(t, authorize(root, []string{"key a", "key b"}))
	}
	text, err := os.ReadFile(file)
	must(t, err)
	if string(text) != "own\nkey a\nkey b\n" {
		t.Errorf("keys are %q", text)
	}
	for name, mode := range map[string]os.FileMode{"root": 0o700, "root/.ssh": 0o700, "root/.ssh/authorized_keys": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestAuthorizeFollowsNoLinks(t *testing.T) {
	for _, link := range []string{"root", "root/.ssh", "root/.ssh/authorized_keys"} {
		dir, outside := t.TempDir(), t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(link)), 0o755))
		must(t, os.Symlink(outside, filepath.Join(dir, link)))
		if err := authorize(openRoot(t, dir), []string{"key"}); err == nil {
			t.Errorf("%s: a link is followed", link)
		}
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			t.Errorf("%s: outside there is now %v", link, entries)
		}
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "root/.ssh"), 0o755))
	must(t, unix.Mkfifo(filepath.Join(dir, "root/.ssh/authorized_keys"), 0o600))
	if err := authorize(openRoot(t, dir), []string{"key"}); err == nil {
		t.Error("a pipe takes keys")
	}
}

func TestSetProcessUser(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("worker:x:77:78::/:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/group"), []byte("more:x:79:worker\n"), 0o644))
	for name, want := range map[string]specs.User{
		"": {}, "worker": {UID: 77, GID: 78, AdditionalGids: []uint32{79}}, "5:6": {UID: 5, GID: 6},
	} {
		p := &specs.Process{Capabilities: &specs.LinuxCapabilities{Effective: []string{"CAP_CHOWN"}}}
		must(t, setProcessUser(openRoot(t, dir), name, p))
		if p.User.UID != want.UID || p.User.GID != want.GID || len(p.User.AdditionalGids) != len(want.AdditionalGids) {
			t.Errorf("%q is %+v", name, p.User)
		}
		if root := want.UID == 0; root != (len(p.Capabilities.Effective) == 1) {
			t.Errorf("%q has the capabilities %v", name, p.Capabilities.Effective)
		}
	}
	if err := setProcessUser(openRoot(t, dir), "nobody", &specs.Process{}); err == nil {
		t.Error("a user that is not there is found")
	}
}

// What a console does not take in time is lost, told of, and holds nobody up.
func TestConsole(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	c := newConsole(w)
	line := bytes.Repeat([]byte("x"), 64<<10)
	begin := time.Now()
	for range 4 * consoleChunks {
		if n, err := c.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if spent := time.Since(begin); spent > 2*consolePatience {
		t.Errorf("nobody reads, and it took %v", spent)
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	// The console has caught up when it takes something again.
	for len(c.chunks) > 0 {
		time.Sleep(time.Millisecond)
	}
	c.say("the end is %d", 7)
	c.close()
	w.Close()
	text := <-read
	if !strings.Contains(text, " bytes are lost: nobody reads this console\n") || !strings.HasSuffix(text, "vmruntime: the end is 7\n") {
		t.Errorf("%d bytes, the last: %q", len(text), text[max(0, len(text)-200):])
	}
}

func TestPowerButton(t *testing.T) {
	class := t.TempDir()
	for event, name := range map[string]string{"event0": "AT keyboard", "event3": "Power Button"} {
		dir := filepath.Join(class, event, "device")
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644))
	}
	if got := powerButton(class); got != "/dev/input/event3" {
		t.Errorf("the button is %q", got)
	}
	var events bytes.Buffer
	for _, e := range [][3]uint32{{evKey, 30, pressed}, {0, keyPower, pressed}, {evKey, keyPower, 0}, {evKey, keyPower, pressed}, {evKey, 31, pressed}} {
		event := make([]byte, inputEvent)
		binary.NativeEndian.PutUint16(event[16:], uint16(e[0]))
		binary.NativeEndian.PutUint16(event[18:], uint16(e[1]))
		binary.NativeEndian.PutUint32(event[20:], e[2])
		events.Write(event)
	}
	awaitPress(&events)
	if left := events.Len(); left != inputEvent {
		t.Errorf("%d bytes are left behind the press", left)
	}
}

func TestSignalOf(t *testing.T) {
	for text, want := range map[string]unix.Signal{"": unix.SIGTERM, "SIGQUIT": unix.SIGQUIT, "quit": unix.SIGQUIT, "3": unix.SIGQUIT, "99": unix.SIGTERM, "x": unix.SIGTERM} {
		if got := signalOf(text); got != want {
			t.Errorf("%q is %d", text, int(got))
		}
	}
}

// A disk is told by its signature, and says where its partitions are.
func TestBootDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	record := make([]byte, sector)
	binary.LittleEndian.PutUint32(record[mbrSignature:], 0xfeed)
	binary.LittleEndian.PutUint32(record[mbrTable+mbrEntry+entryStart:], 2048)
	binary.LittleEndian.PutUint32(record[mbrTable+mbrEntry+entrySize:], 4096)
	copy(record[mbrMark:], "\x55\xaa")
	must(t, os.WriteFile(file, record, 0o600))
	if d := openBootDisk(file, 0xfeed); d != nil {
		t.Error("a disk whose partitions the kernel does not know")
	}
	must(t, os.WriteFile(file+"3", nil, 0o600))
	if d := openBootDisk(file, 0xbeef); d != nil {
		t.Error("a disk with another signature")
	}
	d := openBootDisk(file, 0xfeed)
	if d == nil {
		t.Fatal("the disk is not found")
	}
	defer d.file.Close()
	if got, want := d.extent(protocol.LayersPartition), (protocol.Extent{Offset: 1 << 20, Size: 2 << 20}); got != want {
		t.Errorf("layers are at %+v", got)
	}
	for path, want := range map[string]string{"/dev/vda": "/dev/vda3", "/dev/nvme0n1": "/dev/nvme0n1p3"} {
		if got := (&bootDisk{path: path}).partition(3); got != want {
			t.Errorf("%s has %s", path, got)
		}
	}
}
