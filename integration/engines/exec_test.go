package engines

import (
	"strings"
	"testing"
	"time"
)

var execRows = []feature{
	{name: "exec: exit status and streams", try: execStreams},
	{name: "exec -i", try: execStdin},
	{name: "exec -t, with its size and resize", try: execTerminal},
	{name: "exec -d", try: execDetached},
	{name: "exec -u, -w and -e", try: execOptions},
	{name: "exec --privileged", try: execPrivileged, except: map[string]exception{
		"docker/runc": {why: allRights},
	}},
	{name: "exec: killed with its container", try: execKilled},
	{name: "top", try: top, except: map[string]exception{
		"podman/vmruntime": {why: "podman looks for the processes in the host's /proc; `podman exec NAME ps` shows them"},
	}},
	{name: "stats", try: stats},
}

func execStreams(t *testing.T, e engine) {
	r := e.call(t, "exec", e.box, "sh", "-c", "echo out; echo err >&2; exit 6")
	same(t, "stdout", r.Out, "out\n")
	same(t, "stderr", r.Err, "err\n")
	if r.Code != 6 {
		t.Errorf("exit status %d, want 6", r.Code)
	}
	// Docker 20.10 says 126 for a missing program too.
	for _, program := range []string{"nosuchprogram", "/etc/passwd"} {
		if r := e.call(t, "exec", e.box, program); r.Code != 126 && r.Code != 127 {
			t.Errorf("%s: exit status %d, want 126 or 127", program, r.Code)
		}
	}
}

func execStdin(t *testing.T, e engine) {
	r := e.feed(t, strings.Repeat("line\n", 20000), "exec", "-i", e.box, "wc", "-c")
	same(t, "bytes", strings.TrimSpace(r.Out), "100000")
}

func execTerminal(t *testing.T, e engine) {
	resized(t, e.line("exec", "-it", e.box, "sh", "-c", sizes)...)
}

func execDetached(t *testing.T, e engine) {
	file := "/tmp/" + newID()
	e.must(t, "exec", "-d", e.box, "sh", "-c", "echo done >"+file)
	until(t, file, func() bool { return e.call(t, "exec", e.box, "cat", file).Out == "done\n" })
}

func execOptions(t *testing.T, e engine) {
	got := e.must(t, "exec", "-u", "app", "-w", "/tmp", "-e", "A=b c", e.box, "sh", "-c", `id -u; id -g; pwd; echo "$A"`)
	same(t, "inside", got, "1000\n1000\n/tmp\nb c")
}

func execPrivileged(t *testing.T, e engine) {
	show := []string{e.box, "grep", "CapEff", "/proc/self/status"}
	usual := field(e.must(t, append([]string{"exec"}, show...)...))
	if all := field(e.must(t, append([]string{"exec", "--privileged"}, show...)...)); all <= usual {
		t.Errorf("capabilities %s, and %s without it", all, usual)
	}
}

func execKilled(t *testing.T, e engine) {
	name := e.idle(t)
	ended := background(t, e.line("exec", name, "sh", "-c", "echo started >/tmp/started; sleep 1000")...)
	until(t, "exec", func() bool { return e.call(t, "exec", name, "cat", "/tmp/started").Out == "started\n" })
	e.must(t, "kill", name)
	begin := time.Now()
	if code := <-ended; code != 137 {
		t.Errorf("exit status %d, want 137", code)
	}
	if time.Since(begin) > patience/2 {
		t.Error("the exec has outlived its container")
	}
}

func top(t *testing.T, e engine) {
	if lines := strings.Split(e.must(t, "top", e.box), "\n"); len(lines) < 2 {
		t.Errorf("no process: %q", lines)
	}
}

func stats(t *testing.T, e engine) {
	name := e.idle(t, "--memory", "64m")
	got := e.must(t, "stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.PIDs}}", name)
	fields := strings.Fields(got)
	if len(fields) < 8 || strings.HasPrefix(fields[1], "0B") || fields[7] == "0" {
		t.Errorf("nothing counted: %q", got)
	}
}
