package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const daemonJSON = "/etc/docker/daemon.json"

// daemon runs hack/engine.sh.
func daemon(t *testing.T, what, name string) {
	t.Helper()
	host(t, filepath.Join(checkout(), "hack/engine.sh"), what, name)
}

// reload has dockerd read its configuration again.
func reload(t *testing.T) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(testutil.ReadFile(t, "/run/engines/dockerd.pid")))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// liveRestore has dockerd leave its containers alone when it ends, until the test
// is over.
func liveRestore(t *testing.T) {
	t.Helper()
	before := testutil.ReadFile(t, daemonJSON)
	config := map[string]any{}
	if err := json.Unmarshal([]byte(before), &config); err != nil {
		t.Fatal(err)
	}
	set := func(on bool) {
		t.Helper()
		config["live-restore"] = on
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		testutil.WriteFile(t, daemonJSON, string(text))
		reload(t)
		until(t, "live-restore", func() bool {
			return host(t, "docker", "info", "--format", "{{.LiveRestoreEnabled}}") == fmt.Sprintln(on)
		})
	}
	set(true)
	t.Cleanup(func() {
		set(false)
		testutil.WriteFile(t, daemonJSON, before)
	})
}

// TestDaemonsRestart: containers outlive their engines, which find them again.
func TestDaemonsRestart(t *testing.T) {
	e := engine{name: "docker", runtime: "vmruntime"}
	nothingLeftButDaemons(t)
	liveRestore(t)
	name := e.start(t, "-p", "80", "busybox", "sh", "-c", "echo first; nc -lk -p 80 -e cat & "+forever)
	e.logsHave(t, name, "ready")
	again := func(what string) {
		t.Helper()
		same(t, what+": status", e.inspect(t, name, "{{.State.Status}}"), "running")
		same(t, what+": exec", e.exec(t, name, "echo inside"), "inside")
		contains(t, what+": logs", e.must(t, "logs", name), "first")
	}
	daemon(t, "stop", "dockerd")
	daemon(t, "start", "dockerd")
	again("dockerd restarted")
	daemon(t, "kill", "dockerd")
	daemon(t, "start", "dockerd")
	again("dockerd killed")
	daemon(t, "kill", "containerd")
	daemon(t, "start", "containerd")
	until(t, "dockerd talks to containerd again", func() bool { return e.call(t, "exec", name, "true").Code == 0 })
	again("containerd killed")
	e.must(t, "stop", "-t", "60", name)
	same(t, "exit status", e.inspect(t, name, "{{.State.ExitCode}}"), "0")
	e.must(t, "start", name)
	again("started again")
}

// nothingLeftButDaemons is nothingLeft for a test that starts daemons anew: they
// have other pids then.
func nothingLeftButDaemons(t *testing.T) {
	t.Helper()
	before := inventoryOfEngines(t)
	t.Cleanup(func() {
		until(t, "nothing is left", func() bool {
			left := slices.DeleteFunc(takeInventory(t).without(before), func(thing string) bool {
				fields := strings.Fields(thing)
				return fields[0] == "process" && len(fields) > 2 && (fields[2] == "dockerd" || fields[2] == "containerd")
			})
			if len(left) > 0 {
				t.Log("left:\n  " + strings.Join(left, "\n  "))
			}
			return len(left) == 0
		})
	})
}

// TestKilledParts kills what stands between the engine and the container, and
// expects that everything goes and the engine says what runc's users know.
func TestKilledParts(t *testing.T) {
	e := engine{name: "docker", runtime: "vmruntime"}
	for _, part := range []struct {
		name string
		find func(shim int) int
		code string
		// execs says that docker hears of their end, see docs/shim.md.
		execs bool
	}{
		{"the container's process", func(shim int) int { return shim }, "137", false},
		{"QEMU", qemuOf, "255", true},
		{"the engine's shim", parent, "137", false},
	} {
		t.Run(strings.ReplaceAll(part.name, " ", "-"), func(t *testing.T) {
			nothingLeft(t)
			name := e.idle(t)
			e.logsHave(t, name, "ready")
			var execs []<-chan int
			if part.execs {
				execs = e.holdExecs(t, name)
			}
			pid, err := strconv.Atoi(e.inspect(t, name, "{{.State.Pid}}"))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(part.find(pid), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			same(t, "exit status", e.must(t, "wait", name), part.code)
			same(t, "state", e.inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}"), "exited "+part.code)
			for i, ended := range execs {
				if code := <-ended; code == 0 {
					t.Errorf("exec %d: exit status 0", i)
				}
			}
			e.must(t, "start", name)
			same(t, "started again", e.exec(t, name, "echo inside"), "inside")
		})
	}
}

// holdExecs runs some that end with the container alone.
func (e engine) holdExecs(t *testing.T, name string) []<-chan int {
	t.Helper()
	execs := []<-chan int{
		background(t, e.line("exec", name, "sleep", "2001")...),
		background(t, e.line("exec", name, "sh", "-c", "sleep 2002; true")...),
		background(t, "script", "-qec", testutil.ShellLine(e.line("exec", "-it", name, "sleep", "2003")...), "/dev/null"),
	}
	until(t, "the execs", func() bool {
		ps := e.exec(t, name, "ps")
		return strings.Contains(ps, "sleep 2001") && strings.Contains(ps, "sleep 2002") && strings.Contains(ps, "sleep 2003")
	})
	return execs
}

// background runs a command and returns how it ends.
func background(t *testing.T, line ...string) <-chan int {
	t.Helper()
	ended := make(chan int, 1)
	cmd := command(t, line...)
	go func() {
		_ = cmd.Run()
		ended <- testutil.ExitCode(cmd.ProcessState)
	}()
	return ended
}

// parent is the pid of a process's parent.
func parent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name may hold anything.
	fields := strings.Fields(string(text[strings.LastIndex(string(text), ")")+1:]))
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// qemuOf is the QEMU of a container's shim.
func qemuOf(shim int) int {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range names {
		name, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if strings.HasPrefix(string(name), "qemu") && parent(pid) == shim {
			return pid
		}
	}
	return 0
}
