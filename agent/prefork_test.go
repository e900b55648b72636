package agent

import (
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestFitsPreforked(t *testing.T) {
	fitting := launch{flags: preforkFlags, files: make([]*os.File, maxPassed-3)}
	if !fitting.fitsPreforked() {
		t.Error("what fits does not")
	}
	for name, change := range map[string]func(*launch){
		"other namespaces":     func(l *launch) { l.flags &^= unix.CLONE_NEWNET },
		"a user namespace":     func(l *launch) { l.flags |= unix.CLONE_NEWUSER },
		"namespaces of others": func(l *launch) { l.born = make([]namespace, 1) },
		"a time namespace":     func(l *launch) { l.clocks = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}} },
		"an exec":              func(l *launch) { l.config.Exec = true },
		"too many descriptors": func(l *launch) { l.files = append(l.files, nil) },
	} {
		l := fitting
		if change(&l); l.fitsPreforked() {
			t.Errorf("%s fits", name)
		}
	}
}

// The first container gets the preforked stage where it fits. Otherwise, or when that has been
// killed, it gets one of its own, and of the other nothing is left.
func TestPrefork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	for name, c := range map[string]struct {
		before func(a *agent)
		change func(s *specs.Spec)
		used   bool
	}{
		"fits": {used: true},
		"without a network namespace": {change: func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
		}},
		"killed": {before: func(a *agent) {
			must(t, a.reaper.kill(a.preforked.pid, unix.SIGKILL))
			<-a.preforked.exited
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a, g := localGuest(t)
			must(t, a.prefork())
			stage := a.preforked
			if c.before != nil {
				c.before(a)
			}
			config := g.config(shell("ip link show lo 2>/dev/null || cat /sys/class/net/lo/flags; read -r end"))
			if c.change != nil {
				c.change(config.Spec)
			}
			init := g.container(config)
			g.start(config.ID)
			process, err := a.process(init.target)
			must(t, err)
			if used := process.pid == stage.pid; used != c.used {
				t.Errorf("the container's process is %d, the stage was %d", process.pid, stage.pid)
			}
			if !c.used {
				<-stage.exited
			}
			init.stdin.Close()
			if code := init.end(); code != 1 {
				t.Errorf("code %d, stderr %q", code, &init.stderr)
			}
		})
	}
}
