package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

// mapped gives a container a user namespace whose root is 100000 outside.
func mapped(s *specs.Spec) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 50000}}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
}

func testUserNamespace(t *testing.T, g *guest) {
	capabilities := []string{"CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_KILL"}
	config := g.config(shell(`
		id -u; id -g
		cat /proc/self/uid_map /proc/self/gid_map | tr -s " "
		echo x > /dev/null && stat -c "%t:%T %u %g %a" /dev/null /dev/zero /dev/own
		stat -c "%u %F" /bin/busybox /tmp
		mount | grep -E " /(proc|sys|dev/mqueue|sys/fs/cgroup) " | cut -d" " -f3
		cat /tmp/f
		echo again > /dev/stdout
		grep CapEff /proc/self/status
		sleep 1000`))
	mapped(config.Spec)
	config.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities}
	one, mode := uint32(1), os.FileMode(0o640)
	config.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/own", Type: "c", Major: 1, Minor: 7, UID: &one, GID: &one, FileMode: &mode}}
	config.Spec.Mounts = append(config.Spec.Mounts, specs.Mount{Type: "bind", Source: g.closed(t), Destination: "/tmp", Options: []string{"rbind", "ro"}})
	config.Spec.Process.User = specs.User{UID: 0, GID: 0}
	r := g.container(config)
	g.start(config.ID)
	r.expect("CapEff")
	want := `0
0
 0 100000 50000
 0 100000 50000
1:3 0 0 666
1:5 0 0 666
1:7 1 1 640
65534 regular file
65534 directory
/proc
/dev/mqueue
/sys
/sys/fs/cgroup
hidden
again
CapEff:	0000000000200021
`
	if got := r.stdout.String(); sortedLines(got) != sortedLines(want) {
		t.Errorf("stdout %q, want %q; stderr %q", got, want, &r.stderr)
	}
	e := g.exec(config.ID, "root", shell(`for n in user pid net mnt; do [ "$(readlink /proc/1/ns/$n)" = "$(readlink /proc/self/ns/$n)" ] || echo other $n; done`))
	if code := e.end(); code != 0 || e.stdout.String() != "" {
		t.Errorf("exec: code %d, stdout %q, stderr %q", code, &e.stdout, &e.stderr)
	}
	exec := shell(`id -u; cat /proc/self/uid_map | tr -s " "; echo out > /dev/stdout`)
	exec.User = specs.User{UID: 5, GID: 5}
	e = g.exec(config.ID, "e", exec)
	if code := e.end(); code != 0 || e.stdout.String() != "5\n 0 100000 50000\nout\n" {
		t.Errorf("exec: code %d, stdout %q, stderr %q", code, &e.stdout, &e.stderr)
	}
	terminal := shell("tty; id -u")
	terminal.Terminal = true
	e = g.exec(config.ID, "t", terminal)
	if code := e.end(); code != 0 || e.stdout.String() != "/dev/pts/0\r\n0\r\n" {
		t.Errorf("exec with a terminal: code %d, stdout %q", code, &e.stdout)
	}
	must(t, g.signal(config.ID, "", 9))
	r.end()
}

// A terminal of init, and a user that is not root.
func testUserNamespaceTerminal(t *testing.T, g *guest) {
	config := g.config(shell("tty; id -u; stat -c %u /dev/console"))
	mapped(config.Spec)
	config.Spec.Process.Terminal = true
	config.Spec.Process.User = specs.User{UID: 7, GID: 7}
	if out := g.output(t, config); out != "/dev/pts/0\r\n7\r\n7\r\n" {
		t.Errorf("stdout %q", out)
	}
}

func testTimeNamespace(t *testing.T, g *guest) {
	for name, change := range map[string]func(*specs.Spec){"time": func(*specs.Spec) {}, "time and user": mapped} {
		config := g.config(shell("cat /proc/uptime; sleep 1000"))
		change(config.Spec)
		config.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 3000000, Nanosecs: 5}, "monotonic": {Secs: 100}}
		r := g.container(config)
		g.start(config.ID)
		r.expect("\n")
		e := g.exec(config.ID, "e", shell("cat /proc/uptime; [ $(readlink /proc/1/ns/time) = $(readlink /proc/self/ns/time) ] && echo same"))
		e.end()
		for _, out := range []string{r.stdout.String(), e.stdout.String()} {
			if !strings.HasPrefix(out, "3") || len(strings.Fields(out)[0]) != len("3000000.00") {
				t.Errorf("%s: uptime %q", name, out)
			}
		}
		if !strings.HasSuffix(e.stdout.String(), "same\n") {
			t.Errorf("%s: exec is in another time namespace: %q", name, &e.stderr)
		}
		must(t, g.signal(config.ID, "", 9))
		r.end()
	}
	config := g.config(shell("true"))
	config.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: -1 << 40}}
	if _, err := g.call(protocol.Request{Create: &config}); err == nil || !strings.Contains(err.Error(), "linux.timeOffsets: boottime") {
		t.Errorf("create says %v", err)
	}
}

func testPersonality(t *testing.T, g *guest) {
	config := g.config(shell("uname -m; sleep 1000"))
	config.Spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	r := g.container(config)
	g.start(config.ID)
	r.expect("i686\n")
	e := g.exec(config.ID, "e", shell("uname -m"))
	if e.end(); e.stdout.String() != "i686\n" {
		t.Errorf("exec: uname -m says %q", &e.stdout)
	}
	must(t, g.signal(config.ID, "", 9))
	r.end()
}

func testAffinity(t *testing.T, g *guest) {
	config := g.config(shell("grep Cpus_allowed_list /proc/self/status; sleep 1000"))
	config.Spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-1023", Final: "0"}
	r := g.container(config)
	g.start(config.ID)
	r.expect("\n")
	e := g.exec(config.ID, "e", shell("grep Cpus_allowed_list /proc/self/status"))
	if e.end(); e.stdout.String() != "Cpus_allowed_list:\t0\n" {
		t.Errorf("exec: %q %q", &e.stdout, &e.stderr)
	}
	for list, want := range map[string]string{"1023": "of this VM", "x": "no list", "3-1": "no list", "0-99999": "1024 CPUs at most"} {
		p := shell("true")
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: list}
		_, err := g.call(protocol.Request{Exec: &protocol.Exec{Target: protocol.Target{Container: config.ID, Process: "bad"}, Spec: p}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: exec says %v, want %s", list, err, want)
		}
	}
	must(t, g.signal(config.ID, "", 9))
	r.end()
}

// An oom score is the agent's to set: lowering it is not the container's right.
func testOOMScore(t *testing.T, g *guest) {
	config := g.config(shell("cat /proc/self/oom_score_adj"))
	mapped(config.Spec)
	score := 123
	config.Spec.Process.OOMScoreAdj = &score
	if out := g.output(t, config); out != "123\n" {
		t.Errorf("oom_score_adj %q", out)
	}
}

// closed is a directory that only root reaches, with a file for all.
func (g *guest) closed(t *testing.T) string {
	t.Helper()
	above := filepath.Join(filepath.Dir(g.local), "closed")
	must(t, os.MkdirAll(filepath.Join(above, "inside"), 0o755))
	must(t, os.WriteFile(filepath.Join(above, "inside", "f"), []byte("hidden\n"), 0o644))
	must(t, os.Chmod(above, 0o700))
	t.Cleanup(func() { must(t, os.RemoveAll(above)) })
	return filepath.Join(filepath.Dir(g.rootfs), "closed", "inside")
}

func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
