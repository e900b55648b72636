package runtime

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/vmruntime/vmruntime/protocol"
)

// What the configuration names and is not there is told by the key.
func TestHostNamesTheKey(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"guest.json": `{"protocol":` + strconv.Itoa(protocol.Version) + `}`, "vmlinux": "", "initramfs": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	defer func(device string) { kvmDevice = device }(kvmDevice)
	kvmDevice = "/nowhere/kvm"
	for want, spoil := range map[string]func(*Config){
		"": func(*Config) {},
		"guest: open guest /nowhere: no guest is built (remedy: vmruntime guest build)":                                               func(c *Config) { c.Guest = "/nowhere" },
		"emulator: /nowhere does not exist on the host: correct the path in config.toml or, without one, make build, or make install": func(c *Config) { c.Emulator = "/nowhere" },
		"agent: /etc/passwd is not executable: correct the path in config.toml or, without one, make build, or make install":          func(c *Config) { c.Agent = "/etc/passwd" },
		`accelerator is "kvm", and /nowhere/kvm does not exist on the host: set it to "auto"`:                                         func(c *Config) { c.Accelerator = "kvm" },
	} {
		c := Config{Guest: dir, Emulator: "/bin/sh", Agent: "/bin/sh", Accelerator: "tcg"}
		spoil(&c)
		_, err := Runtime{Config: c}.host(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}
