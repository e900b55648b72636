package engines

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// allRights is of machines like those that the tests are made for.
const allRights = "not tried: docker asks for every capability, and the root of some machines does not have them all"

const noHostNamespaces = "a VM's kernel has no namespaces of the host"

var processRows = []feature{
	{name: "--user and --group-add", try: user},
	{name: "--workdir, --entrypoint", try: workdir},
	{name: "-e and --env-file", try: environment},
	{name: "--label", try: label},
	{name: "--cap-add and --cap-drop", try: capabilities},
	{name: "--privileged", try: privileged, except: map[string]exception{
		"docker/runc": {why: allRights},
	}},
	{name: "--security-opt no-new-privileges", try: noNewPrivileges},
	{name: "--security-opt seccomp", try: seccomp},
	{name: "--ulimit", try: ulimit, except: map[string]exception{
		"podman/runc": {why: "not tried: podman raises other limits then, which the root of some machines may not"},
	}},
	{name: "--sysctl", try: sysctl},
	{name: "--device of the guest's kernel", try: device},
	{name: "--device of a block device", try: deviceDisk},
	{name: "--init", try: initProcess},
	{name: "--oom-score-adj", try: oomScore},
	{name: "--pid host", try: pidHost, except: hostNamespace("--pid")},
	{name: "--ipc host", try: ipcHost, except: hostNamespace("--ipc")},
	{name: "--uts host", try: utsHost, except: hostNamespace("--uts")},
}

func hostNamespace(option string) map[string]exception {
	return map[string]exception{"vmruntime": {why: noHostNamespaces, line: []string{option, "host", "busybox", "true"}, refusal: "namespace"}}
}

func user(t *testing.T, e engine) {
	same(t, "by name", e.run(t, "--user", "app", "busybox", "sh", "-c", "id -u; id -g; id -G"), "1000\n1000\n1000 2000")
	same(t, "by number", e.run(t, "--user", "12:34", "--group-add", "56", "busybox", "sh", "-c", "id -u; id -g; id -G"), "12\n34\n34 56")
}

func workdir(t *testing.T, e engine) {
	same(t, "inside", e.run(t, "--workdir", "/home", "--entrypoint", "pwd", "busybox"), "/home")
}

func environment(t *testing.T, e engine) {
	file := filepath.Join(t.TempDir(), "env")
	testutil.WriteFile(t, file, "FROM_FILE=a=b c\n")
	same(t, "inside", e.run(t, "-e", "X=1", "--env-file", file, "busybox", "sh", "-c", `echo "$X $FROM_FILE"`), "1 a=b c")
}

func label(t *testing.T, e engine) {
	value := newID()
	name := e.idle(t, "--label", "of="+value)
	same(t, "found", e.must(t, "ps", "--filter", "label=of="+value, "--format", "{{.Names}}"), name)
}

func capabilities(t *testing.T, e engine) {
	show := []string{"busybox", "grep", "CapEff", "/proc/self/status"}
	same(t, "none", field(e.run(t, append([]string{"--cap-drop", "ALL"}, show...)...)), "0000000000000000")
	same(t, "one", field(e.run(t, append([]string{"--cap-drop", "ALL", "--cap-add", "NET_ADMIN"}, show...)...)), "0000000000001000")
}

// field is the last word.
func field(line string) string {
	words := strings.Fields(line)
	return words[len(words)-1]
}

func privileged(t *testing.T, e engine) {
	got := e.run(t, "--privileged", "busybox", "sh", "-c", "mkdir /m && mount -t tmpfs tmpfs /m && echo mounted; ls /dev/null")
	same(t, "inside", got, "mounted\n/dev/null")
}

func noNewPrivileges(t *testing.T, e engine) {
	same(t, "inside", field(e.run(t, "--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status")), "1")
}

func seccomp(t *testing.T, e engine) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	testutil.WriteFile(t, profile, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`)
	show := []string{"busybox", "sh", "-c", "grep Seccomp: /proc/self/status; mkdir /d 2>/dev/null || echo refused"}
	contains(t, "with a profile", e.run(t, append([]string{"--security-opt", "seccomp=" + profile}, show...)...), "2\nrefused")
	contains(t, "without", e.run(t, append([]string{"--security-opt", "seccomp=unconfined"}, show...)...), "0")
}

func ulimit(t *testing.T, e engine) {
	got := e.run(t, "--ulimit", "nofile=123:456", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn")
	same(t, "inside", got, "123\n456")
}

func sysctl(t *testing.T, e engine) {
	got := e.run(t, "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=65536", "busybox", "cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")
	same(t, "inside", got, "1\n65536")
}

func device(t *testing.T, e engine) {
	same(t, "inside", e.run(t, "--device", "/dev/zero:/dev/nothing:r", "busybox", "sh", "-c", "head -c 2 /dev/nothing | od -An -tx1"), " 00 00")
}

// A block device is a disk of the VM's.
func deviceDisk(t *testing.T, e engine) {
	file := filepath.Join(t.TempDir(), "disk")
	testutil.WriteFile(t, file, "host"+strings.Repeat("\x00", 1<<20-4))
	device := strings.TrimSpace(host(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { host(t, "losetup", "--detach", device) })
	read := "head -c 4 /dev/disk; "
	same(t, "read-only", e.run(t, "--device", device+":/dev/disk:r", "busybox", "sh", "-c", read+"echo guest 2>/dev/null >/dev/disk || echo refused"), "hostrefused")
	same(t, "with all rights", e.run(t, "--device", device+":/dev/disk", "busybox", "sh", "-c", read+"printf guest | dd of=/dev/disk bs=512 seek=1 conv=sync,fsync 2>/dev/null"), "host")
	same(t, "the host's file", testutil.ReadFile(t, file)[512:517], "guest")
}

func initProcess(t *testing.T, e engine) {
	got := e.run(t, "--init", "busybox", "sh", "-c", "cat /proc/1/comm; echo $$")
	if strings.HasPrefix(got, "sh\n") || strings.HasSuffix(got, "\n1") {
		t.Errorf("no init: %q", got)
	}
}

func oomScore(t *testing.T, e engine) {
	same(t, "inside", e.run(t, "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj"), "500")
}

func pidHost(t *testing.T, e engine) {
	contains(t, "processes", e.run(t, "--pid", "host", "busybox", "ps"), "containerd")
}

func ipcHost(t *testing.T, e engine) {
	same(t, "the namespace", e.run(t, "--ipc", "host", "busybox", "readlink", "/proc/self/ns/ipc")+"\n", host(t, "readlink", "/proc/self/ns/ipc"))
}

func utsHost(t *testing.T, e engine) {
	same(t, "the name", e.run(t, "--uts", "host", "busybox", "hostname")+"\n", host(t, "hostname"))
}
