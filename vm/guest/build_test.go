package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
)

func TestWriteInitramfs(t *testing.T) {
	var out bytes.Buffer
	modules := []module{
		{"a.ko", []byte("A"), listOrder}, {"b.ko", []byte("BB"), listOrder},
		{"c.ko", []byte("C"), listOnDemand}, {"d.ko", []byte("D"), listLayers},
	}
	if err := writeInitramfs(&out, []byte("agent"), modules); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"040755 dev ", "040755 proc ", "040755 sys ", "040755 run ", "040755 modules ",
		"0100555 init agent", "0100444 modules/a.ko A", "0100444 modules/b.ko BB", "0100444 modules/c.ko C", "0100444 modules/d.ko D",
		"0100444 modules/order a.ko\nb.ko\n", "0100444 modules/on-demand c.ko\n", "0100444 modules/layers d.ko\n",
	}
	if diff := cmp.Diff(want, list(t, &out)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func list(t *testing.T, archive io.Reader) []string {
	t.Helper()
	var entries []string
	reader := cpio.NewReader(archive)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, header.Mode.String()+" "+header.Name+" "+string(body))
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := map[string]struct {
		options Options
		want    string
	}{
		"no kernel":       {Options{}, "no kernel is given"},
		"no modules":      {Options{Kernels: []string{"/boot/vmlinuz"}}, "is not a .deb package: give one vmlinuz and its modules directory"},
		"both":            {Options{Kernels: []string{"a.deb"}, Modules: "/lib/modules/6"}, "modules are taken from the package"},
		"missing package": {Options{Kernels: []string{"/gone/a.deb"}}, "unpack /gone/a.deb"},
		"missing kernel":  {Options{Kernels: []string{"/gone/vmlinuz"}, Modules: "/lib/modules/6"}, "/gone/vmlinuz: no such file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.options.Output, test.options.Progress = filepath.Join(dir, "guest"), t.Output()
			_, err := Build(t.Context(), test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestReadAgentRefusesDynamic(t *testing.T) {
	if _, err := readAgent("/bin/sh"); err == nil || !strings.Contains(err.Error(), "is not static") {
		t.Errorf("error is %v", err)
	}
}

// testOptions are for a guest of the distribution's kernel, whose agent is
// testdata/init.
func testOptions(t *testing.T) Options {
	t.Helper()
	packages, _ := filepath.Glob("../../build/kernel/*.deb")
	if len(packages) == 0 {
		t.Skip("no kernel package in build/kernel: run hack/setup.sh")
	}
	dir := t.TempDir()
	agent := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-o", agent, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return Options{
		Kernels:   packages,
		Agent:     agent,
		DiskAgent: agent,
		Output:    filepath.Join(dir, "guest"),
		Progress:  t.Output(),
	}
}

// A guest of a distribution's kernel loads its modules and powers off.
func TestBuildAndBoot(t *testing.T) {
	image, err := Build(t.Context(), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	if reopened, err := Open(filepath.Dir(image.Kernel)); err != nil || !cmp.Equal(reopened, image) {
		t.Errorf("opened again: %+v, %v", reopened, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", "256", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-kernel", image.Kernel, "-initrd", image.Initramfs,
		"-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests")
	begin := time.Now()
	out, err := qemu.CombinedOutput()
	t.Logf("%v\n%s", qemu, out)
	t.Logf("boot to power-off took %v", time.Since(begin).Round(time.Millisecond))
	if err != nil || !regexp.MustCompile(`init: \d+ modules loaded`).Match(out) || !bytes.Contains(out, []byte("reboot: Power down")) {
		t.Errorf("the guest did not load its modules and power off: %v", err)
	}
}

// Several builds at once leave one whole guest and nothing else.
func TestBuildConcurrently(t *testing.T) {
	options := testOptions(t)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, err := Build(t.Context(), options); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	image, err := Open(options.Output)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{image.Kernel: image.SHA256["vmlinux"], image.Initramfs: image.SHA256["initramfs"]} {
		if body, err := os.ReadFile(path); err != nil || sum(body) != want {
			t.Errorf("%s is not what guest.json describes: %v", path, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(options.Output), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
