package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// blockwise is the runtime whose containers have their root file systems on disks,
// and the directory of these.
func blockwise(t testing.TB, uri string) (r runtime, store string) {
	t.Helper()
	store = filepath.Join(scratch, "disks")
	r = vmruntime(t, map[string]string{uriVariable: uri, "rootfs": "block", "rootfs_store": store})
	r.name += "-block"
	return r, store
}

// stored are the disks of the store.
func stored(t testing.TB, store string) []string {
	t.Helper()
	var disks []string
	for _, pattern := range []string{"images/*.erofs", "uppers/*.ext4"} {
		files, err := filepath.Glob(filepath.Join(store, pattern))
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, files...)
	}
	return disks
}

// TestBlock has a container on disks do what 9p cannot, and finds what it has written
// in the next one of the same root, but not in the files of the host.
func TestBlock(t *testing.T) {
	needVM(t)
	needRoot(t)
	libvirtd := startLibvirtd(t)
	nothingLeft(t)
	for _, uri := range []string{uriEmbed, uriSystem} {
		r, store := blockwise(t, uri)
		t.Run(r.name, func(t *testing.T) {
			if uri == uriSystem && libvirtd != nil {
				t.Skip("needs libvirtd: ", libvirtd)
			}
			testBlock(t, r, store)
		})
	}
}

func testBlock(t *testing.T, r runtime, store string) {
	root, volume := newRootfs(t), t.TempDir()
	testutil.WriteFile(t, filepath.Join(root, "etc/told"), "before\n")
	run := func(changes ...change) result {
		t.Helper()
		changes = append([]change{rootfs(root), writable, bind(volume, "/new/volume")}, changes...)
		return r.call(t, "run", "--bundle", r.bundle(t, changes...), r.newID(t))
	}
	same := func(got result, want string) {
		t.Helper()
		if got.Code != 0 || got.Out != want {
			t.Errorf("%s, not %q", got, want)
		}
	}
	same(run(script(
		"awk '$2 == \"/\" { print $3 }' /proc/mounts", "cat /etc/told",
		"mkfifo /pipe && ls -l /pipe | cut -c 1",
		"echo written > /etc/told && echo more > /etc/new && rm /etc/group && mv /home/user /home/moved",
		"chmod 4755 /bin/busybox && echo shared > /new/volume/file",
	)), "overlay\nbefore\np\n")
	for path, want := range map[string]string{
		filepath.Join(root, "etc/told"): "before\n", filepath.Join(volume, "file"): "shared\n",
	} {
		if got := testutil.ReadFile(t, path); got != want {
			t.Errorf("%s on the host has %q, not %q", path, got, want)
		}
	}
	for _, name := range []string{"etc/new", "new", "pipe"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is in the host's root file system", name)
		}
	}
	look := script("cat /etc/told /etc/new /etc/host 2>/dev/null; ls -d /etc/group /home/* 2>/dev/null; stat -c %a /bin/busybox; [ -p /pipe ] && echo pipe")
	same(run(look), "written\nmore\n/home/moved\n4755\npipe\n")

	// What changes on the host is seen where the container has not written.
	testutil.WriteFile(t, filepath.Join(root, "etc/host"), "host\n")
	testutil.WriteFile(t, filepath.Join(root, "etc/told"), "changed\n")
	same(run(look), "written\nmore\nhost\n/home/moved\n4755\npipe\n")
	// A root that is read-only has both, and mount points.
	same(run(look, func(s *specs.Spec) { s.Root.Readonly = true }), "written\nmore\nhost\n/home/moved\n4755\npipe\n")

	// What the root was before is gone.
	if disks := stored(t, store); len(disks) != 2 {
		t.Errorf("the disks are %q, not an image and an upper", disks)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	r.must(t, "image", "gc")
	if disks := stored(t, store); len(disks) != 0 {
		t.Errorf("without the root file system there are still %q", disks)
	}
}

// Without a disk for its writes a container has a root that is read-only, and the
// mount points that its image lacks.
func TestBlockReadOnly(t *testing.T) {
	needVM(t)
	nothingLeft(t)
	r, store := blockwise(t, uriEmbed)
	root := newRootfs(t)
	got := r.call(t, "run", "--bundle", r.bundle(t, rootfs(root), bind(t.TempDir(), "/new/volume"),
		script("ls -d /new/volume", "echo x > /file || echo read-only")), r.newID(t))
	if got.Out != "/new/volume\nread-only\n" || got.Code != 0 {
		t.Error(got)
	}
	if disks := stored(t, store); len(disks) != 1 {
		t.Errorf("the disks are %q, not one image", disks)
	}
}

// An annotation chooses for one container, and how much it may write.
func TestBlockByAnnotation(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	root := newRootfs(t)
	on := annotate("org.vmruntime.rootfs", "block")
	small := annotate("org.vmruntime.rootfs.size", "32MiB")
	got := r.call(t, "run", "--bundle", r.bundle(t, rootfs(root), writable, on, small,
		script("dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null || echo full", "rm /big; sync; df -m / | awk 'NR == 2 { print $2 < 32 }'")), r.newID(t))
	if got.Out != "full\n1\n" || got.Code != 0 {
		t.Error(got)
	}
	said := r.refuse(t, "run", "--bundle", r.bundle(t, annotate("org.vmruntime.rootfs", "disk")), r.newID(t))
	if !strings.Contains(said, `org.vmruntime.rootfs must be "share" or "block", not "disk"`) {
		t.Errorf("it says %q", said)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	r.must(t, "image", "gc")
}

// Two machines never write to one disk.
func TestBlockInUse(t *testing.T) {
	needVM(t)
	nothingLeft(t)
	r, _ := blockwise(t, uriEmbed)
	root := newRootfs(t)
	c := r.startNew(t, rootfs(root), writable, idle)
	c.stdout.wait(t, "ready\n")
	said := refusal(t, r.tryCreate(t, r.bundle(t, rootfs(root), writable)))
	if !strings.Contains(said, "root.path: a running container has this root file system") {
		t.Errorf("it says %q", said)
	}
	if got := c.exec(t, "/bin/sh", "-c", "echo alive > /file; cat /file"); got.Out != "alive\n" {
		t.Errorf("the first: %s", got)
	}
	// What was written a moment ago outlives a kill.
	c.kill(t, "KILL")
	receive(t, "the end", c.exited)
	c.must(t, "delete", c.id)
	got := r.call(t, "run", "--bundle", r.bundle(t, rootfs(root), writable, args("/bin/cat", "/file")), r.newID(t))
	if got.Out != "alive\n" {
		t.Errorf("after the kill: %s", got)
	}
}
