package vm

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"
)

var update = flag.Bool("update", false, "write the golden files anew")

func base() Config {
	return Config{
		Name: "vmruntime-web", UUID: "b1f4f9a4-8d5e-8c3a-9d5e-0d6f6a4c2b11", Title: "nginx:latest",
		Metadata:    Metadata{ID: "web", Root: "/run/vmruntime", Bundle: "/bundles/web"},
		Accelerator: TCG, Emulator: "/usr/local/lib/vmruntime/vmruntime-qemu",
		Memory: 1 << 30, VCPUs: 1,
		Kernel: "/guest/vmlinux", Initramfs: "/guest/initramfs", Cmdline: "console=ttyS0 quiet",
		Transport: NineP,
		Share:     "/run/vmruntime-vm/0123456789ab/share", Seed: "/run/vmruntime-vm/0123456789ab/seed.iso",
		AgentSocket:   "/run/vmruntime-vm/0123456789ab/agent.sock",
		ConsoleSocket: "/run/vmruntime-vm/0123456789ab/console.sock",
	}
}

func TestDomainXML(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"default":  func(*Config) {},
		"kvm":      func(c *Config) { c.Accelerator = KVM },
		"vcpus":    func(c *Config) { c.VCPUs = 4 },
		"memory":   func(c *Config) { c.Memory = 6 << 30 },
		"nics":     func(c *Config) { c.Taps = []string{"vmr0", "vmr1"} },
		"firmware": func(c *Config) { c.Firmware = "/usr/share/qemu/qboot.rom" },
		"image":    func(c *Config) { c.Metadata.Image = "docker.io/library/nginx:latest" },
		"untitled": func(c *Config) { c.Title = "" },
		"emulator-environment": func(c *Config) {
			c.EmulatorEnv = map[string]string{"VMRUNTIME_SHIM": "4711", "VMRUNTIME_PATHS": "/a::/b"}
		},
		"annotations": func(c *Config) {
			c.Metadata.Annotations = map[string]string{"io.container.manager": "libpod", "a": "b"}
		},
		"metadata": func(c *Config) {
			c.Metadata.Annotations = map[string]string{
				"a": "b", MetadataAnnotation: `<nova:instance xmlns:nova="urn:nova"><nova:name>web</nova:name></nova:instance>`,
			}
		},
		"escapes": func(c *Config) {
			c.Title = `<&"'>`
			c.Metadata.Bundle = `/a <b> & "c"`
			c.Share = "/run/a & b/share"
			c.Cmdline = `init=<"&">`
		},
		"long-name": func(c *Config) {
			c.Name = "vmruntime-8f3d1c0e5b7a49628f3d1c0e5b7a49628f3d1c0e5b7a49628f3d1c0e5b7a4962"
		},
		"debug-cmdline": func(c *Config) { c.Cmdline = "console=ttyS0 loglevel=8" },
		"template":      func(c *Config) { c.MemoryFile = "/templates/a,b/memory" },
		"clone":         func(c *Config) { c.MemoryFile, c.Clone = "/templates/a/memory", true },
		"virtiofs": func(c *Config) {
			c.Transport, c.ShareSocket = Virtiofs, "/run/vmruntime-vm/0123456789ab/share.sock"
		},
		"disks": func(c *Config) {
			c.Disks = []Disk{
				{Path: "/dev/sdb", Serial: "vmruntime-disk-0"}, {Path: "/dev/sdc", Serial: "vmruntime-disk-1", ReadOnly: true},
				{Path: "/disks/lower.erofs", Serial: "vmruntime-lower-0", ReadOnly: true, File: true},
				{Path: "/disks/upper.ext4", Serial: "vmruntime-upper", File: true},
			}
		},
		"base-image": func(c *Config) {
			c.Kernel, c.Initramfs = "", ""
			c.Boot = &BootDisk{Base: "/images/debian.qcow2", BaseFormat: "qcow2", Overlay: "/var/lib/vmruntime/overlays/0123456789ab.qcow2"}
		},
		"odd-memory": func(c *Config) { c.Memory = 200<<20 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := base()
			change(&c)
			got, err := DomainXML(c)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "domain", name+".xml"), got)
			var parsed libvirtxml.Domain
			if err := parsed.Unmarshal(got); err != nil {
				t.Fatalf("libvirtxml does not read it back: %v", err)
			}
			if parsed.Title != c.Title || parsed.OS.Cmdline != c.Cmdline && c.Boot == nil {
				t.Errorf("read back title %q, cmdline %q", parsed.Title, parsed.OS.Cmdline)
			}
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
