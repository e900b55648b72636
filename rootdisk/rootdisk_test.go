package rootdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const size, limit = 64 << 20, 1 << 30

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
}

// tree is a root file system in a directory.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	write(t, filepath.Join(dir, "etc/hosts"), "")
	write(t, filepath.Join(dir, "bin/sh"), "shell")
	must(t, os.Symlink("sh", filepath.Join(dir, "bin/ash")))
	return dir
}

func (s *Store) prepare(t *testing.T, rootfs string) Disks {
	t.Helper()
	d, release, err := s.Prepare(context.Background(), Request{Rootfs: rootfs, Size: size, Limit: limit})
	must(t, err)
	release()
	return d
}

// files are those of the store, without locks.
func (s *Store) files(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{imagesDir, uppersDir} {
		entries, err := os.ReadDir(s.path(dir))
		must(t, err)
		for _, e := range entries {
			files = append(files, filepath.Join(s.path(dir), e.Name()))
		}
	}
	return files
}

// Whatever changes in a root file system, the image of before is not given again.
func TestChanges(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	first := s.prepare(t, dir)
	if again := s.prepare(t, dir); again != first {
		t.Errorf("nothing has changed, and it is %v, not %v", again, first)
	}
	shell := filepath.Join(dir, "bin/sh")
	old, err := os.Stat(shell)
	must(t, err)
	before := first
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"content of equal length, with the time set back", func() error {
			return errors.Join(os.WriteFile(shell, []byte("SHELL"), 0o644), os.Chtimes(shell, old.ModTime(), old.ModTime()))
		}},
		{"another file in its place", func() error {
			return errors.Join(os.WriteFile(shell+"2", []byte("SHELL"), 0o644), os.Rename(shell+"2", shell))
		}},
		{"mode", func() error { return os.Chmod(shell, 0o755) }},
		{"mode of a directory", func() error { return os.Chmod(filepath.Join(dir, "bin"), 0o700) }},
		{"attribute of a directory", func() error { return unix.Setxattr(filepath.Join(dir, "bin"), "user.a", []byte("b"), 0) }},
		{"link", func() error {
			return errors.Join(os.Remove(filepath.Join(dir, "bin/ash")), os.Symlink("zsh", filepath.Join(dir, "bin/ash")))
		}},
		{"new file", func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o644) }},
		{"removed file", func() error { return os.Remove(filepath.Join(dir, "new")) }},
		{"time of a directory", func() error { return os.Chtimes(filepath.Join(dir, "bin"), time.Unix(1, 0), time.Unix(1, 0)) }},
		{"placeholder with content", func() error { return os.WriteFile(filepath.Join(dir, "etc/hosts"), []byte("x"), 0o644) }},
	} {
		if err := change.do(); errors.Is(err, unix.ENOTSUP) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		now := s.prepare(t, dir)
		if now.Lower == before.Lower {
			t.Errorf("%s: the image is the one of before", change.what)
		}
		if now.Upper != first.Upper {
			t.Errorf("%s: what the container has written is lost", change.what)
		}
		before = now
	}
	freed, err := s.Collect(context.Background())
	must(t, err)
	if freed.Images < 9 || freed.Uppers != 0 || len(s.files(t)) != 4 {
		t.Errorf("collected %+v, left %q", freed, s.files(t))
	}
}

// The times of what engines make for each container are not the image's.
func TestPlaceholders(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	first := s.prepare(t, dir)
	hosts := filepath.Join(dir, "etc/hosts")
	must(t, os.Remove(hosts), os.WriteFile(hosts, nil, 0o644), os.Mkdir(filepath.Join(dir, "dev"), 0o755), os.Remove(filepath.Join(dir, "dev")))
	if now := s.prepare(t, dir); now != first {
		t.Errorf("it is %v, not %v", now, first)
	}
}

// A directory that is removed takes its disks along, another one of its name gets
// none of them.
func TestCollect(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	first := s.prepare(t, dir)
	if freed, err := s.Collect(context.Background()); err != nil || freed != (Freed{}) {
		t.Errorf("collected %+v, %v of what is in use", freed, err)
	}
	must(t, os.RemoveAll(dir))
	write(t, filepath.Join(dir, "bin/sh"), "shell")
	if now := s.prepare(t, dir); now.Upper == first.Upper {
		t.Error("a new directory has what was written to the old one")
	}
	must(t, os.RemoveAll(filepath.Dir(dir)))
	write(t, s.path(imagesDir, ".half"), "")
	write(t, s.path(imagesDir, "unknown"+imageSuffix), "")
	freed, err := s.Collect(context.Background())
	must(t, err)
	if left := s.files(t); len(left) != 0 || freed.Images != 3 || freed.Uppers != 2 || freed.Bytes == 0 {
		t.Errorf("collected %+v, left %q", freed, left)
	}
}

// Disks that somebody is about to use stay.
func TestCollectWaits(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	_, release, err := s.Prepare(context.Background(), Request{Rootfs: dir, Size: size, Limit: limit})
	must(t, err, os.RemoveAll(dir))
	if freed, err := s.Collect(context.Background()); err != nil || freed != (Freed{}) {
		t.Errorf("collected %+v, %v", freed, err)
	}
	release()
	if freed, err := s.Collect(context.Background()); err != nil || freed.Uppers != 1 {
		t.Errorf("collected %+v, %v", freed, err)
	}
}

// A file system that is not mounted just now has not gone.
func TestGone(t *testing.T) {
	dir := t.TempDir()
	d, err := findDirectory(dir)
	must(t, err)
	devices := func(own uint64, above ...uint64) []uint64 {
		return append(append([]uint64{own}, above...), d.Devices...)
	}
	elsewhere := d
	elsewhere.Devices = append([]uint64{d.Devices[0] + 1}, d.Devices[1:]...)
	older := d
	older.Born--
	missing := directory{Path: filepath.Join(dir, "a/b"), Devices: devices(d.Devices[0], d.Devices[0])}
	// The mount point has gone as well, so that nobody will mount it again.
	inner := directory{Path: filepath.Join(dir, "a/b"), Devices: devices(d.Devices[0]+1, d.Devices[0]+1)}
	unmounted := directory{Path: filepath.Join(dir, "a/b"), Devices: append([]uint64{d.Devices[0] + 1, d.Devices[0] + 1, d.Devices[0] + 1}, d.Devices[1:]...)}
	for name, test := range map[string]struct {
		d    directory
		want bool
	}{"there": {d, false}, "another file system": {elsewhere, false}, "another directory": {older, true}, "missing": {missing, true}, "with its mount point": {inner, true}, "unmounted": {unmounted, false}} {
		if got := test.d.gone(); got != test.want {
			t.Errorf("%s: gone is %v", name, got)
		}
	}
}

func TestReadOnly(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	r := Request{Rootfs: dir, Size: size, Limit: limit, ReadOnly: true}
	d, release, err := s.Prepare(context.Background(), r)
	must(t, err)
	release()
	if d.Upper != "" {
		t.Errorf("a read-only root has the upper %s", d.Upper)
	}
	upper := s.prepare(t, dir).Upper
	d, release, err = s.Prepare(context.Background(), r)
	must(t, err)
	release()
	if d.Upper != upper {
		t.Errorf("what was written before is not given: %q", d.Upper)
	}
}

func TestRefuses(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	must(t, os.Truncate(filepath.Join(dir, "bin/sh"), limit+1))
	_, _, err := s.Prepare(context.Background(), Request{Rootfs: dir, Size: size, Limit: limit})
	if err == nil || !strings.Contains(err.Error(), "image_limit") {
		t.Errorf("error of a sparse file is %v", err)
	}
	_, err = mountAt([]*mountinfo.Info{{Mountpoint: "/r/proc"}}, "/r")
	if err == nil || !strings.Contains(err.Error(), "/r/proc is a mount of its own") {
		t.Errorf("error of a mount is %v", err)
	}
	if left := s.files(t); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

// Of many that want one image and one upper each gets the same.
func TestConcurrent(t *testing.T) {
	s, dir := Open(t.TempDir()), tree(t)
	var wait sync.WaitGroup
	disks := make([]Disks, 8)
	for i := range disks {
		wait.Go(func() { disks[i] = s.prepare(t, dir) })
	}
	wait.Wait()
	for _, d := range disks {
		if d != disks[0] {
			t.Errorf("%v is not %v", d, disks[0])
		}
	}
	if left := s.files(t); len(left) != 4 {
		t.Errorf("files: %q", left)
	}
}

// What engines mount is known by the overlay's directories: containers of one image
// share its disk, each has an upper of its own, which outlives the mount.
func TestOverlay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts overlays")
	}
	// An overlay cannot be on another one.
	base, err := os.MkdirTemp("/dev/shm", "rootdisk-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	s := Open(filepath.Join(base, "store"))
	write(t, filepath.Join(base, "layer/diff/bin/sh"), "shell")
	mount := func(name string) string {
		for _, dir := range []string{"diff", "work", "merged"} {
			must(t, os.MkdirAll(filepath.Join(base, name, dir), 0o755))
		}
		write(t, filepath.Join(base, name+"-init/diff/etc/hosts"), "")
		merged := filepath.Join(base, name, "merged")
		line := fmt.Sprintf("cd %s && mount -t overlay -o lowerdir=%s-init/diff:layer/diff,upperdir=%s/diff,workdir=%s/work overlay %s", base, name, name, name, merged)
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Skipf("needs overlay mounts: %v: %s", err, out)
		}
		t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
		return merged
	}
	one, two := s.prepare(t, mount("one")), s.prepare(t, mount("two"))
	if one.Lower != two.Lower || one.Upper == two.Upper {
		t.Errorf("disks of two containers of one image: %v, %v", one, two)
	}
	merged := filepath.Join(base, "one/merged")
	must(t, unix.Unmount(merged, 0), os.Remove(merged))
	_, err = s.Collect(context.Background())
	must(t, err)
	if again := s.prepare(t, mount("one")); again != one {
		t.Errorf("mounted again: %v, not %v", again, one)
	}
	// A container whose own files differ has an image of its own, which goes with it.
	write(t, filepath.Join(merged, "copied"), "in")
	changed := s.prepare(t, merged)
	if changed.Lower == one.Lower || changed.Upper != one.Upper {
		t.Errorf("with a file copied in: %v after %v", changed, one)
	}
	must(t, unix.Unmount(merged, 0), os.RemoveAll(filepath.Join(base, "one")), os.RemoveAll(filepath.Join(base, "one-init")))
	_, err = s.Collect(context.Background())
	must(t, err)
	want := []string{two.Lower, strings.TrimSuffix(two.Lower, imageSuffix) + recordSuffix, two.Upper, strings.TrimSuffix(two.Upper, upperSuffix) + recordSuffix}
	if diff := cmp.Diff(want, s.files(t)); diff != "" {
		t.Errorf("after the removal of the first (-want +got):\n%s", diff)
	}
	must(t, unix.Unmount(filepath.Join(base, "two/merged"), 0), os.RemoveAll(filepath.Join(base, "two")), os.RemoveAll(filepath.Join(base, "layer")))
	_, err = s.Collect(context.Background())
	must(t, err)
	if left := s.files(t); len(left) != 0 {
		t.Errorf("after the removal of the image: %q", left)
	}
}
