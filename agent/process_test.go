package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":             "net/ipv4/ip_forward",
		"net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"single":                          "single",
	} {
		if got := sysctlPath(key); got != "/proc/sys/"+want {
			t.Errorf("%s is %s, not %s", key, got, want)
		}
	}
}

func TestPrepareEnv(t *testing.T) {
	got, err := prepareEnv([]string{"A=1", "PATH=/x", "A=2", "HOME=/h", "B=a=b"})
	must(t, err)
	if diff := cmp.Diff([]string{"PATH=/x", "A=2", "HOME=/h", "B=a=b"}, got); diff != "" {
		t.Error(diff)
	}
	if variable(got, "PATH") != "/x" || variable(got, "PAT") != "" {
		t.Error("variables are not found by their names")
	}
	for _, bad := range []string{"A", "=x", "A=\x00"} {
		if _, err := prepareEnv([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	empty, err := prepareEnv([]string{"HOME=/h", "HOME="})
	must(t, err)
	if len(empty) != 0 {
		t.Errorf("an empty HOME is kept: %v", empty)
	}
}

func TestUserHome(t *testing.T) {
	passwd := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(passwd, []byte("bad\nroot:x:0:0::/root:/bin/sh\nu:x:7:7::/home/u:\n"), 0o600))
	for uid, want := range map[int]string{0: "/root", 7: "/home/u", 8: "/"} {
		if got := userHome(passwd, uid); got != want {
			t.Errorf("home of %d is %q", uid, got)
		}
	}
	fifo := filepath.Join(t.TempDir(), "passwd")
	must(t, unix.Mkfifo(fifo, 0o600))
	if got := userHome(fifo, 0); got != "/" {
		t.Errorf("by a pipe that nobody writes to: %q", got)
	}
	if got := userHome(passwd+"x", 0); got != "/" {
		t.Errorf("home without passwd is %q", got)
	}
}

func TestParseFilter(t *testing.T) {
	filter, err := parseFilter([]byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f})
	must(t, err)
	if len(filter) != 1 || filter[0].Code != 6 || filter[0].K != 0x7fff0000 {
		t.Errorf("filter %+v", filter)
	}
	for _, bad := range [][]byte{make([]byte, 7), make([]byte, 8*(maxFilter+1))} {
		if _, err := parseFilter(bad); err == nil {
			t.Errorf("%d bytes are a filter", len(bad))
		}
	}
}

func TestInRoot(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "root"), 0o755))
	must(t, os.Symlink("../../..", filepath.Join(dir, "root/up")))
	must(t, os.Symlink("/nosuch", filepath.Join(dir, "root/dangling")))
	must(t, os.Mkdir(filepath.Join(dir, "root/etc"), 0o755))
	must(t, os.Symlink("../../../run/resolv.conf", filepath.Join(dir, "root/etc/resolv.conf")))
	must(t, os.Symlink("loop", filepath.Join(dir, "root/loop")))
	root, err := os.Open(filepath.Join(dir, "root"))
	must(t, err)
	defer root.Close()
	for path, want := range map[string]string{"/a/b/c": "a/b/c", "/up/d": "d", "../../e": "e", "up/up/f/../g": "g", "/dangling/x": "nosuch/x"} {
		made, err := mkdirInRoot(root, path)
		must(t, err)
		made.Close()
		if _, err := os.Stat(filepath.Join(dir, "root", want)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	file, err := createInRoot(root, "/up/x/y")
	must(t, err)
	file.Close()
	if info, err := os.Stat(filepath.Join(dir, "root/x/y")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("file: %v", err)
	}
	linked, err := createInRoot(root, "/etc/resolv.conf")
	must(t, err)
	linked.Close()
	if info, err := os.Stat(filepath.Join(dir, "root/run/resolv.conf")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("through a link that leads nowhere: %v", err)
	}
	if _, err := mkdirInRoot(root, "/loop"); err == nil || !strings.Contains(err.Error(), "loop") {
		t.Errorf("through a loop: %v", err)
	}
	if _, err := mkdirInRoot(root, "/x/y/z"); err == nil {
		t.Error("a directory below a file is made")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("outside of the root: %v", entries)
	}
}
