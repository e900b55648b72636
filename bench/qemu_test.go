package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"github.com/vmruntime/vmruntime/vm"
)

var ofLibvirt = machine{
	"qemu-system-x86_64", "-name", "guest=x", "-S", "-object", `{"qom-type":"secret","id":"masterKey0"}`, "-machine", "pc-q35-7.2",
	"-m", "1024", "-chardev", "socket,id=charmonitor,fd=27,server=on", "-mon", "chardev=charmonitor,id=monitor",
	"-no-hpet", "-no-shutdown", "-kernel", "/k", "-append", "quiet", "-fsdev", "local,multidevs=remap,id=fs,path=/run/x/share",
	"-device", `{"driver":"virtio-9p-pci","fsdev":"fs"}`, "-device", `{"filename":"/run/x/seed.iso"}`, "-sandbox", "on",
}

// A bare clone has the devices of libvirt's and none of its threads of control.
func TestArguments(t *testing.T) {
	c := unaided{Dir: "/d", machine: ofLibvirt}
	got := strings.Join(c.arguments(), " ")
	for _, gone := range []string{"guest=x", "-S", "masterKey", "charmonitor", "no-shutdown", "sandbox", "qemu-system"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is left in %s", gone, got)
		}
	}
	for _, kept := range []string{"-machine pc-q35-7.2 -m 1024 -no-hpet -kernel /k", "virtio-9p-pci", "/d/monitor.sock"} {
		if !strings.Contains(got, kept) {
			t.Errorf("%s is not in %s", kept, got)
		}
	}
}

func TestChildren(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if got := children(os.Getpid()); !slices.Contains(got, cmd.Process.Pid) {
		t.Errorf("children %v lack %d", got, cmd.Process.Pid)
	}
	if got := children(cmd.Process.Pid); len(got) != 0 {
		t.Errorf("sleep has children %v", got)
	}
}

func TestPathOf(t *testing.T) {
	for end, want := range map[string]string{"/seed.iso": "/run/x/seed.iso", "/share": "/run/x/share", "/none": ""} {
		if got := pathOf(ofLibvirt, end); got != want {
			t.Errorf("%s: %q, want %q", end, got, want)
		}
	}
}

func TestBareShare(t *testing.T) {
	got, err := ofLibvirt.share(&lab{checkout: "/c"})
	want := []string{"-fsdev", "local,multidevs=remap,id=fs,path=/c/build/bench", "-device", `{"driver":"virtio-9p-pci","fsdev":"fs"}`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (machine{"qemu", "-m", "1"}).share(&lab{}); err == nil {
		t.Error("a share was found where there is none")
	}
}

func TestPlain(t *testing.T) {
	m := machine{
		"qemu", "-global", "ICH9-LPC.noreboot=off", "-global", "virtio-9p-pci.ioeventfd=off",
		"-device", `{"driver":"virtio-serial-pci","id":"virtio-serial0","max_ports":2,"bus":"pcie.0"}`,
	}
	if got, want := m.globals(), []string{"-global", "virtio-9p-pci.ioeventfd=off"}; !slices.Equal(got, want) {
		t.Errorf("globals %q, want %q", got, want)
	}
	want := machine{"qemu", "-global", "ICH9-LPC.noreboot=off", "-device", `{"driver":"virtio-serial-pci","id":"virtio-serial0","bus":"pcie.0"}`}
	if got := m.plain(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNIC(t *testing.T) {
	const other = `{"driver":"virtio-net-pci","netdev":"n1","mac":"52:54:00:00:00:01"}`
	for _, test := range []struct{ netdev, want string }{
		{`{"type":"tap","fd":"3","id":"n0"}`, "tap,id=n0,ifname=tap0,script=no,downscript=no"},
		{`{"type":"tap","fd":"3","vhost":true,"vhostfd":"4","id":"n0"}`, "tap,id=n0,ifname=tap0,script=no,downscript=no,vhost=on"},
	} {
		m := machine{"qemu", "-netdev", test.netdev, "-device", other, "-device", `{"driver":"virtio-net-pci","netdev":"n0","mac":"52:54:00:00:00:00"}`}
		got, err := m.nic("tap0", "02:00:00:00:00:09")
		want := []string{"-netdev", test.want, "-device", `{"driver":"virtio-net-pci","mac":"02:00:00:00:00:09","netdev":"n0"}`}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := ofLibvirt.nic("tap0", ""); err == nil {
		t.Error("a NIC was found where there is none")
	}
}

func TestBare(t *testing.T) {
	got := ofLibvirt.bare(t.Context(), "/k2", "/i", []string{"job=x"}, "-device", "d").Args
	want := []string{"-m", "1024", "-no-hpet", "-serial", "null", "-kernel", "/k2", "-initrd", "/i", "-append", vm.Cmdline(vm.TCG, "job=x"), "-device", "d"}
	if !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("%q", got)
	}
}

// Everything but PID 1 stays as it is.
func TestReplaceInit(t *testing.T) {
	var from, to bytes.Buffer
	archive := cpio.NewWriter(&from)
	for name, body := range map[string]string{"init": "the agent", "modules/order": "9p.ko"} {
		if err := archive.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | 0o555, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := copyArchive(cpio.NewWriter(&to), cpio.NewReader(&from), []byte("the other one")); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for files := cpio.NewReader(&to); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = string(body)
	}
	if len(got) != 2 || got["init"] != "the other one" || got["modules/order"] != "9p.ko" {
		t.Errorf("%q", got)
	}
}
