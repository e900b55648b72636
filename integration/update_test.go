package integration

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// limited is a container with limits of every kind.
var limited = limits(specs.LinuxResources{
	Memory: &specs.LinuxMemory{Limit: new(int64(128 * mib)), Swap: new(int64(256 * mib))},
	CPU:    &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000)), Shares: new(uint64(512))},
	Pids:   &specs.LinuxPids{Limit: new(int64(100))},
})

// cgroupMount has a container see its cgroup.
func cgroupMount(s *specs.Spec) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}})
}

// checkLimits compares the limits on the host and in the guest; all in MiB but for
// pids and the quota.
func checkLimits(t testing.TB, c *container, memory, quota, pids int) {
	t.Helper()
	for what, pair := range map[string][2]string{
		"memory": {memoryLimit(t, c.pid), strconv.Itoa(memory*mib + vmOverhead)},
		"quota":  {cpuQuota(t, c.pid), strconv.Itoa(quota)},
		"pids":   {pidsLimit(t, c.pid), strconv.Itoa(pids + 1024)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s on the host: %s, not %s", what, pair[0], pair[1])
		}
	}
	inside := c.exec(t, "/bin/cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max")
	want := strings.Join([]string{strconv.Itoa(memory * mib), strconv.Itoa(quota) + " 100000", strconv.Itoa(pids)}, "\n") + "\n"
	if inside.Out != want {
		t.Errorf("limits inside: %q, not %q", inside.Out, want)
	}
}

func TestUpdate(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		c := r.startNew(t, idle, limited, cgroupMount, cgroupsPath(cgroupName(t)))
		c.stdout.wait(t, "ready\n")
		checkLimits(t, c, 128, 50000, 100)
		r.must(t, "update", "--memory", "96m", "--cpu-quota", "30000", "--pids-limit", "50", c.id)
		checkLimits(t, c, 96, 30000, 50)
		r.must(t, "update", "--memory=100663297", "--memory-swap=200M", c.id)
		r.must(t, "update", "--memory=0", c.id)
		if got := memoryLimit(t, c.pid); got != strconv.Itoa(96*mib+vmOverhead+4096) && got != strconv.Itoa(96*mib+vmOverhead) {
			t.Errorf("memory limit after 0, which changes nothing: %s", got)
		}
		// As Docker 20.10 sends it.
		file := filepath.Join(t.TempDir(), "resources.json")
		testutil.WriteFile(t, file, `{"memory":{"limit":117440512,"reservation":0,"swap":268435456,"kernel":0},
			"cpu":{"shares":0,"quota":40000,"period":100000},"pids":{"limit":60},"blockIO":{"weight":0}}`)
		r.must(t, "update", "--resources", file, c.id)
		checkLimits(t, c, 112, 40000, 60)
		c.end(t)
	})
}

// containerd writes the changes to standard input.
func TestUpdateFromStdin(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle, limited, cgroupsPath(cgroupName(t)))
	got := r.callWith(t, func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(`{"cpu":{"quota":20000}}`) }, "update", "--resources=-", c.id)
	if got.Code != 0 {
		t.Fatal(got)
	}
	if got := cpuQuota(t, c.pid); got != "20000" {
		t.Errorf("quota %s, not 20000", got)
	}
	c.end(t)
}

// A bad value changes nothing, on either side.
func TestUpdateRefused(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	c := r.startNew(t, script(`trap "exit 42" TERM`, `dd if=/dev/zero of=/dev/shm/file bs=1M count=64 2>/dev/null`, `echo ready`, forever),
		limited, cgroupMount, cgroupsPath(cgroupName(t)))
	c.stdout.wait(t, "ready\n")
	for _, test := range []struct{ flag, value, want string }{
		{"--memory", "lots", "invalid value for memory"},
		{"--memory", "-2", "invalid value for memory"},
		{"--memory-swap", "64m", "memory.swap: 67108864 is memory and swap together"},
		{"--memory", "64g", "of the VM, which cannot grow"},
		// What the container uses is not taken away from it.
		{"--memory", "32m", "unable to set memory limit to 33554432"},
		{"--cpu-quota", "5", "cpu.quota: 5 is neither"},
		{"--cpu-period", "5", "cpu.period: 5 is not between"},
		{"--cpu-share", "1", "cpu.shares: 1 is not between"},
		{"--cpuset-cpus", "some", "is no list of CPUs"},
		{"--cpuset-cpus", "4000", `cpu.cpus: "4000": this host has CPUs 0`},
		{"--blkio-weight", "5", "blockIO.weight: 5 is not between"},
		{"--l3-cache-schema", "L3:0=f", "cannot cross into a VM"},
		{"--resources", "/no/such/file", "/no/such/file"},
	} {
		if message := r.refuse(t, "update", test.flag, test.value, c.id); !strings.Contains(message, test.want) {
			t.Errorf("update %s %s: %q does not say %q", test.flag, test.value, message, test.want)
		}
	}
	// More memory is granted on the host first. The guest refuses a file that no cgroup has:
	// both are as before.
	changes := filepath.Join(t.TempDir(), "changes.json")
	testutil.WriteFile(t, changes, `{"memory":{"limit":136314880},"pids":{"limit":7},"unified":{"memory.nosuch":"1"}}`)
	if message := r.refuse(t, "update", "--resources", changes, c.id); !strings.Contains(message, "memory.nosuch") {
		t.Error(message)
	}
	checkLimits(t, c, 128, 50000, 100)
	c.end(t)
}

func TestUpdateStates(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	path := cgroupName(t)
	c := r.create(t, r.bundle(t, idle, cgroupsPath(path), cgroupMount), options{})
	r.must(t, "update", "--cpu-quota", "60000", "--memory", "200m", "--pids-limit", "33", c.id)
	if got := cpuQuota(t, c.pid); got != "-1" {
		t.Errorf("the quota holds before start: %s", got)
	}
	c.start(t)
	checkLimits(t, c, 200, 60000, 33)
	r.must(t, "pause", c.id)
	if message := r.refuse(t, "update", "--pids-limit", "44", c.id); !strings.Contains(message, "paused") {
		t.Error(message)
	}
	r.must(t, "resume", c.id)
	// No limit again.
	r.must(t, "update", "--memory", "-1", "--pids-limit", "-1", "--cpu-quota", "-1", c.id)
	got := c.exec(t, "/bin/cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cpu.max").Out
	if got != "max\nmax\nmax 100000\n" {
		t.Errorf("without limits: %q", got)
	}
	c.kill(t, "KILL")
	c.wait(t)
	if message := r.refuse(t, "update", "--pids-limit", "44", c.id); !strings.Contains(message, "container not running") {
		t.Error(message)
	}
	c.delete(t)
	if message := r.refuse(t, "update", "--pids-limit", "44", c.id); !strings.Contains(message, "does not exist") {
		t.Error(message)
	}
}
