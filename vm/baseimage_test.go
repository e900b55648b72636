package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func needQemuImg(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("needs qemu-img: ", err)
	}
}

func img(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// rawDisk has a boot sector.
func rawDisk(t *testing.T, path string) {
	t.Helper()
	disk := make([]byte, 1<<20)
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpenBaseImage(t *testing.T) {
	needQemuImg(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	rawDisk(t, path("raw"))
	img(t, "create", "-q", "-f", "qcow2", path("qcow2"), "1M")
	img(t, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path("qcow2"), path("backed"))
	img(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+path("data"), path("elsewhere"), "1M")
	img(t, "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=secret",
		"-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path("encrypted"), "1M")
	img(t, "create", "-q", "-f", "vmdk", path("vmdk"), "1M")
	for name, text := range map[string]string{"text": strings.Repeat("no disk\n", 1000), "empty": ""} {
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("qcow2", path("link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]BootDisk{
		"raw":   {Base: path("raw"), BaseFormat: "raw"},
		"qcow2": {Base: path("qcow2"), BaseFormat: "qcow2"},
		"link":  {Base: path("qcow2"), BaseFormat: "qcow2"},
	} {
		if got, err := OpenBaseImage(context.Background(), path(name)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"missing": "does not exist", ".": "is not a file", "text": "neither a qcow2 image nor a raw disk", "empty": "neither",
		"backed": "has a backing file", "elsewhere": "has its data in another file", "encrypted": "is encrypted", "vmdk": "format vmdk",
	} {
		_, err := OpenBaseImage(context.Background(), path(name))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMakeOverlay(t *testing.T) {
	needQemuImg(t)
	dir := t.TempDir()
	d := BootDisk{Base: filepath.Join(dir, "base"), BaseFormat: "raw", Overlay: filepath.Join(dir, "overlays", "o.qcow2")}
	rawDisk(t, d.Base)
	sum := func() [32]byte {
		text, err := os.ReadFile(d.Base)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(text)
	}
	before := sum()
	for range 2 { // the second time over what an earlier machine has left
		if err := MakeOverlay(context.Background(), d); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(d.Overlay)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		out, err := exec.Command("qemu-img", "info", d.Overlay).Output()
		if err != nil || !bytes.Contains(out, []byte("backing file: "+d.Base)) || !bytes.Contains(out, []byte("backing file format: raw")) {
			t.Errorf("%v:\n%s", err, out)
		}
		img(t, "bench", "-q", "-w", "-c", "4", "-f", "qcow2", d.Overlay)
	}
	if sum() != before {
		t.Error("the base has changed")
	}
	for range 2 {
		if err := RemoveOverlay(d.Overlay); err != nil {
			t.Fatal(err)
		}
	}
}
