package fsimage

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// makeTree makes files of which each has something that gets lost easily.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/empty"), 0o1777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "etc/file")
	if err := os.WriteFile(file, []byte("content\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Link(file, filepath.Join(dir, "link")),
		os.Symlink("etc/file", filepath.Join(dir, "symlink")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		os.Chtimes(file, time.Time{}, time.Unix(981173106, 789)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestErofs(t *testing.T) {
	dir, out := makeTree(t), t.TempDir()
	if os.Getuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "etc/file"), 1234, 70000); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(out, "image")
	if err := Erofs(context.Background(), file, dir); err != nil {
		t.Fatal(err)
	}
	tool(t, "fsck.erofs", file)
	said := tool(t, "dump.erofs", "--path=/etc/file", file)
	want := []string{"Size: 8 ", "Links: 2 ", "0640/", "000000789"}
	if os.Getuid() == 0 {
		want = append(want, "Uid: 1234 ", "Gid: 70000 ")
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("dump.erofs does not say %q:\n%s", w, said)
		}
	}
	if left := names(t, out); len(left) != 1 {
		t.Errorf("beside the image there is something: %q", left)
	}
}

// Of equal trees only the time of the making, in the superblock and its checksum,
// may differ.
func TestErofsIsDeterministic(t *testing.T) {
	dir, out := makeTree(t), t.TempDir()
	var images [2][]byte
	for i := range images {
		file := filepath.Join(out, "image")
		if err := Erofs(context.Background(), file, dir); err != nil {
			t.Fatal(err)
		}
		image, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// struct erofs_super_block, at 1024: checksum at 4, build_time and
		// build_time_nsec from 24 to 36.
		clear(image[1024+4 : 1024+8])
		clear(image[1024+24 : 1024+36])
		images[i] = image
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two images of one tree differ")
	}
}

func TestExt4(t *testing.T) {
	out := t.TempDir()
	file := filepath.Join(out, "upper.ext4")
	const size = 10 << 30
	if err := Ext4(context.Background(), file, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "e2fsck", "-f", "-n", file)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != size || info.Mode() != 0o600 {
		t.Errorf("it has %d bytes and mode %v", info.Size(), info.Mode())
	}
	if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; taken > 16<<20 {
		t.Errorf("it takes %d bytes", taken)
	}
	if said := tool(t, "dumpe2fs", file); !strings.Contains(said, "ITABLE_ZEROED") {
		t.Error("the guest's kernel would write zeros to all inode tables")
	}
}

func TestFailures(t *testing.T) {
	out := t.TempDir()
	file := filepath.Join(out, "image")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"no directory": {Erofs(context.Background(), file, filepath.Join(out, "missing")), "mkfs.erofs"},
		"cancelled":    {Ext4(cancelled, file, MinExt4), "context canceled"},
		"small":        {Ext4(context.Background(), file, MinExt4-1), "less than"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: error is %v", name, test.err)
		}
	}
	t.Setenv("PATH", out)
	if err := Erofs(context.Background(), file, out); err == nil || !strings.Contains(err.Error(), "install Debian's erofs-utils") {
		t.Errorf("error without the tool is %v", err)
	}
	if left := names(t, out); len(left) != 1 {
		t.Errorf("failures left %q", left)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "old" {
		t.Errorf("the file became %q, %v", text, err)
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
