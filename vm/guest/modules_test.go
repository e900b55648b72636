package guest

import (
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// makeTree writes a modules directory; each module is a path with its
// dependencies.
func makeTree(t *testing.T, modules map[string]string, builtin string) tree {
	t.Helper()
	dir := t.TempDir()
	for path, depends := range modules {
		path = filepath.Join(dir, "kernel", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		body := elfFile(elf.ET_REL, nil, "license=GPL\x00depends="+depends+"\x00name=x\x00")
		switch filepath.Ext(path) {
		case ".zst":
			body = pack(t, body, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
		case ".gz":
			body = pack(t, body, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestResolveModules(t *testing.T) {
	tree := makeTree(t, map[string]string{
		"fs/9p/9p.ko.zst":                "9pnet,netfs",
		"net/9p/9pnet.ko":                "",
		"net/9p/9pnet_virtio.ko.gz":      "virtio-ring,9pnet,virtio",
		"drivers/virtio/virtio-ring.ko":  "",
		"drivers/virtio/virtio.ko":       "virtio_ring",
		"drivers/char/virtio-rng.ko":     "virtio",
		"drivers/net/unrelated/wifi.ko":  "mac80211",
		"fs/fuse/virtiofs.ko":            "fuse,virtio",
		"fs/fuse/fuse.ko":                "",
		"fs/ext4/ext4.ko":                "mbcache",
		"fs/mbcache.ko":                  "",
		"drivers/net/virtio_net.ko.part": "",
	}, "kernel/fs/netfs/netfs.ko\nkernel/fs/isofs/isofs.ko\n")
	modules, err := tree.resolve(wanted{
		required: []string{"9p", "9pnet_virtio", "isofs"}, optional: []string{"overlay", "virtio_rng"},
		onDemand: []string{"virtiofs"}, layers: []string{"crc32c_generic", "ext4", "virtio_rng"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range modules {
		name := m.file
		if m.list != listOrder {
			name = m.list + " " + name
		}
		got = append(got, name)
		if !strings.HasPrefix(string(m.body), elf.ELFMAG) {
			t.Errorf("%s is not unpacked", m.file)
		}
	}
	want := []string{
		"9pnet.ko", "9p.ko", "virtio-ring.ko", "virtio.ko", "9pnet_virtio.ko", "virtio-rng.ko", "on-demand fuse.ko", "on-demand virtiofs.ko",
		"layers mbcache.ko", "layers ext4.ko",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("load order (-want +got):\n%s", diff)
	}
}

// What calls itself signed and is not stays as it is: the kernel will say so.
func TestUnsigned(t *testing.T) {
	const header = "\x00\x00\x02\x00\x00\x00\x00\x00"
	for _, test := range []struct{ body, want string }{
		{"module" + "signature" + header + "\x00\x00\x00\x09" + signatureMark, "module"},
		{"module", "module"},
		{"", ""},
		{"short" + signatureMark, "short" + signatureMark},
		{"module" + header + "\x00\x00\x00\x07" + signatureMark, "module" + header + "\x00\x00\x00\x07" + signatureMark},
		{header + "\xff\xff\xff\xff" + signatureMark, header + "\xff\xff\xff\xff" + signatureMark},
		{header + "\x00\x00\x00\x00" + signatureMark, ""},
	} {
		if got := string(unsigned([]byte(test.body))); got != test.want {
			t.Errorf("%q became %q, not %q", test.body, got, test.want)
		}
	}
}

func TestResolveModulesRefuses(t *testing.T) {
	tree := makeTree(t, map[string]string{"9p.ko": "9pnet"}, "")
	_, err := tree.resolve(wanted{required: []string{"9p"}})
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "kernel module 9pnet: file does not exist, needed by 9p" {
		t.Errorf("error is %v", err)
	}
	if err := os.WriteFile(tree.files["9p"], []byte("\x1f\x8bgarbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.resolve(wanted{optional: []string{"9p"}}); err == nil {
		t.Error("a broken module is not an optional one")
	}
	if _, err := openTree(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error of an empty directory is %v", err)
	}
}
