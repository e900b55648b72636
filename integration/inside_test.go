package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// look tells what a process sees of what config.json asks for.
var look = []string{
	`echo "cwd $(pwd)"; echo "id $(id -u) $(id -g) $(id -G)"; echo "host $(hostname)"; echo "umask $(umask)"`,
	`env | sort`,
	// Not SigIgn: with runc that is whatever the caller of the tests ignores.
	`grep -E "^(Cap|NoNewPrivs|Seccomp:|SigBlk)" /proc/self/status`,
	`ulimit -n`,
	`set -- /proc/[0-9]*; echo "processes $#"`,
	// From where is the runtime's affair; where and how is not. Not every kernel
	// has all that is masked.
	`cut -d" " -f5,6 /proc/self/mountinfo | grep -vE "/sys/fs/cgroup|/proc/(kcore|sysrq-trigger)" | sed "s/,*relatime//" | sort | uniq`,
	`for f in null zero full random urandom tty; do echo "$f $(stat -c "%F %t:%T %a" /dev/$f)"; done`,
	`for f in stdin stdout stderr fd ptmx; do echo "$f $(readlink /dev/$f)"; done`,
	`for f in /proc/sys/kernel/hostname /etc/new; do (echo x > $f) 2>/dev/null && echo "wrote $f"; done`,
	`for f in /proc/keys /proc/timer_list; do echo "$f $(head -c 10 $f | wc -c)"; done`,
	`[ -e /sys/firmware/memmap ] && echo "firmware shows"`,
	// No command substitution: the shell has the other end of its pipe for a moment.
	`echo "descriptors" /proc/$$/fd/*`,
	`cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -o link | cut -d" " -f2`,
	`for ns in pid mnt uts ipc net; do [ $(readlink /proc/1/ns/$ns) = $(readlink /proc/self/ns/$ns) ] && echo "shares $ns"; done`,
}

// What a process finds is what runc gives it, for one configuration after
// another.
func TestSameInsideAsRunc(t *testing.T) {
	r, ref := machines(t), reference(t)
	nothingLeft(t)
	for _, test := range []struct {
		name    string
		changes []change
	}{
		{"defaults", nil},
		{"user", []change{func(s *specs.Spec) {
			mask := uint32(0o27)
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 2000}, Umask: &mask}
			s.Process.Cwd = "/home/user"
			s.Process.Env = append(s.Process.Env, "A=b c", "EMPTY=", "HOME=/somewhere")
			s.Process.NoNewPrivileges = false
		}}},
		{"privileges", []change{func(s *specs.Spec) {
			capabilities("CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN")(s)
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 123, Hard: 456}}
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}
			s.Hostname = "other-name"
		}}},
		{"mounts", []change{func(s *specs.Spec) {
			s.Mounts = append(s.Mounts,
				specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/tmp", Options: []string{"nosuid", "nodev", "noexec", "size=1m", "mode=1777"}},
				specs.Mount{Type: "bind", Source: "/etc", Destination: "/home/user", Options: []string{"rbind", "ro"}},
				specs.Mount{Type: "bind", Source: "/etc/passwd", Destination: "/etc/passwd", Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
		}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bundle := ref.bundle(t, append(test.changes, script(look...))...)
			see := func(r runtime) []string {
				got := r.call(t, "run", "--bundle", bundle, r.newID(t))
				if got.Err != "" {
					t.Errorf("%s: stderr %q", r.name, got.Err)
				}
				return strings.Split(got.Out, "\n")
			}
			if diff := cmp.Diff(see(ref), see(r)); diff != "" {
				t.Errorf("the inside differs (-runc +vmruntime):\n%s", diff)
			}
		})
	}
}

// Binds are the host's files, not copies: engines rewrite resolv.conf and hosts
// in place while the container runs.
func TestBinds(t *testing.T) {
	eachTransport(t, func(t *testing.T, r runtime) {
		root, dir, file := newRootfs(t), t.TempDir(), filepath.Join(t.TempDir(), "hosts")
		testutil.WriteFile(t, filepath.Join(dir, "from-host"), "1\n")
		testutil.WriteFile(t, file, "first\n")
		c := r.startNew(t, rootfs(root), bind(dir, "/mnt"), bind(dir, "/read-only", "ro"), bind(file, "/etc/hosts"), idle,
			capabilities("CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_DAC_OVERRIDE"))
		inside := func(command, want string) {
			t.Helper()
			if got := c.exec(t, "/bin/sh", "-c", command); got.Out != want {
				t.Errorf("%s: %s, not %q", command, got, want)
			}
		}
		inside("cat /mnt/from-host /read-only/from-host /etc/hosts", "1\n1\nfirst\n")
		// A shorter text, in the same file.
		testutil.WriteFile(t, file, "2nd\n")
		inside("cat /etc/hosts", "2nd\n")
		testutil.WriteFile(t, filepath.Join(dir, "later"), "later\n")
		inside("cat /mnt/later", "later\n")
		if err := os.Remove(filepath.Join(dir, "later")); err != nil {
			t.Fatal(err)
		}
		inside("ls /mnt", "from-host\n")
		inside("echo inside > /mnt/from-container; mkdir /mnt/d; ln -s x /mnt/l; chown 5:6 /mnt/from-container; chmod 4711 /mnt/from-container", "")
		if got := testutil.ReadFile(t, filepath.Join(dir, "from-container")); got != "inside\n" {
			t.Errorf("written inside: %q", got)
		}
		inside("echo x > /read-only/new 2>/dev/null || echo refused", "refused\n")
		inside("rm /read-only/from-host 2>/dev/null || echo refused", "refused\n")
		inside("rm /mnt/from-host; ls /read-only", "d\nfrom-container\nl\n")
		inside("stat -c '%a %u %g' /mnt/from-container; rm -r /mnt/*", "4711 5 6\n")
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("not removed on the host: %v", left)
		}
		c.end(t)
	})
}

// Hooks run on the host in their order and read the container's state. Docker
// plugs the network in with them.
func TestHooks(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	dir := t.TempDir()
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{
			Path: "/bin/sh",
			Args: []string{"sh", "-c", "cat > " + dir + "/" + name + ".json; echo " + name + " $ARG >> " + dir + "/order"},
			Env:  []string{"PATH=/bin", "ARG=" + name},
		}}
	}
	c := r.create(t, r.bundle(t, idle, annotate("org.example", "yes"), func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop")}
	}, prestart(hook("prestart"))), options{})
	order := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, strings.Fields(testutil.ReadFile(t, dir+"/order"))); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
	}
	if !r.isVM() {
		t.Skip("needs a runtime that runs poststart after start: runc runs it in create")
	}
	order("prestart", "prestart", "createRuntime", "createRuntime")
	checkHookState(t, c, dir+"/prestart.json", "created", c.pid)
	checkHookState(t, c, dir+"/createRuntime.json", "creating", c.pid)
	c.start(t)
	c.stdout.wait(t, "ready\n")
	order("prestart", "prestart", "createRuntime", "createRuntime", "poststart", "poststart")
	checkHookState(t, c, dir+"/poststart.json", "running", c.pid)
	c.end(t)
	order("prestart", "prestart", "createRuntime", "createRuntime", "poststart", "poststart", "poststop", "poststop")
	checkHookState(t, c, dir+"/poststop.json", "stopped", 0)
}

func prestart(hooks []specs.Hook) change {
	return func(s *specs.Spec) {
		if s.Hooks == nil {
			s.Hooks = &specs.Hooks{}
		}
		s.Hooks.Prestart = hooks //nolint:staticcheck // deprecated, and what Docker 20.10 uses
	}
}

func checkHookState(t testing.TB, c *container, path, status string, pid int) {
	t.Helper()
	var got specs.State
	if err := json.Unmarshal([]byte(testutil.ReadFile(t, path)), &got); err != nil {
		t.Fatal(err)
	}
	want := specs.State{
		Version: got.Version, ID: c.id, Status: specs.ContainerState(status), Pid: pid, Bundle: c.bundle,
		Annotations: map[string]string{"org.example": "yes"},
	}
	if got.Pid != 0 && status == "stopped" {
		// runc tells the pid that was.
		got.Pid = 0
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", filepath.Base(path), diff)
	}
}

// A hook that fails ends the create, with what it said.
func TestFailingHook(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	hook := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no network today >&2; exit 3"}}}
	for kind, with := range map[string]change{
		"prestart":      prestart(hook),
		"createRuntime": func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: hook} },
	} {
		bundle := r.bundle(t, with)
		message := refusal(t, r.tryCreate(t, bundle))
		for _, want := range []string{"hook", "exit status 3", "no network today"} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: %q does not say %q", kind, message, want)
			}
		}
	}
}

// The network namespace is the engine's to fill: a hook finds it in the state's
// pid, or it is there beforehand.
func TestNetworkNamespace(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	path := newNetns(t)
	c := r.create(t, r.bundle(t, idle, func(s *specs.Spec) {
		i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
		s.Linux.Namespaces[i].Path = path
	}), options{})
	joined, err := os.Stat("/proc/" + itoa(c.pid) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	given, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(joined, given) {
		t.Error("the pid is in another network namespace than the one given")
	}
	c.end(t)
}

// newNetns is a network namespace that lives by its name alone.
func newNetns(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	testutil.WriteFile(t, path, "")
	run(t, "unshare", "--net="+path, "true")
	t.Cleanup(func() { run(t, "umount", path) })
	return path
}

// run -d is create and start in one; run --keep leaves what run else deletes.
func TestRunDetached(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := &container{runtime: r, id: r.newID(t), bundle: r.bundle(t, idle)}
	c.process = c.spawn(t, options{}, []string{"run", "--detach", "--bundle", c.bundle}, nil)
	c.stdout.wait(t, "ready\n")
	checkState(t, c, "running")
	c.kill(t, "TERM")
	c.expect(t, 42)
	c.delete(t)
}

func TestRunKeep(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := &container{runtime: r, id: r.newID(t), bundle: r.bundle(t, script("exit 3"))}
	if got := r.call(t, "run", "--keep", "--bundle", c.bundle, c.id); got.Code != 3 {
		t.Errorf("run exited %d, not 3", got.Code)
	}
	checkState(t, c, "stopped")
	c.delete(t)
}

// What a person's terminal or a supervisor sends to run reaches the container.
func TestRunForwardsSignals(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	cmd, _ := r.command(t, "run", "--bundle", r.bundle(t, idle), r.newID(t))
	read, write := pipe(t)
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	collect("stdout", read).wait(t, "ready\n")
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := testutil.ExitCode(cmd.ProcessState); got != 42 {
		t.Errorf("run exited %d, not 42", got)
	}
}
