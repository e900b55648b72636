package engines

import (
	"strings"
	"testing"
)

var lifeRows = []feature{
	{name: "pause and unpause", try: pause},
	{name: "kill with a signal", try: kill},
	{name: "stop: SIGTERM, then SIGKILL", try: stop},
	{name: "--stop-signal", try: stopSignal},
	{name: "restart", try: restart},
	{name: "stop and start again", try: startAgain},
	{name: "--restart on-failure", try: restartPolicy},
	{name: "healthcheck", try: healthcheck},
	{name: "rename", try: rename},
	{name: "rm -f", try: removeRunning},
	{name: "--rm", try: autoRemove},
	{name: "checkpoint", except: map[string]exception{
		"runc":             {why: "not tried: CRIU does not know the kernels of some machines"},
		"docker/vmruntime": {why: noCheckpoints, verb: "checkpoint create", line: []string{theBox, "c1"}, refusal: "cannot be saved"},
		// Podman looks for CRIU first.
		"podman/vmruntime": {why: noCheckpoints},
	}},
}

const noCheckpoints = "containers in VMs cannot be saved and restored yet"

func pause(t *testing.T, e engine) {
	name := e.start(t, "busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done")
	e.logsHave(t, name, "tick")
	e.must(t, "pause", name)
	same(t, "paused", e.inspect(t, name, "{{.State.Status}}"), "paused")
	var before string
	// What was under way when it paused still arrives.
	until(t, "logs that stand still", func() bool {
		before = e.must(t, "logs", name)
		if r := e.call(t, "exec", name, "true"); r.Code == 0 {
			t.Error("exec in a paused container succeeded")
		}
		return e.must(t, "logs", name) == before
	})
	e.must(t, "unpause", name)
	until(t, "more output", func() bool { return len(e.must(t, "logs", name)) > len(before) })
}

// handler is a shell's script that tells about a signal and ends.
func handler(signal string) string {
	return `trap "echo got ` + signal + `; exit 4" ` + signal + `; echo ready; while :; do sleep 1000 & wait; done`
}

func kill(t *testing.T, e engine) {
	name := e.start(t, "busybox", "sh", "-c", handler("HUP"))
	e.logsHave(t, name, "ready")
	e.must(t, "kill", "-s", "HUP", name)
	same(t, "exit status", e.must(t, "wait", name), "4")
	contains(t, "output", e.must(t, "logs", name), "got HUP")
}

func stop(t *testing.T, e engine) {
	gentle := e.start(t, "busybox", "sh", "-c", handler("TERM"))
	e.logsHave(t, gentle, "ready")
	e.must(t, "stop", "-t", "60", gentle)
	same(t, "exit status", e.inspect(t, gentle, "{{.State.ExitCode}}"), "4")
	// PID 1 has no default action.
	deaf := e.start(t, "busybox", "sleep", "1000")
	e.must(t, "stop", "-t", "1", deaf)
	same(t, "exit status", e.inspect(t, deaf, "{{.State.ExitCode}}"), "137")
}

func stopSignal(t *testing.T, e engine) {
	name := e.start(t, "--stop-signal", "USR1", "busybox", "sh", "-c", handler("USR1"))
	e.logsHave(t, name, "ready")
	e.must(t, "stop", "-t", "60", name)
	same(t, "exit status", e.inspect(t, name, "{{.State.ExitCode}}"), "4")
}

// count is a shell's script that counts its starts.
const count = `echo x >>/root/starts; echo started $(wc -l </root/starts); `

func restart(t *testing.T, e engine) {
	name := e.start(t, "busybox", "sh", "-c", count+forever)
	e.logsHave(t, name, "started 1")
	e.must(t, "restart", "-t", "60", name)
	e.logsHave(t, name, "started 2")
	contains(t, "addresses", e.exec(t, name, "ip addr show eth0"), "inet "+e.addressOf(t, name))
}

func startAgain(t *testing.T, e engine) {
	name := e.start(t, "busybox", "sh", "-c", count+"exit 3")
	same(t, "first", e.must(t, "wait", name), "3")
	e.must(t, "start", name)
	e.logsHave(t, name, "started 2")
	same(t, "second", e.must(t, "wait", name), "3")
}

func restartPolicy(t *testing.T, e engine) {
	name := e.start(t, "--restart", "on-failure:2", "busybox", "sh", "-c", count+"exit 3")
	e.logsHave(t, name, "started 3")
	until(t, "the end", func() bool { return e.inspect(t, name, "{{.State.Status}}") == "exited" })
	same(t, "restarts", e.inspect(t, name, "{{.RestartCount}}"), "2")
}

func healthcheck(t *testing.T, e engine) {
	name := e.idle(t, "--health-cmd", "cat /root/healthy", "--health-interval", "1s", "--health-retries", "1")
	status := func(want string) func() bool {
		return func() bool {
			// Without systemd podman has no timers.
			if e.name == "podman" {
				e.call(t, "healthcheck", "run", name)
			}
			return strings.Contains(e.inspect(t, name, "{{json .State}}"), `"Status":"`+want+`"`)
		}
	}
	until(t, "unhealthy", status("unhealthy"))
	e.exec(t, name, "touch /root/healthy")
	until(t, "healthy", status("healthy"))
}

func rename(t *testing.T, e engine) {
	name, other := e.idle(t), e.newName(t)
	e.must(t, "rename", name, other)
	same(t, "exec", e.exec(t, other, "echo hi"), "hi")
}

// found is the id of the container of that name, if there is one. Engines take the name
// for a pattern.
func (e engine) found(t testing.TB, name string) string {
	t.Helper()
	return e.must(t, "ps", "-a", "-q", "--filter", "name=^"+name+"$")
}

func removeRunning(t *testing.T, e engine) {
	name := e.idle(t)
	e.must(t, "rm", "-f", name)
	same(t, "containers", e.found(t, name), "")
}

func autoRemove(t *testing.T, e engine) {
	name := newID()
	e.must(t, e.runLine(t, "run", name, "--rm", "busybox", "true")...)
	until(t, "it is gone", func() bool { return e.found(t, name) == "" })
}
