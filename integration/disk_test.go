package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const (
	uefiCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	uefiVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	diskKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoVgXh5zTzqNwQ1Y2lXnGkqm1yXYzq7nq0vJ3QdZ4aA someone@example.org"
	// slowBoot is how long a machine of somebody else's firmware may take without KVM.
	slowBoot = 6 * time.Minute
)

// A machine of nobody's: plain QEMU or libvirt boots a disk.
type diskMachine struct {
	name   string
	disk   string
	format string
	// seed is an ISO with metadata, empty without.
	seed string
	uefi bool
	// more are arguments of QEMU.
	more []string
}

func needDisk(t *testing.T) runtime {
	t.Helper()
	needRoot(t)
	needVM(t)
	for _, tool := range []string{"qemu-system-x86_64", "genisoimage", "mformat", "syslinux", "mkfs.erofs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool, ": ", err)
		}
	}
	for _, file := range []string{uefiCode, "/usr/lib/systemd/boot/efi/systemd-bootx64.efi", "/usr/lib/syslinux/mbr/mbr.bin"} {
		if _, err := os.Stat(file); err != nil {
			t.Skip("needs ovmf, systemd-boot-efi and syslinux-common: ", err)
		}
	}
	return vmruntime(t, map[string]string{uriVariable: uriEmbed, "image_store": filepath.Join(scratch, "disk-images")})
}

// iso makes a volume of files by their paths.
func iso(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "seed.iso")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		testutil.WriteFile(t, path, text)
	}
	run(t, "genisoimage", "-quiet", "-V", label, "-r", "-J", "-o", file, dir)
	return file
}

// metaData is that of a server of Nova's.
func metaData(t *testing.T, hostname string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"uuid": "5c9ff6f4-9c1f-4a7e-8a2a-b2d1ac0d5a3f", "name": hostname, "hostname": hostname + ".novalocal",
		"public_keys": map[string]string{"mine": diskKey + "\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func configDrive(t *testing.T, hostname string) string {
	t.Helper()
	return iso(t, "config-2", map[string]string{
		"openstack/latest/meta_data.json": metaData(t, hostname),
		"openstack/latest/user_data":      "data of the user\n",
	})
}

// qemu boots a disk to its end and gives what its serial port has said.
func (m diskMachine) qemu(t *testing.T) string {
	t.Helper()
	args := []string{"-accel", "tcg", "-m", "512", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio"}
	if m.uefi {
		vars := filepath.Join(t.TempDir(), "vars.fd")
		copyTo(t, vars, uefiVars)
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+uefiCode, "-drive", "if=pflash,format=raw,file="+vars)
	}
	args = append(args, "-drive", "index=0,media=disk,format="+m.format+",file="+m.disk)
	if m.seed != "" {
		args = append(args, "-cdrom", m.seed)
	}
	if m.more == nil {
		args = append(args, "-nic", "none")
	}
	args = append(args, m.more...)
	t.Logf("$ %s", testutil.ShellLine(append([]string{"qemu-system-x86_64"}, args...)...))
	ctx, cancel := context.WithTimeout(context.Background(), slowBoot)
	defer cancel()
	began := time.Now()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("the machine does not power off: %v\n%s", err, out)
	}
	t.Logf("%v from start to power-off", time.Since(began).Round(100*time.Millisecond))
	return serialText(out)
}

// serialText is what a serial port said, with the line ends of a file.
func serialText(out []byte) string { return strings.ReplaceAll(string(out), "\r\n", "\n") }

func copyTo(t *testing.T, to, from string) {
	t.Helper()
	testutil.WriteFile(t, to, testutil.ReadFile(t, from))
}

// domain is the machine as Nova's own libvirt driver describes one, by and large.
func (m diskMachine) domain(t *testing.T, log string) string {
	t.Helper()
	// Old and new machines have their drives on IDE and on SATA.
	firmware, kind, drive, bus := "", "q35", "sda", "sata"
	if m.uefi {
		kind, drive, bus = "pc", "hda", "ide"
		firmware = fmt.Sprintf("<loader readonly='yes' type='pflash'>%s</loader><nvram template='%s'>%s</nvram>",
			uefiCode, uefiVars, filepath.Join(t.TempDir(), "vars.fd"))
	}
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
  <sysinfo type='smbios'><system><entry name='manufacturer'>OpenStack Foundation</entry><entry name='product'>OpenStack Nova</entry></system></sysinfo>
  <os><type machine='%s'>hvm</type>%s<boot dev='hd'/><smbios mode='sysinfo'/></os>
  <features><acpi/><apic/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='%s' cache='none'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='%s'/><target dev='%s' bus='%s'/><readonly/></disk>
    <serial type='file'><source path='%s'/></serial>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>`, m.name, kind, firmware, m.format, html.EscapeString(m.disk), html.EscapeString(m.seed), drive, bus, html.EscapeString(log))
}

// virsh boots a disk in a domain of libvirt's. With whenSaid, that is called when
// the serial port has said the text.
func (m diskMachine) virsh(t *testing.T, until string, whenSaid func()) string {
	t.Helper()
	dir := t.TempDir()
	log, xml := filepath.Join(dir, "console.log"), filepath.Join(dir, "domain.xml")
	testutil.WriteFile(t, xml, m.domain(t, log))
	began := time.Now()
	virsh(t, "create", xml)
	t.Cleanup(func() {
		_ = exec.Command("virsh", "-q", "-c", uriSystem, "destroy", m.name).Run()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("console:\n%s", text)
		}
	})
	if whenSaid != nil {
		eventually(t, slowBoot, "the console says "+until, func() bool {
			text, _ := os.ReadFile(log)
			return bytes.Contains(text, []byte(until))
		})
		whenSaid()
	}
	eventually(t, slowBoot, "the machine powers off", func() bool {
		return !strings.Contains("\n"+virshQuiet(t, "list", "--name"), "\n"+m.name+"\n")
	})
	t.Logf("%v from start to power-off", time.Since(began).Round(100*time.Millisecond))
	return serialText([]byte(testutil.ReadFile(t, log)))
}

// virshQuiet is virsh without a line in the log: it is for loops.
func virshQuiet(t *testing.T, args ...string) string {
	t.Helper()
	time.Sleep(200 * time.Millisecond)
	out, err := exec.Command("virsh", append([]string{"-q", "-c", uriSystem}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// askAll is a script that prints who the machine is, and ends with 5.
const askAll = `echo "hello from $(busybox uname -s)"; busybox cat hello; [ -e /etc/doomed ] || echo gone
echo "hostname: $(busybox hostname)"; echo "key: $(busybox cat /root/.ssh/authorized_keys)"
echo "user-data: $(busybox cat /var/lib/cloud/seed/config_drive/openstack/latest/user_data)"; exit 5`

const ended = "vmruntime: the container's process has ended with exit status "

func wantLines(t *testing.T, console string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+console, "\n"+line+"\n") {
			t.Errorf("the console lacks the line %q:\n%s", line, console)
		}
	}
}

// A disk boots on machines that know nothing of vmruntime, says what its entrypoint
// says, is who the configuration drive says, and powers off with the process.
func TestDiskBoots(t *testing.T) {
	r := needDisk(t)
	file := imageTarOf(t, "root")
	dir := t.TempDir()
	base := filepath.Join(dir, "disk.qcow2")
	r.must(t, "image", "disk", "-o", base, file, "PATH=/bin; "+askAll)
	libvirtd := startLibvirtd(t)
	var virshOnly sync.Mutex
	for _, test := range []struct {
		name     string
		uefi     bool
		libvirt  bool
		hostname string
	}{
		{"qemu-bios", false, false, "one"}, {"qemu-uefi", true, false, "two"},
		{"virsh-bios", false, true, "three"}, {"virsh-uefi", true, true, "four"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.libvirt && libvirtd != nil {
				t.Skip("needs libvirtd: ", libvirtd)
			}
			// Each machine has a disk of its own above the same image, as Nova does it.
			disk := filepath.Join(dir, test.name+".qcow2")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, disk)
			m := diskMachine{name: idPrefix + test.name, disk: disk, format: "qcow2", seed: configDrive(t, test.hostname), uefi: test.uefi}
			var out string
			if test.libvirt {
				virshOnly.Lock()
				defer virshOnly.Unlock()
				out = m.virsh(t, "", nil)
			} else {
				out = m.qemu(t)
			}
			wantLines(t, out, "hello from Linux", "from the app", "gone", "hostname: "+test.hostname, "key: "+diskKey,
				"user-data: data of the user", ended+"5")
		})
	}
}

// What the container writes stays, also when the disk becomes larger; the network is
// there, and NoCloud is heeded as clouds write it.
func TestDiskGrows(t *testing.T) {
	r := needDisk(t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	script := `PATH=/bin; echo "boot $(busybox cat /boots 2>/dev/null)"; echo -n x >>/boots
echo "hostname: $(busybox hostname)"; echo "keys: $(busybox wc -l </root/.ssh/authorized_keys)"
echo "address: $(busybox ip -4 -o addr show dev eth0 | busybox tr -s ' ' | busybox cut -d' ' -f4)"
echo "resolver: $(busybox cat /etc/resolv.conf)"
[ "$(busybox df -k / | busybox tail -1 | busybox tr -s ' ' | busybox cut -d' ' -f2)" -gt 2000000 ] && echo large || echo small`
	r.must(t, "image", "disk", "--size", "64M", "--output", disk, imageTarOf(t, ""), script)
	seed := iso(t, "cidata", map[string]string{
		"meta-data":      "instance-id: i-1\nlocal-hostname: grown\n",
		"user-data":      "#cloud-config\nssh_authorized_keys:\n  - " + diskKey + "\n",
		"network-config": "version: 2\nethernets:\n  nic:\n    match: {macaddress: '52:54:00:12:34:56'}\n    dhcp4: true\n",
	})
	m := diskMachine{disk: disk, format: "raw", seed: seed, more: []string{"-nic", "user,model=e1000,mac=52:54:00:12:34:56"}}
	if _, err := os.Stat("/sys/class/net/lo"); err != nil {
		t.Skip("needs a network: ", err)
	}
	wantLines(t, m.qemu(t), "boot ", "hostname: grown", "keys: 1", "address: 10.0.2.15/24", "resolver: nameserver 10.0.2.3", "small", ended+"0")
	run(t, "qemu-img", "resize", "-q", "-f", "raw", disk, "3G")
	wantLines(t, m.qemu(t), "boot x", "keys: 1", "large", ended+"0")
}

// A server of OpenStack asks the metadata service who it is.
func TestDiskMetadataService(t *testing.T) {
	r := needDisk(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	r.must(t, "image", "disk", "-o", disk, imageTar(t), `PATH=/bin; echo "hostname: $(busybox hostname), user $(busybox id -u)"`)
	latest := filepath.Join(dir, "www", "openstack", "latest")
	if err := os.MkdirAll(latest, 0o755); err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, filepath.Join(latest, "meta_data.json"), metaData(t, "served"))
	m := diskMachine{disk: disk, format: "raw", more: []string{
		"-smbios", "type=1,product=OpenStack Nova",
		"-netdev", "user,id=n,net=169.254.0.0/16,guestfwd=tcp:169.254.169.254:80-cmd:busybox httpd -i -h " + filepath.Join(dir, "www"),
		"-device", "virtio-net-pci,netdev=n",
	}}
	wantLines(t, m.qemu(t), "hostname: served, user 77", ended+"0")
	key := run(t, "debugfs", "-R", "cat /fs/root/.ssh/authorized_keys", fmt.Sprintf("%s?offset=%d", disk, upperOffset(t, disk)))
	if !strings.Contains(key, diskKey+"\n") {
		t.Errorf("authorized_keys on the disk: %s", key)
	}
}

// upperOffset is where the third partition begins, in bytes.
func upperOffset(t *testing.T, disk string) int64 {
	t.Helper()
	var table struct {
		Table struct{ Partitions []struct{ Start int64 } } `json:"partitiontable"`
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "--json", disk)), &table); err != nil {
		t.Fatal(err)
	}
	return table.Table.Partitions[2].Start * 512
}

// A shutdown by the power button is a signal to the process.
func TestDiskShutdown(t *testing.T) {
	r := needDisk(t)
	if err := startLibvirtd(t); err != nil {
		t.Skip("needs libvirtd: ", err)
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	r.must(t, "image", "disk", "-o", disk, imageTar(t),
		`PATH=/bin; trap 'echo asked to end; exit 9' TERM; echo waiting; while :; do busybox sleep 0.1; done`)
	m := diskMachine{name: idPrefix + "shutdown", disk: disk, format: "raw", seed: configDrive(t, "x")}
	out := m.virsh(t, "waiting", func() { virsh(t, "shutdown", m.name) })
	wantLines(t, out, "waiting", "asked to end", ended+"9")
}

// What is asked for wrongly is told in a sentence, and nothing is left.
func TestDiskRefuses(t *testing.T) {
	r := needDisk(t)
	file, dir := imageTar(t), t.TempDir()
	out := filepath.Join(dir, "disk.raw")
	for want, args := range map[string][]string{
		`--format: must be raw or qcow2, not "vdi"`: {"--format", "vdi", "-o", out, file},
		"no such image":   {"-o", out, "missing"},
		"--size: must be": {"--size", "3T", "-o", out, file},
		"from 16MiB":      {"--size", "1M", "-o", out, file},
		"no such file":    {"-o", filepath.Join(dir, "missing", "disk"), file},
	} {
		if got := r.refuse(t, append([]string{"image", "disk"}, args...)...); !strings.Contains(got, want) {
			t.Errorf("%q: the error is %q, without %q", args, got, want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
