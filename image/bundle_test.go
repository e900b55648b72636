package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/basespec"
)

// needMounts skips where this process may mount no overlay, or no disk.
func needMounts(t testing.TB, disk bool) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(d string) string { return filepath.Join(dir, d) }
	if err := mountOverlay(at("merged"), at("upper"), at("work"), []string{at("lower")}); err != nil {
		t.Skip("needs overlay mounts: ", err)
	}
	if err := unmount(at("merged")); err != nil {
		t.Fatal(err)
	}
	if !disk {
		return
	}
	if err := makeDisk(t.Context(), at("disk"), minDisk); err != nil {
		t.Skip("needs mkfs.ext4: ", err)
	}
	if err := mountDisk(t.Context(), at("disk"), at("merged")); err != nil {
		t.Skip("needs loop devices: ", err)
	}
	if err := unmount(at("merged")); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, text string, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(parts ...string) bool {
	_, err := os.Lstat(filepath.Join(parts...))
	return err == nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bundle(t testing.TB, s *Store, r Request) string {
	t.Helper()
	r.Dir = filepath.Join(t.TempDir(), "bundle")
	must(t, s.Bundle(t.Context(), r))
	t.Cleanup(func() {
		if exists(s.bundleFile(r.Dir)) {
			if err := s.Unbundle(context.Background(), r.Dir, false); err != nil {
				t.Error(err)
			}
		}
	})
	return r.Dir
}

func TestBundle(t *testing.T) {
	needMounts(t, false)
	s := newStore(t, DefaultLimits)
	base := tarOf(t, file("keep", "base"), file("gone", "x"))
	app := tarOf(t, file(".wh.gone", ""), file("app", "y"))
	mustImport(t, s, "a", saved(t, base, app))
	dir := bundle(t, s, Request{Image: "a", Args: []string{"other"}})
	root := filepath.Join(dir, rootfsDir)
	if read(t, root, "keep") != "base" || exists(root, "gone") || !exists(root, "app") {
		t.Error("the layers are not on top of each other")
	}
	var spec specs.Spec
	must(t, json.Unmarshal([]byte(read(t, dir, configFile)), &spec))
	if diff := cmp.Diff([]string{"/run", "other"}, spec.Process.Args); diff != "" {
		t.Error(diff)
	}
	write(t, "mine", root, "keep")
	write(t, "edited", dir, configFile)
	must(t, s.Unbundle(t.Context(), dir, true))
	if exists(root, "keep") {
		t.Error("still mounted")
	}
	// As after a reboot, with the name given to another image.
	mustImport(t, s, "a", saved(t, app))
	must(t, s.Bundle(t.Context(), Request{Dir: dir, Image: "a"}))
	if read(t, root, "keep") != "mine" || read(t, dir, configFile) != "edited" {
		t.Error("what was written is gone")
	}
	if err := s.Bundle(t.Context(), Request{Dir: dir, Image: "b"}); err == nil || !strings.Contains(err.Error(), `it is of image "a", not "b"`) {
		t.Error(err)
	}
	must(t, s.Unbundle(t.Context(), dir, false))
	if exists(dir) {
		t.Error("the bundle is left")
	}
}

// What is not ours stays, and a failure leaves nothing.
func TestBundleFailures(t *testing.T) {
	needMounts(t, false)
	s := newStore(t, DefaultLimits)
	mustImport(t, s, "a", saved(t, tarOf(t, file("x", ""))))
	dir := t.TempDir()
	write(t, "{}", dir, configFile)
	if err := s.Bundle(t.Context(), Request{Dir: dir, Image: "a"}); err == nil || !strings.Contains(err.Error(), "config.json is there already") {
		t.Error(err)
	}
	if read(t, dir, configFile) != "{}" {
		t.Error("somebody's config.json is gone")
	}
	dir = filepath.Join(t.TempDir(), "b")
	if err := s.Bundle(t.Context(), Request{Dir: dir, Image: "a", Size: 5}); err == nil || !strings.Contains(err.Error(), "--size: 5 bytes") {
		t.Error(err)
	}
	nobody := strings.Replace(configOf(t, tarOf(t, file("x", ""))), `"config":{`, `"config":{"User":"nobody",`, 1)
	mustImport(t, s, "b", savedWith(t, nobody, tarOf(t, file("x", ""))))
	if err := s.Bundle(t.Context(), Request{Dir: dir, Image: "b"}); err == nil || !strings.Contains(err.Error(), `User: "nobody" in the image's /etc/passwd`) {
		t.Error(err)
	}
	if exists(dir) || count(t, s, bundlesDir) != 0 {
		t.Error("a bundle is left")
	}
}

func TestBundleSize(t *testing.T) {
	needMounts(t, true)
	s := newStore(t, DefaultLimits)
	mustImport(t, s, "a", saved(t, tarOf(t, file("x", "x"))))
	dir := bundle(t, s, Request{Image: "a", Size: 32 << 20})
	f, err := os.Create(filepath.Join(dir, rootfsDir, "big"))
	must(t, err)
	_, err = io.CopyN(f, zeros{}, 40<<20)
	must(t, f.Close())
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("40 MiB in 32: %v", err)
	}
	must(t, s.Unbundle(t.Context(), dir, true))
	must(t, s.Bundle(t.Context(), Request{Dir: dir, Image: "a"}))
	if !exists(dir, rootfsDir, "big") {
		t.Error("what was written is gone")
	}
}

// Users and volumes are looked up in the image, whose links lead nowhere else.
func TestSpec(t *testing.T) {
	outside := t.TempDir()
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	write(t, "me:x:5:6::/:/bin/sh\n", root, "etc/passwd")
	write(t, "mine:x:7:me\n", root, "etc/group")
	config := `{"os":"linux","config":{"User":"me","Entrypoint":["/e"],"Cmd":["c"],"Env":["A=1"],"WorkingDir":"w","StopSignal":"SIGINT",
		"Volumes":{"/out/volume":{}},"ExposedPorts":{"80/tcp":{},"53/udp":{}},"Labels":{"l":"v"}},
		"rootfs":{"diff_ids":["` + string(digest.FromString("")) + `"]}}`
	spec, err := Image{Config: json.RawMessage(config)}.runtimeSpec(root, nil)
	must(t, err)
	want := specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}}
	if diff := cmp.Diff(want, spec.Process.User); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"A=1", basespec.DefaultPath}, spec.Process.Env); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/e", "c"}, spec.Process.Args); diff != "" || spec.Process.Cwd != "/w" {
		t.Error(diff, spec.Process.Cwd)
	}
	notes := map[string]string{"l": "v", "org.opencontainers.image.os": "linux", "org.opencontainers.image.stopSignal": "SIGINT", "org.opencontainers.image.exposedPorts": "53/udp,80/tcp"}
	if diff := cmp.Diff(notes, spec.Annotations); diff != "" {
		t.Error(diff)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("a volume was made outside: %v, %v", entries, err)
	}
	if !exists(root, outside, "volume") {
		t.Error("the volume is missing")
	}
	// A passwd of the host's is not the image's.
	must(t, os.Remove(filepath.Join(root, "etc/passwd")))
	write(t, "me:x:0:0::/:/bin/sh\n", outside, "passwd")
	must(t, os.Symlink(filepath.Join(outside, "passwd"), filepath.Join(root, "etc/passwd")))
	if _, err := (Image{Config: json.RawMessage(config)}).runtimeSpec(root, nil); err == nil {
		t.Error("a user of the host is taken for one of the image")
	}
}

// Of several who unpack a layer one does, and all have it.
func TestConcurrentImports(t *testing.T) {
	s := newStore(t, DefaultLimits)
	name := archiveIn(t, saved(t, tarOf(t, file("a", noise(1, 100_000))), tarOf(t, file("b", "x"))))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := s.Import(t.Context(), "a", name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := count(t, s, layersDir); n != 2 {
		t.Errorf("%d layers, not 2", n)
	}
	if n := count(t, s, tmpDir); n != 0 {
		t.Errorf("%d leftovers", n)
	}
}

// A layer that was unpacked halfway when its process died is never used.
func TestHalfUnpackedLayer(t *testing.T) {
	s := newStore(t, DefaultLimits)
	i := mustImport(t, s, "a", saved(t, tarOf(t, file("a", "x"))))
	dir := s.layerDir(i.chain()[0])
	// What a crash leaves: a directory that is not in its place, and here even one
	// that is, without its record.
	must(t, os.Mkdir(s.path(tmpDir, "new-1"), 0o700))
	must(t, os.Remove(filepath.Join(dir, layerFile)))
	must(t, os.Remove(filepath.Join(dir, treeDir, "a")))
	mustImport(t, s, "a", saved(t, tarOf(t, file("a", "x"))))
	if !exists(dir, treeDir, "a") {
		t.Error("the broken layer was used")
	}
	freed, err := s.Collect(t.Context(), 0)
	must(t, err)
	if freed.Leftovers != 1 || count(t, s, tmpDir) != 0 || !exists(dir, treeDir, "a") {
		t.Errorf("%+v", freed)
	}
}

func TestCollect(t *testing.T) {
	needMounts(t, false)
	s := newStore(t, DefaultLimits)
	base := tarOf(t, file("base", "1234"))
	a := mustImport(t, s, "a", saved(t, base, tarOf(t, file("a", "1"))))
	b := mustImport(t, s, "b", saved(t, base, tarOf(t, file("b", "22"))))
	dir := bundle(t, s, Request{Image: "a"})
	collect := func(age time.Duration, want Freed) {
		t.Helper()
		got, err := s.Collect(t.Context(), age)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	collect(0, Freed{})
	must(t, s.Remove("a"))
	must(t, s.Remove("b"))
	collect(time.Hour, Freed{})
	collect(0, Freed{Images: []digest.Digest{b.ID}, Layers: b.Layers[1:], Bytes: 2})
	if read(t, dir, rootfsDir, "base") != "1234" {
		t.Error("a layer in use is gone")
	}
	must(t, s.Unbundle(t.Context(), dir, false))
	got, err := s.Collect(t.Context(), 0)
	must(t, err)
	slices.Sort(got.Layers)
	layers := slices.Sorted(slices.Values(a.Layers))
	if diff := cmp.Diff(Freed{Images: []digest.Digest{a.ID}, Layers: layers, Bytes: 5}, got); diff != "" {
		t.Error(diff)
	}
	for _, d := range []string{layersDir, imagesDir, namesDir, tmpDir, bundlesDir} {
		if n := count(t, s, d); n != 0 {
			t.Errorf("%d entries are left in %s", n, d)
		}
	}
}

// A temporary bundle is in use until its process ends.
func TestCollectTemporary(t *testing.T) {
	needMounts(t, false)
	s := newStore(t, DefaultLimits)
	name := archiveIn(t, saved(t, tarOf(t, file("a", "x"))))
	dir := filepath.Join(t.TempDir(), "b")
	b, err := s.Temporary(t.Context(), Request{Dir: dir, Image: name}, name)
	must(t, err)
	freed, err := s.Collect(t.Context(), 0)
	must(t, err)
	if diff := cmp.Diff(Freed{}, freed); diff != "" || read(t, dir, rootfsDir, "a") != "x" {
		t.Error(diff)
	}
	// As when the process dies.
	must(t, b.lock.Close())
	freed, err = s.Collect(t.Context(), 0)
	must(t, err)
	if freed.Leftovers != 1 || len(freed.Images) != 1 || exists(dir) {
		t.Errorf("%+v", freed)
	}
}

func TestCommit(t *testing.T) {
	needMounts(t, false)
	s := newStore(t, DefaultLimits)
	base := tarOf(t, dir("d"), file("d/old", "x"), file("gone", "x"), file("kept", "x"),
		entry{tar.Header{Name: "hole", Mode: 0o600, ModTime: time.Unix(5, 0)}, strings.Repeat("\x00", 5000)})
	config := strings.Replace(configOf(t, base), `"config":{`, `"config":{"Healthcheck":{"Test":["x"]},`, 1)
	i := mustImport(t, s, "a", savedWith(t, config, base))
	b := bundle(t, s, Request{Image: "a"})
	root := filepath.Join(b, rootfsDir)
	must(t, os.Remove(filepath.Join(root, "gone")))
	must(t, os.RemoveAll(filepath.Join(root, "d")))
	must(t, os.Mkdir(filepath.Join(root, "d"), 0o700))
	write(t, "new", root, "d/new")
	must(t, os.Symlink("/etc", filepath.Join(root, "link")))
	must(t, os.Link(filepath.Join(root, "d/new"), filepath.Join(root, "same")))
	out := filepath.Join(t.TempDir(), "snapshot.tar")
	must(t, s.Commit(t.Context(), b, out))

	other := newStore(t, DefaultLimits)
	snapshot, err := other.Import(t.Context(), "s", out)
	must(t, err)
	if len(snapshot.Layers) != 2 || snapshot.Layers[0] != i.Layers[0] {
		t.Errorf("the layers are %v, on %v", snapshot.Layers, i.Layers)
	}
	if !strings.Contains(string(snapshot.Config), "Healthcheck") {
		t.Errorf("the configuration has lost something: %s", snapshot.Config)
	}
	again := filepath.Join(bundle(t, other, Request{Image: "s"}), rootfsDir)
	if read(t, again, "d/new") != "new" || read(t, again, "same") != "new" || read(t, again, "kept") != "x" || exists(again, "gone") || exists(again, "d/old") {
		t.Error("the snapshot is not what was written")
	}
}

// A container that puts a link in the way gets nothing of the host into a
// snapshot: the thread that reads has no host.
func TestWriteUpperStaysInside(t *testing.T) {
	needRoot(t)
	upper, outside := t.TempDir(), t.TempDir()
	write(t, "secret", outside, "file")
	must(t, os.Symlink(outside, filepath.Join(upper, "link")))
	done := make(chan error)
	var b strings.Builder
	go func() { done <- writeUpper(upper, &b) }()
	must(t, <-done)
	if strings.Contains(b.String(), "secret") {
		t.Error("a file of the host is in the layer")
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("this process has lost its root: ", err)
	}
}
