package engines

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

var limitRows = []feature{
	{name: "--memory", try: memory},
	{name: "--cpus", try: cpus},
	{name: "--cpuset-cpus", try: cpuset},
	{name: "--pids-limit", try: pids},
	{name: "--cgroup-parent", try: cgroupParent},
	{name: "OOMKilled", try: oomKilled, except: map[string]exception{
		"podman": {why: "podman 4.3 does not see it with cgroup v1, whatever the runtime"},
	}},
	{name: "update", try: updateLimits},
}

// limit is a file of the container's cgroup, of either version, as it sees it: with
// a cgroup namespace of its own or without.
func (e engine) limit(t testing.TB, container, v1, v2 string) string {
	t.Helper()
	return e.exec(t, container, "cat /sys/fs/cgroup/"+v1+" 2>/dev/null || cat /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/"+v2)
}

func memory(t *testing.T, e engine) {
	name := e.idle(t, "--memory", "64m")
	same(t, "inside", e.limit(t, name, "memory/memory.limit_in_bytes", "memory.max"), "67108864")
	contains(t, "stats", e.must(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", name), "/")
}

func cpus(t *testing.T, e engine) {
	name := e.idle(t, "--cpus", "0.5")
	quota, _, _ := strings.Cut(e.limit(t, name, "cpu/cpu.cfs_quota_us", "cpu.max"), " ")
	same(t, "quota", quota, "50000")
}

func cpuset(t *testing.T, e engine) {
	same(t, "CPUs", e.run(t, "--cpuset-cpus", "0", "busybox", "nproc"), "1")
}

func pids(t *testing.T, e engine) {
	name := e.idle(t, "--pids-limit", "50")
	same(t, "inside", e.limit(t, name, "pids/pids.max", "pids.max"), "50")
}

func cgroupParent(t *testing.T, e engine) {
	parent := newID()
	name := e.idle(t, "--cgroup-parent", "/"+parent)
	pid := e.inspect(t, name, "{{.State.Pid}}")
	contains(t, "the cgroup", testutil.ReadFile(t, filepath.Join("/proc", pid, "cgroup")), "/"+parent+"/")
	e.must(t, "rm", "-f", name)
	until(t, "nothing is left below "+parent, func() bool {
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + parent + "/*")
		return !slices.ContainsFunc(dirs, func(dir string) bool {
			info, err := os.Stat(dir)
			// Podman's own is podman's.
			return err == nil && info.IsDir() && info.Name() != "conmon"
		})
	})
}

func oomKilled(t *testing.T, e engine) {
	name := e.start(t, "--memory", "32m", "busybox", "sh", "-c", "exec tail -f /dev/zero")
	same(t, "exit status", e.must(t, "wait", name), "137")
	// The engine hears of either by an event of its own.
	until(t, "OOMKilled", func() bool { return e.inspect(t, name, "{{.State.OOMKilled}}") == "true" })
}

func updateLimits(t *testing.T, e engine) {
	name := e.idle(t, "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "50", "--cpus", "0.5")
	e.must(t, "update", "--memory", "48m", "--memory-swap", "48m", "--cpus", "0.7", name)
	same(t, "memory", e.limit(t, name, "memory/memory.limit_in_bytes", "memory.max"), "50331648")
	// Podman 4.3 has no such option.
	if e.name == "docker" {
		e.must(t, "update", "--pids-limit", "60", name)
		same(t, "pids", e.limit(t, name, "pids/pids.max", "pids.max"), "60")
	}
	quota, _, _ := strings.Cut(e.limit(t, name, "cpu/cpu.cfs_quota_us", "cpu.max"), " ")
	same(t, "quota", quota, "70000")
}
