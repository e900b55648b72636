package engines

import (
	"regexp"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// keep restores a configuration when the test is over.
func keep(t *testing.T, file string) string {
	t.Helper()
	text := testutil.ReadFile(t, file)
	t.Cleanup(func() { testutil.WriteFile(t, file, text) })
	return text
}

// TestInstallDocker takes the runtime out of dockerd's configuration and puts it in
// again, while dockerd runs.
func TestInstallDocker(t *testing.T) {
	e := engine{name: "docker", runtime: "vmruntime"}
	// After the file is as it was: cleanups run in reverse.
	t.Cleanup(func() { reload(t) })
	keep(t, daemonJSON)
	known := func() bool {
		return strings.Contains(host(t, "docker", "info", "--format", "{{json .Runtimes}}"), program())
	}
	contains(t, "what is next", host(t, program(), "install", "docker", "--remove"), "systemctl reload docker")
	reload(t)
	until(t, "dockerd has forgotten it", func() bool { return !known() })
	contains(t, "without it", e.try(t, "busybox", "true").Err, "vmruntime")
	host(t, program(), "install", "docker")
	reload(t)
	until(t, "dockerd knows it", known)
	same(t, "output", e.run(t, "busybox", "echo", "hi"), "hi")
	contains(t, "again", host(t, program(), "install", "docker"), "nothing to change")
}

// TestInstallPodman: the drop-in gives podman the program, and that its errors are
// JSON.
func TestInstallPodman(t *testing.T) {
	e := engine{name: "podman", runtime: "vmruntime"}
	const file = "/etc/containers/containers.conf"
	without := linesWithout(keep(t, file), "vmruntime =", "runtime_supports_json")
	testutil.WriteFile(t, file, without)
	if r := e.call(t, "run", "--rm", "busybox", "true"); r.Code == 0 {
		t.Error("podman knows it before")
	}
	host(t, program(), "install", "podman")
	t.Cleanup(func() { host(t, program(), "install", "podman", "--remove") })
	same(t, "output", e.run(t, "busybox", "echo", "hi"), "hi")
	same(t, "the others", host(t, "podman", "--runtime", "runc", "run", "--rm", "busybox", "echo", "hi"), "hi\n")
	r := e.try(t, "busybox", "nosuchprogram")
	if r.Code != 127 || strings.Contains(r.Err, "level") {
		t.Errorf("an error: %s", r)
	}
}

// TestInstallContainerd: the block leaves containerd's CRI plugin alive, with both
// runtimes, and everything else as it was.
func TestInstallContainerd(t *testing.T) {
	const file = "/etc/containerd/config.toml"
	t.Cleanup(func() { restartContainerd(t) })
	// Without any runtime of its own.
	before, _, _ := strings.Cut(keep(t, file), "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.")
	testutil.WriteFile(t, file, before)
	host(t, program(), "install", "containerd")
	restartContainerd(t)
	dump := host(t, "containerd", "config", "dump")
	contains(t, "containerd config dump", dump, `BinaryName = "`+program()+`"`, "containerd.runtimes.runc]", `bin_dir = "/usr/lib/cni"`)
	if !regexp.MustCompile(`(?m)\bcri\s.*\bok\s*$`).MatchString(host(t, "ctr", "plugins", "ls")) {
		t.Error("the CRI plugin is not loaded")
	}
	host(t, program(), "install", "containerd", "--remove")
	same(t, "taken out", testutil.ReadFile(t, file), before)
}

func restartContainerd(t *testing.T) {
	t.Helper()
	daemon(t, "stop", "containerd")
	daemon(t, "start", "containerd")
	// It answers once it has found containerd again.
	until(t, "dockerd", func() bool {
		return finish(t, command(t, "docker", "run", "--rm", "busybox", "true")).Code == 0
	})
}

// linesWithout drops the lines that begin with one of the words.
func linesWithout(text string, words ...string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		drop := false
		for _, w := range words {
			drop = drop || strings.HasPrefix(strings.TrimSpace(line), w)
		}
		if !drop {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
