package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	tests := map[string]struct{ text, want string }{
		"empty":        {"", ""},
		"all":          {"libvirt_uri = \"qemu:///system\"\naccelerator = \"tcg\"\nmemory = 512\nvcpus = 2\nguest = \"/g\"\nemulator = \"/e\"\nvirtiofsd = \"/v\"\ntransport = \"virtiofs\"\nagent = \"/a\"\nrootfs = \"block\"\nrootfs_size = \"1G\"\nrootfs_store = \"/r\"", ""},
		"unknown key":  {"memroy = 512", "unknown key memroy: remove it"},
		"unknown ones": {"a = 1\n[b]\nc = 1", "unknown key a, b, b.c: remove it"},
		"uri":          {`libvirt_uri = "xen:///"`, `libvirt_uri must be "qemu:///embed" or "qemu:///system", not "xen:///"`},
		"accelerator":  {`accelerator = "hvf"`, `accelerator must be "auto", "kvm" or "tcg", not "hvf"`},
		"rootfs":       {`rootfs = "disk"`, `rootfs must be "share" or "block", not "disk"`},
		"rootfs_size":  {`rootfs_size = "1k"`, `rootfs_size: "1k" must be between 16MiB and 16TiB`},
		"rootfs_store": {`rootfs_store = "disks"`, `rootfs_store: "disks" must be absolute`},
		"image_limit":  {`image_limit = "much"`, `image_limit: "much" is not a number of bytes, such as 10GiB`},
		"transport":    {`transport = "nfs"`, `transport must be "9p" or "virtiofs", not "nfs"`},
		"memory":       {`memory = 1`, `memory must be at least 128 MiB, not 1`},
		"less memory":  {`memory = -5`, `memory must be at least 128 MiB, not -5`},
		"memory words": {`memory = "1g"`, `memory must be of type integer, not string`},
		"half a vcpu":  {`vcpus = 1.5`, `vcpus must be of type integer, not float64`},
		"vcpus":        {`vcpus = 0`, `vcpus must be at least 1`},
		"fewer vcpus":  {`vcpus = -1`, `vcpus must be at least 1`},
		"relative":     {`guest = "guest"`, `guest: "guest" must be absolute`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadConfig(path, "/usr/bin/vmruntime")
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || strings.TrimPrefix(err.Error(), "configuration "+path+": ") != test.want):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if _, err := LoadConfig(path+".none", "/usr/bin/vmruntime"); err == nil || !strings.HasSuffix(err.Error(), "does not exist") {
		t.Errorf("a missing file that was asked for: %v", err)
	}
}
