package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/rootdisk"
	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// TestTranslate turns each testdata/NAME.json into the plan NAME.plan.json.
func TestTranslate(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, input := range inputs {
		if strings.HasSuffix(input, ".plan.json") {
			continue
		}
		n++
		name := strings.TrimSuffix(filepath.Base(input), ".json")
		t.Run(name, func(t *testing.T) {
			plan, err := Translate(name, goldenBundle(t, input), goldenConfig, goldenHost)
			if err != nil {
				t.Fatal(err)
			}
			// Which is package vm's to decide.
			plan.Machine.Cmdline = ""
			text, err := json.MarshalIndent(plan, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			compare(t, strings.TrimSuffix(input, ".json")+".plan.json", append(text, '\n'))
		})
	}
	if n < 10 {
		t.Errorf("%d configurations, want at least 10", n)
	}
}

var goldenConfig = Config{
	// A template's name would change with every device of the machine.
	Templates:  templatesOff,
	LibvirtURI: vm.URIEmbed, Accelerator: "tcg", Memory: 1024, VCPUs: 1,
	Transport: vm.NineP,
	Emulator:  "/usr/lib/vmruntime/vmruntime-qemu", Virtiofsd: "/usr/lib/vmruntime/vmruntime-virtiofsd", Agent: "/usr/lib/vmruntime/vmagent",
}

var goldenHost = Host{
	Root: "/run/vmruntime", CPUs: 4, Memory: 16 << 30, Accelerator: vm.TCG,
	Guest:    guest.Image{Kernel: "/guest/vmlinux", Initramfs: "/guest/initramfs"},
	Firmware: "/usr/share/qemu/qboot.rom",
}

// goldenBundle is a bundle whose paths need not be on this host.
func goldenBundle(t *testing.T, path string) Bundle {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := Bundle{Dir: "/bundles/app", Spec: new(specs.Spec), Sources: map[int]string{}}
	if err := decode(text, b.Spec); err != nil {
		t.Fatal(err)
	}
	if err := checkSpec(b.Spec); err != nil {
		t.Fatal(err)
	}
	b.Rootfs = b.path(b.Spec.Root.Path)
	for i, m := range b.Spec.Mounts {
		if isBind(m) {
			b.Sources[i] = b.path(m.Source)
		}
	}
	if b.Spec.Annotations[rootfsAnnotation] == rootfsBlock {
		b.Layers = rootdisk.Disks{Lower: "/disks/images/1.erofs", Upper: "/disks/uppers/2.ext4"}
	}
	return b
}

func TestTranslateLeavesTheBundleAlone(t *testing.T) {
	b := goldenBundle(t, "testdata/docker.json")
	before, err := json.Marshal(b.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Translate("c", b, goldenConfig, goldenHost); err != nil {
		t.Fatal(err)
	}
	after, err := json.Marshal(b.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
}

func TestSizeClass(t *testing.T) {
	const MiB = 1 << 20
	for want, size := range map[uint64][]uint64{
		128:   {1, 128 * MiB},
		192:   {128*MiB + 1, 192 * MiB},
		256:   {192*MiB + 1, 256 * MiB},
		384:   {300 * MiB},
		768:   {513 * MiB},
		1024:  {769 * MiB},
		12288: {8193 * MiB},
	} {
		for _, s := range size {
			if got := sizeClass(s) / MiB; got != want {
				t.Errorf("%d bytes: %d MiB, want %d", s, got, want)
			}
		}
	}
}
