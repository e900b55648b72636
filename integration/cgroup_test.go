package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const mib = 1 << 20

// vmOverhead is what a machine may take beside its container, see docs/cgroups.md.
const vmOverhead = 256 * mib

func cgroupsPath(path string) change { return func(s *specs.Spec) { s.Linux.CgroupsPath = path } }

func limits(r specs.LinuxResources) change { return func(s *specs.Spec) { s.Linux.Resources = &r } }

// cgroupName is that of a test's own cgroup.
func cgroupName(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("%s%d", idPrefix, ids.Add(1))
	return "/vmruntime-test/" + name
}

// cgroupsOf are a process's cgroups by controller, as engines find them. Under v1
// the one without controllers is left out: runtimes join it where it is mounted.
func cgroupsOf(t testing.TB, pid int) map[string]string {
	t.Helper()
	groups := map[string]string{}
	lines := strings.Split(strings.TrimSpace(testutil.ReadFile(t, fmt.Sprintf("/proc/%d/cgroup", pid))), "\n")
	for _, line := range lines {
		fields := strings.SplitN(line, ":", 3)
		if fields[1] != "" || len(lines) == 1 {
			groups[strings.TrimPrefix(fields[1], "name=")] = fields[2]
		}
	}
	return groups
}

// cgroupFile reads a file of the process's cgroup by its name under v1 and v2.
func cgroupFile(t testing.TB, pid int, controller, v1, v2 string) string {
	t.Helper()
	groups := cgroupsOf(t, pid)
	if path, ok := groups[""]; ok && len(groups) == 1 {
		return strings.TrimSpace(testutil.ReadFile(t, filepath.Join("/sys/fs/cgroup", path, v2)))
	}
	return strings.TrimSpace(testutil.ReadFile(t, filepath.Join("/sys/fs/cgroup", controller, groups[controller], v1)))
}

func memoryLimit(t testing.TB, pid int) string {
	t.Helper()
	return cgroupFile(t, pid, "memory", "memory.limit_in_bytes", "memory.max")
}

// cpuQuota is the quota alone; -1 is none.
func cpuQuota(t testing.TB, pid int) string {
	t.Helper()
	quota, _, _ := strings.Cut(cgroupFile(t, pid, "cpu", "cpu.cfs_quota_us", "cpu.max"), " ")
	return strings.Replace(quota, "max", "-1", 1)
}

func pidsLimit(t testing.TB, pid int) string {
	t.Helper()
	return cgroupFile(t, pid, "pids", "pids.max", "pids.max")
}

func TestCgroup(t *testing.T) {
	eachDriver(t, func(t *testing.T, r runtime) {
		path := cgroupName(t)
		// What runc gives the container, plus what a machine needs.
		memory, pids := 512*mib, 100
		bootQuota := "50000"
		if r.isVM() {
			memory, pids, bootQuota = memory+vmOverhead, pids+1024, "-1"
		}
		c := r.create(t, r.bundle(t, idle, cgroupsPath(path), limits(specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(512 * mib))},
			CPU:    &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000)), Shares: new(uint64(512))},
			Pids:   &specs.LinuxPids{Limit: new(int64(100))},
		})), options{})
		members := map[string]int{"the container": c.pid}
		if r.isVM() {
			members["QEMU"] = qemuOf(t, c)
		}
		for name, pid := range members {
			for controller, group := range cgroupsOf(t, pid) {
				if group != path {
					t.Errorf("%s is in %s of %q, not in %s", name, group, controller, path)
				}
			}
		}
		if got := cpuQuota(t, c.pid); got != bootQuota {
			t.Errorf("CPU quota before start: %s, not %s", got, bootQuota)
		}
		c.start(t)
		if got := cpuQuota(t, c.pid); got != "50000" {
			t.Errorf("CPU quota: %s, not 50000", got)
		}
		if got := memoryLimit(t, c.pid); got != strconv.Itoa(memory) {
			t.Errorf("memory limit: %s, not %d", got, memory)
		}
		if got := pidsLimit(t, c.pid); got != strconv.Itoa(pids) {
			t.Errorf("pids limit: %s, not %d", got, pids)
		}
		groups := cgroupsOf(t, c.pid)
		c.end(t)
		for controller, group := range groups {
			if dir := filepath.Join("/sys/fs/cgroup", controller, group); exists(dir) {
				t.Errorf("delete left %s", dir)
			}
		}
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Without a cgroupsPath a container gets one below the caller's that is not runc's for
// the same id.
func TestCgroupDefault(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	own := cgroupsOf(t, os.Getpid())
	c := r.create(t, r.bundle(t, idle), options{})
	name := c.id
	if r.isVM() {
		name = "vmruntime-" + name
	}
	for controller, group := range cgroupsOf(t, c.pid) {
		parent := own[controller]
		if controller == "" {
			// The caller's own cannot have both processes and children.
			parent = filepath.Dir(parent)
		}
		if want := filepath.Join(parent, name); group != want {
			t.Errorf("%q: %s, not %s", controller, group, want)
		}
	}
	c.end(t)
}

// A create that fails leaves no cgroup; nothingLeft looks at them.
func TestCgroupOfFailedCreate(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	path := cgroupName(t)
	bundle := r.bundle(t, cgroupsPath(path), args("/bin/no-such-program"))
	r.refuse(t, "create", "--bundle", bundle, r.newID(t))
	if exists("/sys/fs/cgroup/memory"+path) || exists("/sys/fs/cgroup"+path) {
		t.Error("the cgroup is still there")
	}
}

// Two containers never share a cgroup: the end of one would be that of both.
func TestCgroupInUse(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	path := cgroupName(t)
	c := r.create(t, r.bundle(t, idle, cgroupsPath(path)), options{})
	message := r.refuse(t, "create", "--bundle", r.bundle(t, cgroupsPath(path)), r.newID(t))
	if !strings.Contains(message, "container's cgroup is not empty") || !strings.Contains(message, path+": name another one in linux.cgroupsPath") {
		t.Error(message)
	}
	if got := cgroupsOf(t, c.pid)["memory"]; got != "" && got != path {
		t.Errorf("the first container is in %s now", got)
	}
	c.end(t)
}

// Somebody may have frozen a cgroup whose container is to go.
func TestDeleteFrozen(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	path := cgroupName(t)
	c := r.startNew(t, idle, cgroupsPath(path))
	if file := filepath.Join("/sys/fs/cgroup/freezer", path, "freezer.state"); exists(file) {
		testutil.WriteFile(t, file, "FROZEN")
	} else {
		testutil.WriteFile(t, filepath.Join("/sys/fs/cgroup", path, "cgroup.freeze"), "1")
	}
	r.must(t, "delete", "--force", c.id)
	if got := c.wait(t); got != 128+int(unix.SIGKILL) {
		t.Errorf("exited %d", got)
	}
}

func TestCgroupsPathForSystemd(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	r.options = append(r.options, "--systemd-cgroup")
	message := r.refuse(t, "create", "--bundle", r.bundle(t, cgroupsPath("/docker/x")), r.newID(t))
	if !strings.Contains(message, "slice:prefix:name") && !strings.Contains(message, "systemd") {
		t.Error(message)
	}
}

// The tests' own host may have cgroup v1 only, a guest has v2 only: there the part
// that deals with the host's cgroups shows that it knows both.
func TestCgroupV2(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	root := newRootfs(t)
	build := exec.Command("go", "test", "-c", "-o", filepath.Join(root, "cgroup.test"), "../cgroup")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	t.Logf("$ %s", build)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := r.startNew(t, rootfs(root), writable, everything, script(
		"set -e",
		// A cgroup with processes has no children with controllers.
		"mkdir /sys/fs/cgroup/init",
		"echo $$ >/sys/fs/cgroup/init/cgroup.procs",
		"echo +memory +pids +cpu >/sys/fs/cgroup/cgroup.subtree_control",
		"exec /cgroup.test -test.v -test.timeout 10m -test.run TestUnified",
	))
	code := c.wait(t)
	if out := c.stdout.all(t); code != 0 || !strings.Contains(out, "PASS: TestUnified") {
		t.Errorf("exited %d:\n%s%s", code, out, c.stderr.all(t))
	}
	c.delete(t)
}

// everything lets a container administrate its cgroups.
func everything(s *specs.Spec) {
	capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL")(s)
	for i := range s.Mounts {
		if s.Mounts[i].Type == "cgroup" {
			s.Mounts[i].Options = []string{"rw"}
		}
	}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	s.Linux.ReadonlyPaths = nil
}
