package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A guest is where the scenarios run: this machine's namespaces, or a VM.
type guest struct {
	*client
	// rootfs is the root file system as the agent sees it, local as the test
	// does.
	rootfs, local string
	serial        int
}

func shell(script string) *specs.Process {
	return &specs.Process{
		Args: []string{"/bin/sh", "-c", script},
		Env:  []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"},
		Cwd:  "/",
	}
}

// config is a container like those of `runc spec`.
func (g *guest) config(p *specs.Process) protocol.Container {
	g.serial++
	return protocol.Container{
		ID: fmt.Sprintf("c%d", g.serial),
		Spec: &specs.Spec{
			Version:  specs.Version,
			Process:  p,
			Root:     &specs.Root{Path: g.rootfs},
			Hostname: "inside",
			Mounts: []specs.Mount{
				{Destination: "/proc", Type: "proc", Source: "proc"},
				{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
				{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
				{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
				{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
				{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
				{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			},
			Linux: &specs.Linux{
				Namespaces: []specs.LinuxNamespace{
					{Type: "pid"}, {Type: "mount"}, {Type: "uts"}, {Type: "ipc"}, {Type: "cgroup"}, {Type: "network"}, {Type: "time"},
				},
				MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware", "/nosuch"},
				ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/nosuch"},
			},
		},
	}
}

// output runs a container to its end and gives its standard output.
func (g *guest) output(t *testing.T, config protocol.Container) string {
	t.Helper()
	r := g.container(config)
	g.start(config.ID)
	if code := r.end(); code != 0 {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, &r.stdout, &r.stderr)
	}
	return r.stdout.String()
}

// makeRootfs gives a root file system with busybox.
func makeRootfs(t *testing.T, dir string) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is missing")
	}
	rootfs := filepath.Join(dir, "rootfs")
	for _, sub := range []string{"bin", "etc", "tmp", "home", "outside"} {
		must(t, os.MkdirAll(filepath.Join(rootfs, sub), 0o755))
	}
	body, err := os.ReadFile(busybox)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(rootfs, "bin/busybox"), body, 0o755))
	for _, name := range []string{"sh", "cat", "sleep", "echo", "id", "ls", "tty", "stty", "env", "mount", "hostname", "true", "head", "dd", "ps", "kill", "grep", "readlink", "stat", "touch", "yes", "umask", "ip", "sha256sum", "tr", "cut", "uname", "mknod"} {
		must(t, os.Symlink("busybox", filepath.Join(rootfs, "bin", name)))
	}
	must(t, os.WriteFile(filepath.Join(rootfs, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"), 0o644))
	must(t, os.Symlink("/../../../../outside", filepath.Join(rootfs, "link")))
	return rootfs
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scenarios are what must hold wherever the agent runs.
func scenarios(t *testing.T, g *guest) {
	for _, s := range []struct {
		name string
		test func(*testing.T, *guest)
	}{
		{"hello", testHello},
		{"output and exit code", testOutput},
		{"stdin", testStdin},
		{"large streams", testLarge},
		{"set-up", testSetUp},
		{"user", testUser},
		{"errors", testErrors},
		{"exec", testExec},
		{"exec leaves a child", testExecChild},
		{"terminal", testTerminal},
		{"exec terminal", testExecTerminal},
		{"kill", testKill},
		{"slow reader", testSlowReader},
		{"early close", testEarlyClose},
		{"mounts", testMounts},
		{"limits", testLimits},
		{"many", testMany},
		{"seccomp", testSeccomp},
		{"exec format", testExecFormat},
		{"user namespace", testUserNamespace},
		{"user namespace, terminal", testUserNamespaceTerminal},
		{"time namespace", testTimeNamespace},
		{"personality", testPersonality},
		{"affinity", testAffinity},
		{"oom score", testOOMScore},
		{"timer slack", testTimerSlack},
	} {
		t.Run(s.name, func(t *testing.T) {
			outer := g.t
			g.t = t
			defer func() { g.t = outer }()
			started := time.Now()
			s.test(t, g)
			t.Logf("%v", time.Since(started).Round(time.Millisecond))
		})
	}
}

func testHello(t *testing.T, g *guest) {
	r := g.must(protocol.Request{Hello: &protocol.Hello{Version: protocol.Version, Build: "test", Time: time.Now().UnixNano()}})
	if r.Hello == nil || r.Hello.Check("agent") != nil || r.Hello.Kernel == "" {
		t.Fatalf("hello is answered by %+v", r.Hello)
	}
	if _, err := g.call(protocol.Request{}); err == nil {
		t.Error("an empty request is accepted")
	}
	if _, err := g.call(protocol.Request{Start: &protocol.Target{Container: "nosuch"}}); err == nil {
		t.Error("an unknown container is started")
	}
}

func errOf(_ protocol.Response, err error) error { return err }

func testSetUp(t *testing.T, g *guest) {
	p := shell(`hostname; pwd; umask; echo $HOME; ls /dev; readlink /dev/ptmx; ls /proc/scsi | wc -l 2>/dev/null
		cat /proc/self/status | grep -E 'Cap|NoNewPrivs'
		touch /ro 2>&1; [ -w /proc/sys/kernel/hostname ] && echo 1 > /proc/sys/kernel/sysrq 2>&1
		echo $$; ip addr show lo | head -1; cat /proc/self/cgroup; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls -l /proc/self/fd | grep -c ' -> '`)
	p.Cwd = "/made/by/cwd"
	config := g.config(p)
	config.Spec.Root.Readonly = true
	config.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}
	config.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_NOSUCH"}, Effective: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"}}
	config.Spec.Process.NoNewPrivileges = true
	out := g.output(t, config)
	for _, want := range []string{
		"inside\n/made/by/cwd\n0022\n/root\n", "\nfull\n", "pts/ptmx\n", "CapEff:\t0000000000000020\n", "CapBnd:\t0000000000000020\n",
		"NoNewPrivs:\t1\n", "Read-only file system", "\n1\n", "LOOPBACK,UP", "\n80\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out, config.ID) {
		t.Error("the cgroup is not hidden")
	}
	if t.Failed() {
		t.Log(out)
	}
}

func testUser(t *testing.T, g *guest) {
	p := shell("id; echo $HOME; echo again > /dev/stdout; umask; cat /proc/self/status | grep CapEff")
	mask := uint32(0o027)
	p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}, Umask: &mask}
	out := g.output(t, g.config(p))
	for _, want := range []string{"uid=1000(user) gid=1001 groups=7,8", "/home/user\n", "again\n", "0027\n", "CapEff:\t0000000000000000"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
}

func testErrors(t *testing.T, g *guest) {
	for args, want := range map[string]string{
		"nosuch":      `exec: "nosuch": executable file not found in $PATH`,
		"/etc/passwd": `exec: "/etc/passwd": permission denied`,
		"/x":          `exec: "/x": stat /x: no such file or directory`,
		"/etc":        `exec: "/etc": is a directory`,
	} {
		p := shell("")
		p.Args = []string{args}
		config := g.config(p)
		if _, err := g.call(protocol.Request{Create: &config}); err == nil || err.Error() != want {
			t.Errorf("create says %v, want %s", err, want)
		}
		if _, err := g.call(protocol.Request{Created: &protocol.Target{Container: config.ID}}); err == nil || err.Error() != want {
			t.Errorf("created says %v, want %s", err, want)
		}
	}
	for want, change := range map[string]func(*specs.Spec){
		"linux.sysctl":             func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.no.such": "1"} },
		"root.path":                func(s *specs.Spec) { s.Root.Path += "/nosuch" },
		`rootfs at "/x"`:           func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "nosuchfs"}) },
		"on the top of rootfs":     func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/", Type: "tmpfs"}) },
		"it is inside /proc":       func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/1", Type: "tmpfs"}) },
		"process.rlimits":          func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} },
		"linux.rootfsPropagation":  func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		"process.user.gid: setgid": func(s *specs.Spec) { s.Process.User.GID = 0xffffffff },
		"linux.devices: /dev/x":    func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "z"}} },
		"linux.uidMappings": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
		},
		"mount namespace": func(s *specs.Spec) { s.Linux.Namespaces = nil },
		"process.args":    func(s *specs.Spec) { s.Process.Args = nil },
		`(tmpfs: Unknown parameter 'nosuch')`: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"nosuch=1"}})
		},
	} {
		config := g.config(shell("true"))
		change(config.Spec)
		if _, err := g.call(protocol.Request{Create: &config}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("create says %v, want %s", err, want)
		}
	}
}

func testExec(t *testing.T, g *guest) {
	config := g.config(shell("sleep 1000"))
	init := g.container(config)
	early := g.exec(config.ID, "early", shell("readlink /proc/1/exe; exit 5"))
	if code := early.end(); code != 5 {
		t.Errorf("exec before start: code %d, stderr %q", code, &early.stderr)
	}
	g.start(config.ID)
	if _, err := g.call(protocol.Request{Start: &protocol.Target{Container: config.ID}}); err == nil || err.Error() != "cannot start an already running container" {
		t.Errorf("second start says %v", err)
	}
	r := g.exec(config.ID, "e", shell("hostname; ls /dev/null; ps; cat; for n in pid cgroup mnt; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done"))
	if _, err := g.call(protocol.Request{Exec: &protocol.Exec{Target: r.target, Spec: shell("true")}}); err == nil {
		t.Error("one name is used twice")
	}
	_, err := io.WriteString(r.stdin, "fed\n")
	must(t, err)
	r.stdin.Close()
	code := r.end()
	out := r.stdout.String()
	if code != 0 || !strings.Contains(out, "inside\n/dev/null\n") || !strings.Contains(out, "sleep 1000") || !strings.Contains(out, "fed\n") {
		t.Errorf("exec: code %d, stdout %q, stderr %q", code, out, &r.stderr)
	}
	_, after, _ := strings.Cut(out, "fed\n")
	lines := strings.Fields(after)
	if len(lines) != 6 || lines[0] != lines[1] || lines[2] != lines[3] || lines[4] != lines[5] {
		t.Errorf("namespaces of exec and init: %v", lines)
	}
	for args, want := range map[string]string{
		"nosuch": `exec: "nosuch": executable file not found in $PATH`,
		"/y":     `exec: "/y": stat /y: no such file or directory`,
	} {
		p := shell("")
		p.Args = []string{args}
		_, err := g.call(protocol.Request{Exec: &protocol.Exec{Target: protocol.Target{Container: config.ID, Process: "bad"}, Spec: p}})
		if err == nil || err.Error() != want {
			t.Errorf("exec says %v, want %s", err, want)
		}
	}
	last := g.exec(config.ID, "last", shell("sleep 1000"))
	pids := g.must(protocol.Request{Processes: &protocol.Target{Container: config.ID}}).Processes
	if len(pids) != 2 {
		t.Errorf("processes %v", pids)
	}
	must(t, g.signal(config.ID, "", 9))
	if code := init.end(); code != 137 {
		t.Errorf("init ended with %d", code)
	}
	if code := last.end(); code != 137 {
		t.Errorf("exec ended with %d after init", code)
	}
}

func testExecChild(t *testing.T, g *guest) {
	config := g.config(shell("sleep 1000"))
	init := g.container(config)
	g.start(config.ID)
	r := g.exec(config.ID, "e", shell("sleep 1000 & echo x; exit 3"))
	if code := r.end(); code != 3 || r.stdout.String() != "x\n" {
		t.Errorf("code %d, stdout %q", code, &r.stdout)
	}
	must(t, g.signal(config.ID, "", 9))
	init.end()
}

func testKill(t *testing.T, g *guest) {
	config := g.config(shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"))
	r := g.container(config)
	g.start(config.ID)
	r.expect("ready")
	must(t, g.signal(config.ID, "", 15))
	if code := r.end(); code != 9 {
		t.Errorf("TERM: code %d", code)
	}
	created := g.config(shell("true"))
	r = g.container(created)
	must(t, g.signal(created.ID, "", 9))
	if code := r.end(); code != 137 {
		t.Errorf("KILL before start: code %d", code)
	}
	all := g.config(shell("sleep 1000 & sleep 1000 & wait"))
	r = g.container(all)
	g.start(all.ID)
	g.must(protocol.Request{Signal: &protocol.Signal{Target: r.target, Signal: 9, All: true}})
	if code := r.end(); code != 137 {
		t.Errorf("KILL to all: code %d", code)
	}
}

func testMounts(t *testing.T, g *guest) {
	config := g.config(shell("mount; ls -ld /new /copy /link/deep; cat /copy/file; cat /file; echo x > /file; touch /bound/new; stat -c %a /new"))
	must(t, os.MkdirAll(filepath.Join(g.local, "copy"), 0o751))
	must(t, os.WriteFile(filepath.Join(g.local, "copy/file"), []byte("copied\n"), 0o640))
	source := filepath.Join(g.rootfs, "home")
	must(t, os.WriteFile(filepath.Join(g.local, "home/data"), []byte("data\n"), 0o644))
	config.Spec.Mounts = append(config.Spec.Mounts,
		specs.Mount{Destination: "/new", Type: "tmpfs", Source: "tmpfs", Options: []string{"noexec", "size=1m", "rprivate"}},
		specs.Mount{Destination: "/copy", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro"}},
		specs.Mount{Destination: "/link/deep", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/file", Type: "bind", Source: filepath.Join(source, "data"), Options: []string{"rbind", "ro", "noatime"}},
		specs.Mount{Destination: "/bound", Type: "bind", Source: source, Options: []string{"bind", "rro", "rnosuid"}},
		specs.Mount{Destination: "/sh", Type: "none", Source: source, Options: []string{"rbind", "rshared"}},
	)
	r := g.container(config)
	g.start(config.ID)
	r.end()
	out := r.stdout.String() + r.stderr.String()
	for _, want := range []string{
		" on /new type tmpfs (rw,noexec,", " on /copy type tmpfs (ro,", " on /outside/deep type tmpfs", "copied\n", "data\n",
		"can't create /file: Read-only", "touch: /bound/new: Read-only", "\n1777\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func testLimits(t *testing.T, g *guest) {
	p := shell("ulimit -n; ulimit -c; cat /proc/self/oom_score_adj")
	score := 123
	p.OOMScoreAdj = &score
	p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 99, Hard: 100}, {Type: "RLIMIT_CORE"}}
	if out := g.output(t, g.config(p)); out != "99\n0\n123\n" {
		t.Errorf("limits %q", out)
	}
}

func testMany(t *testing.T, g *guest) {
	var runs []*run
	for range 5 {
		config := g.config(shell("cat | sha256sum"))
		runs = append(runs, g.container(config))
		g.start(config.ID)
	}
	sum := sha256.Sum256(bytes.Repeat([]byte("x"), 1<<20))
	done := make(chan error, len(runs))
	for _, r := range runs {
		go func(in net.Conn) {
			_, err := in.Write(bytes.Repeat([]byte("x"), 1<<20))
			done <- err
			in.Close()
		}(r.stdin)
	}
	for range runs {
		must(t, <-done)
	}
	for _, r := range slices.Backward(runs) {
		if code := r.end(); code != 0 || !strings.HasPrefix(r.stdout.String(), hex.EncodeToString(sum[:])) {
			t.Errorf("code %d, output %q", code, &r.stdout)
		}
	}
}

// testSeccomp loads a filter that refuses uname(2), with and without
// no_new_privs.
func testSeccomp(t *testing.T, g *guest) {
	var filter []byte
	for _, f := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNAME, Jt: 1},
		// Which the working directory is looked at with.
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETCWD, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
	} {
		filter = binary.NativeEndian.AppendUint16(filter, f.Code)
		filter = append(filter, f.Jt, f.Jf)
		filter = binary.NativeEndian.AppendUint32(filter, f.K)
	}
	for _, noNewPrivileges := range []bool{false, true} {
		p := shell("busybox uname; grep Seccomp: /proc/self/status; sleep 1000")
		p.NoNewPrivileges = noNewPrivileges
		p.Capabilities = &specs.LinuxCapabilities{}
		config := g.config(p)
		config.Seccomp = filter
		r := g.container(config)
		g.start(config.ID)
		r.expect("\nSeccomp:\t2\n")
		q := shell("busybox uname; grep Seccomp: /proc/self/status")
		q.NoNewPrivileges = noNewPrivileges
		e := g.exec(config.ID, "e", q)
		if e.end(); e.stdout.String() != "\nSeccomp:\t2\n" {
			t.Errorf("exec: %q %q", &e.stdout, &e.stderr)
		}
		must(t, g.signal(config.ID, "", 9))
		r.end()
	}
}

// testExecFormat: what only execve finds out is told as runc tells it.
func testExecFormat(t *testing.T, g *guest) {
	must(t, os.WriteFile(filepath.Join(g.local, "bin/garbage"), []byte{1, 2, 3}, 0o755))
	p := shell("")
	p.Args = []string{"garbage"}
	config := g.config(p)
	r := g.container(config)
	g.start(config.ID)
	if code := r.end(); code != 255 || r.stderr.String() != "exec /bin/garbage: exec format error\n" {
		t.Errorf("code %d, stderr %q", code, &r.stderr)
	}
	config = g.config(shell("sleep 1000"))
	r = g.container(config)
	g.start(config.ID)
	target := protocol.Target{Container: config.ID, Process: "e"}
	_, err := g.call(protocol.Request{Exec: &protocol.Exec{Target: target, Spec: p}})
	if err == nil || err.Error() != "exec /bin/garbage: exec format error" {
		t.Errorf("exec says %v", err)
	}
	must(t, g.signal(config.ID, "", 9))
	r.end()
}
