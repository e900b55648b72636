package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// makeGuest writes a guest's files without a kernel in them.
func makeGuest(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpen(t *testing.T) {
	dir := makeGuest(t, map[string]string{
		"vmlinux": "k", "initramfs": "i", "vmlinuz": "z",
		"guest.json": `{"release":"6.1.0","protocol":1,"agentBuild":"abc"}`,
	})
	image, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if image.Kernel != filepath.Join(dir, "vmlinux") || image.Initramfs != filepath.Join(dir, "initramfs") ||
		image.Vmlinuz != filepath.Join(dir, "vmlinuz") || image.DiskInitramfs != filepath.Join(dir, "initramfs-disk") ||
		image.Release != "6.1.0" || image.AgentBuild != "abc" {
		t.Errorf("opened %+v", image)
	}
	if err := image.CheckDisk(); err == nil || !strings.Contains(err.Error(), "initramfs-disk is not there") {
		t.Errorf("without what disks boot the error is %v", err)
	}
	if err := os.WriteFile(image.DiskInitramfs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := image.CheckDisk(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":        {nil, "no guest is built"},
		"no kernel":      {map[string]string{"initramfs": "i", "guest.json": `{"protocol":1}`}, "no guest is built: vmlinux is not there"},
		"no initramfs":   {map[string]string{"vmlinux": "k", "guest.json": `{"protocol":1}`}, "no guest is built: initramfs is not there"},
		"damaged":        {map[string]string{"vmlinux": "k", "initramfs": "i", "guest.json": `{`}, "guest.json: unexpected end of JSON input"},
		"other protocol": {map[string]string{"vmlinux": "k", "initramfs": "i", "guest.json": `{"protocol":999}`}, "it speaks protocol 999, this is 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Open(makeGuest(t, test.files))
			if err == nil || !strings.Contains(err.Error(), test.want+" (remedy: vmruntime guest build)") {
				t.Errorf("error is %v", err)
			}
			if missing := strings.Contains(test.want, "no guest"); errors.Is(err, errMissing) != missing {
				t.Errorf("%v is errMissing: %v", err, !missing)
			}
		})
	}
}

func TestDefaultPlaces(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"checkout/bin", "checkout/build", "prefix/bin", "links"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, exe := range []string{"checkout/bin/vmruntime", "prefix/bin/vmruntime"} {
		if err := os.WriteFile(filepath.Join(root, exe), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../checkout/bin/vmruntime", filepath.Join(root, "links/vmruntime")); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ exe, dir, agent, emulator string }{
		{"checkout/bin/vmruntime", "checkout/build/guest", "checkout/bin/vmagent", "checkout/bin/vmruntime-qemu"},
		{"links/vmruntime", "checkout/build/guest", "checkout/bin/vmagent", "checkout/bin/vmruntime-qemu"},
		{"prefix/bin/vmruntime", "prefix/lib/vmruntime/guest", "prefix/lib/vmruntime/vmagent", "prefix/lib/vmruntime/vmruntime-qemu"},
	}
	for _, test := range tests {
		exe := filepath.Join(root, test.exe)
		for what, pair := range map[string][2]string{
			"guest":    {DefaultDir(exe), test.dir},
			"agent":    {DefaultAgent(exe), test.agent},
			"emulator": {DefaultEmulator(exe), test.emulator},
		} {
			if want := filepath.Join(root, pair[1]); pair[0] != want {
				t.Errorf("%s of %s is %s, want %s", what, test.exe, pair[0], want)
			}
		}
	}
}
