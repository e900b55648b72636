package vm

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace gives the test mounts of its own, shared among each other as a
// host's are.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	// Never unlocked: the thread ends with the test.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
}

func write(path string) error { return os.WriteFile(path, []byte("x"), 0o644) }

func mustWrite(t *testing.T, path string) {
	t.Helper()
	if err := write(path); err != nil {
		t.Fatal(err)
	}
}

func TestMountAndUnmount(t *testing.T) {
	inNamespace(t)
	dir, source := t.TempDir(), t.TempDir()
	mountTmpfs(t, source)
	mountTmpfs(t, filepath.Join(source, "volume"))
	mustWrite(t, filepath.Join(source, "file"))
	mustWrite(t, filepath.Join(source, "volume/file"))
	shares := []Share{
		{Source: source, Target: "c.rootfs", Recursive: true},
		{Source: source, Target: "c.0", ReadOnly: true, Recursive: true},
		{Source: filepath.Join(source, "file"), Target: "c.1", ReadOnly: true},
		{Source: source, Target: "c.2"},
	}
	if err := Mount(dir, shares); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, "c."+name) }
	for path, want := range map[string]error{
		in("rootfs/new"):        nil,
		in("rootfs/volume/new"): nil,
		in("0/new"):             unix.EROFS,
		in("0/volume/new"):      unix.EROFS,
		in("1"):                 unix.EROFS,
		in("2/new2"):            nil,
	} {
		if err := write(path); !errors.Is(err, want) {
			t.Errorf("write %s: %v, want %v", path, err, want)
		}
	}
	if _, err := os.Stat(in("2/volume/file")); !os.IsNotExist(err) {
		t.Errorf("a bind that is not recursive takes a mount along: %v", err)
	}
	if err := Unmount(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(in("rootfs/file")); !os.IsNotExist(err) {
		t.Errorf("the share is still mounted: %v", err)
	}
	if _, err := os.Stat(filepath.Join(source, "volume/file")); err != nil {
		t.Errorf("the source has lost its mount: %v", err)
	}
}

// What a guest makes of a setuid bit or a device node is its own; on the host
// they are nothing.
func TestMountFlags(t *testing.T) {
	inNamespace(t)
	dir, source := t.TempDir(), t.TempDir()
	if err := Mount(dir, []Share{{Source: source, Target: "c.rootfs"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Unmount(dir) })
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Join(dir, "c.rootfs"), &fs); err != nil {
		t.Fatal(err)
	}
	if want := int64(unix.ST_NOSUID | unix.ST_NODEV); fs.Flags&want != want {
		t.Errorf("flags are %#x", fs.Flags)
	}
}

func TestMountNamesTheSource(t *testing.T) {
	inNamespace(t)
	err := Mount(t.TempDir(), []Share{{Source: "/does/not/exist", Target: "c.rootfs"}})
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}
