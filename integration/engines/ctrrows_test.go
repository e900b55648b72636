package engines

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

var ctrRows = []ctrFeature{
	{name: "run --rm: output and exit status", try: ctrRun},
	{name: "run with stdin", try: ctrStdin},
	{name: "run -t, with its size and resize", try: ctrTerminal},
	{name: "run -d, task ls and task ps", try: ctrDetached},
	{name: "a program that is not there", try: ctrMissing},
	{name: "--log-uri", try: ctrLog},
	{name: "--env and --cwd", try: ctrProcess},
	{name: "--mount and --read-only", try: ctrMount},
	{name: "--with-ns network:PATH", try: ctrNetns},
	{name: "--net-host", try: ctrNetHost, except: map[string]exception{"vmruntime": {why: ownNetnsOnly}}},
	{name: "exec: output and exit status", try: ctrExec},
	{name: "exec -t", try: ctrExecTerminal},
	{name: "exec -d, and kill of an exec", try: ctrExecKill},
	{name: "kill with a signal", try: ctrKill},
	{name: "kill -a", try: ctrKillAll},
	{name: "pause and resume", try: ctrPause},
	{name: "metrics", try: ctrMetrics},
	{name: "--memory-limit", try: ctrMemory},
	{name: "task rm -f", try: ctrRemove},
}

func ctrRun(t *testing.T, c ctr) {
	r := c.try(t, nil, "sh", "-c", "echo out; echo err >&2; exit 7")
	same(t, "stdout", r.Out, "out\n")
	contains(t, "stderr", r.Err, "err\n")
	if r.Code != 7 {
		t.Errorf("exit status %d, want 7", r.Code)
	}
}

// ctr does not tell the end of its stdin.
func ctrStdin(t *testing.T, c ctr) {
	cmd := command(t, c.line(c.runLine(c.newName(t), []string{"--rm"}, "sh", "-c", "read line; echo got: $line")...)...)
	cmd.Stdin = strings.NewReader("hello\n")
	same(t, "stdout", finish(t, cmd).Out, "got: hello\n")
}

func ctrTerminal(t *testing.T, c ctr) {
	resized(t, c.line(c.runLine(c.newName(t), []string{"--rm", "-t"}, "sh", "-c", sizes)...)...)
}

func ctrDetached(t *testing.T, c ctr) {
	name := c.idle(t)
	same(t, "status", c.status(t, name), "RUNNING")
	if lines := strings.Split(c.must(t, "task", "ps", name), "\n"); len(lines) < 2 {
		t.Errorf("no process: %q", lines)
	}
}

func ctrMissing(t *testing.T, c ctr) {
	r := c.try(t, nil, "nosuchprogram")
	if r.Code == 0 {
		t.Error("it succeeded")
	}
	contains(t, "the error", r.Err, `exec: "nosuchprogram": executable file not found in $PATH`)
}

// containerd closes the file with the first stream that ends: the script ends both.
func ctrLog(t *testing.T, c ctr) {
	_, log := c.start(t, "echo out; echo err >&2; "+forever)
	logHas(t, log, "ready")
	contains(t, "the log", testutil.ReadFile(t, log), "out\n", "err\n")
}

func ctrProcess(t *testing.T, c ctr) {
	got := c.run(t, `pwd; echo "$A"`, "--env", "A=b c", "--cwd", "/tmp")
	same(t, "inside", got, "/tmp\nb c")
}

func ctrMount(t *testing.T, c ctr) {
	dir := t.TempDir()
	testutil.WriteFile(t, filepath.Join(dir, "f"), "text\n")
	got := c.run(t, "cat /data/f; echo new >/data/g; touch /x 2>/dev/null || echo refused",
		"--mount", "type=bind,src="+dir+",dst=/data,options=rbind:rw", "--read-only")
	same(t, "inside", got, "text\nrefused")
	same(t, "on the host", testutil.ReadFile(t, filepath.Join(dir, "g")), "new\n")
}

func ctrNetns(t *testing.T, c ctr) {
	name := newID()
	host(t, "ip", "netns", "add", name)
	t.Cleanup(func() { host(t, "ip", "netns", "del", name) })
	host(t, "ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "other")
	host(t, "ip", "-n", name, "addr", "add", "192.0.2.5/24", "dev", "eth0")
	host(t, "ip", "-n", name, "link", "set", "other", "up")
	host(t, "ip", "-n", name, "link", "set", "eth0", "up")
	contains(t, "inside", c.run(t, "ip addr show eth0", "--with-ns", "network:/run/netns/"+name), "inet 192.0.2.5/24")
}

func ctrNetHost(t *testing.T, c ctr) {
	contains(t, "interfaces", c.run(t, "ip link", "--net-host"), "docker0")
}

func ctrExec(t *testing.T, c ctr) {
	r := c.exec(t, c.idle(t), "echo out; echo err >&2; exit 6")
	same(t, "stdout", r.Out, "out\n")
	contains(t, "stderr", r.Err, "err\n")
	if r.Code != 6 {
		t.Errorf("exit status %d, want 6", r.Code)
	}
}

func ctrExecTerminal(t *testing.T, c ctr) {
	resized(t, c.line("task", "exec", "-t", "--exec-id", newID(), c.idle(t), "sh", "-c", sizes)...)
}

func ctrExecKill(t *testing.T, c ctr) {
	name, id := c.idle(t), newID()
	c.must(t, "task", "exec", "-d", "--exec-id", id, name, "sh", "-c", `trap "echo got it >/tmp/got; exit" TERM; echo >/tmp/started; while :; do sleep 1000 & wait; done`)
	until(t, "exec", func() bool { return c.exec(t, name, "test -e /tmp/started").Code == 0 })
	c.must(t, "task", "kill", "-s", "TERM", "--exec-id", id, name)
	until(t, "the signal", func() bool { return c.exec(t, name, "cat /tmp/got").Out == "got it\n" })
	same(t, "the container", c.status(t, name), "RUNNING")
}

func ctrKill(t *testing.T, c ctr) {
	name, log := c.start(t, handler("HUP"))
	logHas(t, log, "ready")
	c.must(t, "task", "kill", "-s", "HUP", name)
	until(t, "the end", func() bool { return c.status(t, name) == "STOPPED" })
	contains(t, "the log", testutil.ReadFile(t, log), "got HUP")
}

func ctrKillAll(t *testing.T, c ctr) {
	name, log := c.start(t, "sleep 1000 & "+forever)
	logHas(t, log, "ready")
	c.must(t, "task", "kill", "-a", "-s", "KILL", name)
	until(t, "the end", func() bool { return c.status(t, name) == "STOPPED" })
}

func ctrPause(t *testing.T, c ctr) {
	name, log := c.start(t, "while :; do echo tick; sleep 0.1; done")
	logHas(t, log, "tick")
	c.must(t, "task", "pause", name)
	same(t, "status", c.status(t, name), "PAUSED")
	before := testutil.ReadFile(t, log)
	c.must(t, "task", "resume", name)
	until(t, "more output", func() bool { return len(testutil.ReadFile(t, log)) > len(before) })
	same(t, "status", c.status(t, name), "RUNNING")
}

func ctrMetrics(t *testing.T, c ctr) {
	got := c.must(t, "task", "metrics", c.idle(t))
	contains(t, "metrics", got, "memory", "cpu")
}

// What takes more is killed.
func ctrMemory(t *testing.T, c ctr) {
	if r := c.try(t, []string{"--memory-limit", "33554432"}, "tail", "/dev/zero"); r.Code != 137 {
		t.Errorf("exit status %d, want 137", r.Code)
	}
}

func ctrRemove(t *testing.T, c ctr) {
	name := c.idle(t)
	c.must(t, "task", "rm", "-f", name)
	same(t, "status", c.status(t, name), "")
}
