package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

func file(t *testing.T, dir, name string, body []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// example is a disk of small files.
func example(t *testing.T) Disk {
	t.Helper()
	if err := checkTools(Raw); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	return Disk{
		Kernel: file(t, dir, "kernel", []byte("a kernel")), Initramfs: file(t, dir, "initramfs", []byte("some base")),
		Layers: []string{file(t, dir, "l0", bytes.Repeat([]byte("0"), 5000)), file(t, dir, "l1", bytes.Repeat([]byte("1"), 3000))},
		Upper:  file(t, dir, "upper", append(make([]byte, 3<<20), 'u')),
		Guest:  protocol.BootDisk{User: "worker", Container: protocol.Container{ID: "disk", Spec: &specs.Spec{Version: "1.0.0"}}},
	}
}

func TestWrite(t *testing.T) {
	d, dir := example(t), t.TempDir()
	out := filepath.Join(dir, "disk")
	if err := d.make(t.Context(), out, Raw, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	guest := described(t, out)
	if id := binary.LittleEndian.Uint32(disk[440:]); id != guest.ID || id == 0 {
		t.Errorf("the disk is %08x, the guest looks for %08x", id, guest.ID)
	}
	if guest.User != "worker" || guest.Container.Spec.Version != "1.0.0" || len(guest.Layers) != 2 {
		t.Fatalf("the guest is told %+v", guest)
	}
	for i, layer := range guest.Layers {
		part := disk[layer.Offset : layer.Offset+layer.Size]
		if want := []int{5000, 3000}[i]; bytes.Count(part, []byte{byte('0' + i)}) != want || layer.Offset%layerAlignment != 0 {
			t.Errorf("layer %d is not at %+v", i, layer)
		}
	}
	entry := func(n int) []byte { return disk[446+16*(n-1) : 446+16*n] }
	upper := int64(binary.LittleEndian.Uint32(entry(protocol.UpperPartition)[8:])) * sector
	if disk[upper+3<<20] != 'u' {
		t.Error("the upper file system is not where the table says")
	}
	if entry(1)[0] != 0x80 || entry(1)[4] != espType || entry(2)[4] != dataType || entry(3)[4] != linuxType || disk[510] != 0x55 {
		t.Errorf("the table is % x", disk[446:512])
	}
	if end := upper + int64(binary.LittleEndian.Uint32(entry(3)[12:]))*sector; end != int64(len(disk)) {
		t.Errorf("the last partition ends at %d, the disk at %d", end, len(disk))
	}
}

// described reads back what the initramfs on the disk says.
func described(t *testing.T, disk string) protocol.BootDisk {
	t.Helper()
	read := func(name string) []byte {
		cmd := exec.Command("mtype", "-i", disk+"@@1M", "::/"+name)
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		return text
	}
	if kernel := read("vmlinuz"); string(kernel) != "a kernel" {
		t.Errorf("the kernel is %q", kernel)
	}
	for _, name := range []string{"syslinux.cfg", "loader/entries/vmruntime.conf"} {
		if text := string(read(name)); !strings.Contains(strings.ToLower(text), "initrd /initramfs") || !strings.Contains(text, commandLine) {
			t.Errorf("%s: %s", name, text)
		}
	}
	base, added, _ := bytes.Cut(read("initramfs"), []byte("070701"))
	if strings.TrimRight(string(base), "\x00") != "some base" || len(base)%4 != 0 {
		t.Errorf("the base is %q", base)
	}
	archive := cpio.NewReader(bytes.NewReader(append([]byte("070701"), added...)))
	header, err := archive.Next()
	if err != nil || "/"+header.Name != protocol.DiskFile {
		t.Fatal(header, err)
	}
	text, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	var guest protocol.BootDisk
	if err := json.Unmarshal(text, &guest); err != nil {
		t.Fatal(err)
	}
	return guest
}

func TestMissingTool(t *testing.T) {
	example(t)
	t.Setenv("PATH", t.TempDir())
	if err := checkTools(Raw); err == nil || err.Error() != "mformat is missing: install the package mtools" {
		t.Error(err)
	}
}

func TestTooLarge(t *testing.T) {
	if _, err := os.Stat(mbrFile); err != nil {
		t.Skip(err)
	}
	_, err := masterBootRecord(1, []partition{{Extent: protocol.Extent{Offset: 1 << 20, Size: 1 << 41}}})
	if err == nil || !strings.Contains(err.Error(), "2 TiB") {
		t.Error(err)
	}
}
