package engines

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// soak is the smaller number, or the larger one for `make soak`.
func soak(small, large int) int {
	if os.Getenv("VMRUNTIME_SOAK") == "1" {
		return large
	}
	return small
}

// TestManyRuns runs containers one after the other, and then several at a time.
func TestManyRuns(t *testing.T) {
	e := engine{name: "docker", runtime: "vmruntime"}
	row, atOnce := soak(6, 100), soak(4, 10)
	t.Run(fmt.Sprintf("%d-in-a-row", row), func(t *testing.T) {
		nothingLeft(t)
		for range row {
			e.runSideBySide(t, 1)
		}
	})
	t.Run(fmt.Sprintf("%d-at-a-time", atOnce), func(t *testing.T) {
		nothingLeft(t)
		for range soak(1, 10) {
			e.runSideBySide(t, atOnce)
		}
	})
}

// runSideBySide runs n containers at once.
func (e engine) runSideBySide(t *testing.T, n int) {
	t.Helper()
	commands, outputs := make([]*exec.Cmd, n), make([]bytes.Buffer, n)
	for i := range n {
		cmd := command(t, e.line(e.runLine(t, "run", newID(), "--rm", "busybox", "echo", strconv.Itoa(i))...)...)
		cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands[i] = cmd
	}
	for i, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		same(t, "output", outputs[i].String(), strconv.Itoa(i)+"\n")
	}
}

// TestMuchOutput: every byte arrives, in its place.
func TestMuchOutput(t *testing.T) {
	nothingLeft(t)
	e := engine{name: "docker", runtime: "vmruntime"}
	times := soak(1, 16)
	file := filepath.Join(t.TempDir(), "data")
	want := hashed(t, file, times)
	cmd := command(t, e.line(e.runLine(t, "run", e.newName(t), "--log-driver", "none", "-v", file+":/data", "busybox",
		"sh", "-c", fmt.Sprintf("for i in $(seq %d); do cat /data; done", times))...)...)
	got := sha256.New()
	cmd.Stdout = got
	if r := finish(t, cmd); r.Code != 0 {
		t.Fatal(r)
	}
	same(t, "checksum", hex.EncodeToString(got.Sum(nil)), want)
}

// hashed fills a file with 64 MiB that do not repeat and returns the checksum of
// that many copies of it.
func hashed(t *testing.T, file string, times int) string {
	t.Helper()
	text := make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(text)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	for range times {
		_, _ = sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// TestManyExecs: neither the shim nor the guest keeps anything of an exec.
func TestManyExecs(t *testing.T) {
	nothingLeft(t)
	e := engine{name: "docker", runtime: "vmruntime"}
	name := e.idle(t)
	e.logsHave(t, name, "ready")
	pid := e.inspect(t, name, "{{.State.Pid}}")
	echo := func(i int) {
		t.Helper()
		same(t, "output", e.exec(t, name, "echo "+strconv.Itoa(i)), strconv.Itoa(i))
	}
	echo(0)
	processes, files := strings.Count(e.exec(t, name, "ps"), "\n"), descriptors(t, pid)
	for i := range soak(20, 1000) {
		echo(i)
	}
	same(t, "processes inside", fmt.Sprint(strings.Count(e.exec(t, name, "ps"), "\n")), fmt.Sprint(processes))
	until(t, "the shim has closed its descriptors", func() bool { return descriptors(t, pid) <= files })
}

// descriptors counts those of a process.
func descriptors(t *testing.T, pid string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestInterrupted ends commands at moments of their own, by interrupts, kills and
// removals, and expects nothing of them but that nothing is left.
func TestInterrupted(t *testing.T) {
	nothingLeft(t)
	e := engine{name: "docker", runtime: "vmruntime"}
	random := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	t.Logf("seeds: 1, %d", os.Getpid())
	for i := range soak(4, 50) {
		name := e.newName(t)
		ended := background(t, e.line(e.runLine(t, "run", name, "--rm", "busybox", "sleep", "1000")...)...)
		// A moment before, while or after the machine starts.
		for range random.IntN(12) {
			e.call(t, "ps", "-a", "-q")
		}
		if i%2 == 0 {
			e.call(t, "kill", name)
		}
		until(t, "it is removed", func() bool {
			e.call(t, "rm", "-f", name)
			return len(ended) > 0
		})
	}
}
