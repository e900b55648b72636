package integration

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// Whatever has a handler arrives, by number as engines send it and by name as
// people do.
func TestSignals(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		signals := map[string]string{"1": "HUP", "SIGINT": "INT", "QUIT": "QUIT", "10": "USR1", "sigusr2": "USR2", "TERM": "TERM", "SIGWINCH": "WINCH", "35": "35"}
		var lines []string
		for _, name := range signals {
			lines = append(lines, `trap "echo caught `+name+`" `+name)
		}
		c := r.startNew(t, script(append(lines, "echo ready", forever)...))
		c.stdout.wait(t, "ready\n")
		for sent, name := range signals {
			c.kill(t, sent)
			c.stdout.wait(t, "caught "+name+"\n")
		}
		if message := r.refuse(t, "kill", c.id, "NOSUCH"); !strings.Contains(strings.ToLower(message), "signal") {
			t.Errorf("kill with a signal that does not exist: %q", message)
		}
		c.kill(t, "9")
		c.expect(t, 137)
		c.delete(t)
	})
}

// kill without a signal is TERM.
func TestKillDefault(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle)
	c.stdout.wait(t, "ready\n")
	r.must(t, "kill", c.id)
	c.expect(t, 42)
	// containerd sends it to containers that have stopped.
	r.must(t, "kill", "--all", c.id, "9")
	c.delete(t)
}

// kill --all reaches what init has left behind in other sessions.
func TestKillAll(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, script(
		`trap : TERM`,
		`setsid sh -c 'trap "echo child got it; exit" TERM; echo ready; while :; do sleep 1; done' &`,
		forever))
	c.stdout.wait(t, "ready\n")
	r.must(t, "kill", "--all", c.id, "15")
	c.stdout.wait(t, "child got it\n")
	c.end(t)
}

// What engines send to the pid itself reaches the container: dockerd's last
// resort is SIGKILL.
func TestSignalsToThePid(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle)
		c.stdout.wait(t, "ready\n")
		c.process.kill(t, unix.SIGTERM)
		c.expect(t, 42)
		c.delete(t)
	})
}
