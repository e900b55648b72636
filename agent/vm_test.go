package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

// guestEnv names a guest directory (`make guest`) for TestVM to boot.
const guestEnv = "VMRUNTIME_GUEST"

// A machine is a guest in a QEMU of its own, without libvirt.
type machine struct {
	channel net.Conn
	qemu    *exec.Cmd
	console bytes.Buffer
	ended   chan error
	booted  time.Time
}

func bootMachine(t *testing.T, share, userData string, words ...string) *machine {
	t.Helper()
	guest := os.Getenv(guestEnv)
	if guest == "" {
		t.Skipf("%s names no guest to boot", guestEnv)
	}
	for _, tool := range []string{"qemu-system-x86_64", "genisoimage"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "user-data"), []byte(userData), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "meta-data"), []byte("instance-id: test\n"), 0o600))
	seed := filepath.Join(dir, "seed.iso")
	must(t, exec.Command("genisoimage", "-quiet", "-V", "cidata", "-r", "-o", seed,
		filepath.Join(dir, "user-data"), filepath.Join(dir, "meta-data")).Run())
	socket := filepath.Join(dir, "channel")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	defer listener.Close()
	line := append([]string{"console=ttyS0", "quiet", "panic=-1", "cgroup_no_v1=all", "cryptomgr.notests",
		"noreplace-smp", "rcupdate.rcu_expedited=1", "random.trust_cpu=on", "8250.nr_uarts=1",
		"i8042.noaux", "i8042.nokbd", "i8042.nopnp"}, words...)
	m := &machine{ended: make(chan error, 1), booted: time.Now()}
	m.qemu = exec.Command("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", "512", "-nodefaults",
		"-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", filepath.Join(guest, "vmlinux"), "-initrd", filepath.Join(guest, "initramfs"), "-append", strings.Join(line, " "),
		"-drive", "file="+seed+",if=none,id=seed,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=seed",
		"-fsdev", "local,id=share,path="+share+",security_model=passthrough,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=share,mount_tag="+protocol.ShareTag,
		"-chardev", "socket,id=agent,path="+socket, "-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=agent,name="+protocol.PortName, "-device", "virtio-rng-pci")
	m.qemu.Stdout, m.qemu.Stderr = &m.console, &m.console
	t.Log(m.qemu)
	must(t, m.qemu.Start())
	go func() { m.ended <- m.qemu.Wait() }()
	t.Cleanup(func() {
		_ = m.qemu.Process.Kill()
		if t.Failed() {
			t.Logf("console:\n%s", m.console.String())
		}
	})
	m.channel, err = listener.Accept()
	must(t, err)
	return m
}

// off waits for the guest to end by itself.
func (m *machine) off(t *testing.T, patient time.Duration) {
	t.Helper()
	select {
	case err := <-m.ended:
		must(t, err)
	case <-time.After(patient):
		t.Error("the guest does not power off")
	}
}

func cloudConfig(t *testing.T, config protocol.Container) string {
	t.Helper()
	text, err := json.Marshal(config)
	must(t, err)
	body, err := json.Marshal(seed{
		WriteFiles: []seedFile{{Path: protocol.ContainerFile, Content: string(text)}},
		RunCmd: [][]string{
			{"mkdir", "-p", protocol.ShareDir},
			{"mount", "-t", "9p", "-o", "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client", protocol.ShareTag, protocol.ShareDir},
			{protocol.ShareDir + "/" + protocol.AgentFile, "serve", protocol.ContainerFile},
		},
	})
	must(t, err)
	return "#cloud-config\n" + string(body)
}

// TestVM runs the scenarios in a VM, against the agent in the guest's initramfs.
func TestVM(t *testing.T) {
	share := t.TempDir()
	g := &guest{rootfs: protocol.ShareDir + "/rootfs", local: makeRootfs(t, share)}
	first := g.config(shell("echo from the seed; cat /proc/uptime; cat; exit 3"))
	m := bootMachine(t, share, cloudConfig(t, first))
	g.client = newClient(t, m.channel, 120*time.Second)
	phase := func(name string) { t.Logf("%-12s %v", name, time.Since(m.booted).Round(time.Millisecond)) }
	g.must(protocol.Request{Hello: &protocol.Hello{Version: protocol.Version, Build: "test"}})
	phase("hello")
	target := protocol.Target{Container: first.ID}
	g.must(protocol.Request{Created: &target})
	phase("created")
	r := g.attach(target, false)
	g.start(first.ID)
	r.expect("from the seed")
	phase("first output")
	r.stdin.Close()
	if code := r.end(); code != 3 {
		t.Errorf("the seed's container: code %d, stderr %q", code, &r.stderr)
	}
	phase("ended")
	t.Logf("guest's uptime at its first output: %s", strings.TrimPrefix(r.stdout.String(), "from the seed\n"))
	scenarios(t, g)
	t.Run("limits of the cgroup", func(t *testing.T) { g.t = t; testCgroup(t, g) })
	t.Run("device filter", func(t *testing.T) { g.t = t; testDevices(t, g) })
	m.channel.Close()
	m.off(t, 20*time.Second)
}

func testCgroup(t *testing.T, g *guest) {
	config := g.config(shell("for f in memory.max pids.max cpu.max memory.high; do cat /sys/fs/cgroup/$f; done; cat /proc/self/cgroup"))
	config.Spec.Linux.Resources = testResources()
	want := "67108864\n32\n50000 100000\n61440000\n0::/\n"
	if out := g.output(t, config); out != want {
		t.Errorf("cgroup %q, want %q", out, want)
	}
	// Its own cgroup, where it cannot mount any.
	config = g.config(shell("cat /sys/fs/cgroup/pids.max; mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only"))
	config.Spec.Linux.Resources = testResources()
	mapped(config.Spec)
	config.Spec.Linux.Namespaces = slices.DeleteFunc(config.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
	if out := g.output(t, config); out != "32\nread-only\n" {
		t.Errorf("cgroup without a namespace: %q", out)
	}
}

// testDevices: a container may make any node, and open those that it is given.
func testDevices(t *testing.T, g *guest) {
	major, minor := int64(1), int64(11)
	for want, rules := range map[string][]specs.LinuxDeviceCgroup{
		"null denied":    {{Access: "rwm"}},
		"null kmsg":      {{Access: "rwm"}, {Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rw"}},
		"null kmsg port": {{Allow: true, Access: "rwm"}},
	} {
		config := g.config(shell("cd /dev; mknod k c 1 11 && mknod p c 1 4 || exit; out=null; true > null || exit; (true > k) 2>/dev/null && out=\"$out kmsg\" || out=\"$out denied\"; (true > p) 2>/dev/null && out=\"$out port\"; echo $out"))
		config.Spec.Linux.Resources = &specs.LinuxResources{Devices: rules}
		config.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}}
		capabilities := []string{"CAP_MKNOD", "CAP_SYS_RAWIO", "CAP_SYSLOG"}
		config.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities}
		if out := g.output(t, config); out != want+"\n" {
			t.Errorf("%q, want %q", out, want)
		}
	}
}

// TestVMSeedErrors: what is wrong with the seed is told to the host.
func TestVMSeedErrors(t *testing.T) {
	m := bootMachine(t, t.TempDir(), "#cloud-config\n{\"runcmd\":[[\"reboot\"]]}")
	c := newClient(t, m.channel, 60*time.Second)
	c.must(protocol.Request{Hello: &protocol.Hello{Version: protocol.Version, Build: "test"}})
	_, err := c.call(protocol.Request{Created: &protocol.Target{Container: "x"}})
	if want := `seed: runcmd ["reboot"]: the command is unknown to this guest`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("created says %v", err)
	}
	m.channel.Close()
	m.off(t, 20*time.Second)
}

// TestVMProbe: the probe word ends the guest without a host to talk to.
func TestVMProbe(t *testing.T) {
	m := bootMachine(t, t.TempDir(), "", protocol.ProbeWord)
	m.off(t, 60*time.Second)
	fmt.Fprintf(os.Stderr, "boot to power-off: %v\n", time.Since(m.booted).Round(time.Millisecond))
}
