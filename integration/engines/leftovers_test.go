package engines

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nothingLeft compares what there is at the end of a test with what is there now.
// Nobody but the engines and this test makes anything in these namespaces.
func nothingLeft(t *testing.T) {
	t.Helper()
	before := inventoryOfEngines(t)
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			if left = takeInventory(t).without(before); len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				break
			}
		}
		t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	})
}

// inventoryOfEngines is what there is without containers. The first container of each
// runtime makes directories that stay: libvirt's among them.
func inventoryOfEngines(t *testing.T) inventory {
	t.Helper()
	for _, runtime := range []string{"runc", "vmruntime"} {
		host(t, "docker", "run", "--rm", "--runtime", runtime, "busybox", "true")
	}
	return takeInventory(t)
}

// An inventory is all that a container could leave behind, as a failed test shows
// it.
type inventory map[string]bool

func (i inventory) add(format string, args ...any) { i[fmt.Sprintf(format, args...)] = true }

func (i inventory) without(other inventory) []string {
	var more []string
	for _, thing := range slices.Sorted(maps.Keys(i)) {
		if !other[thing] {
			more = append(more, thing)
		}
	}
	return more
}

func takeInventory(t *testing.T) inventory {
	t.Helper()
	i := inventory{}
	for _, part := range []func() error{i.processes, i.mounts, i.links, i.cgroups, i.files} {
		if err := part(); err != nil {
			t.Fatal("inventory: ", err)
		}
	}
	return i
}

// processes are all of the pid namespace, and the network namespaces in which they
// are. A process that ends meanwhile has neither.
func (i inventory) processes() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		i.add("process %s %s", e.Name(), strings.ReplaceAll(string(line), "\x00", " "))
		if netns, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/net")); err == nil {
			i.add("network namespace %s", netns)
		}
	}
	return nil
}

func (i inventory) mounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(text)) {
		// Docker unmounts a container's network namespace within a minute.
		if at := strings.Fields(line)[4]; !strings.HasPrefix(at, "/run/docker/netns/") {
			i.add("mount %s", strings.Join(strings.Fields(line)[2:5], " "))
		}
	}
	return err
}

func (i inventory) links() error {
	links, err := net.Interfaces()
	for _, l := range links {
		i.add("link %s", l.Name)
	}
	return err
}

func (i inventory) cgroups() error {
	return filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			i.add("cgroup %s", path)
		}
		// One that goes meanwhile is gone.
		return nil
	})
}

// stateDirs are where runtimes and engines keep what runs, and where templates are.
var stateDirs = []string{
	"/run/vmruntime", "/run/vmruntime-vm", "/run/docker/runtime-runc", "/run/netns",
	"/run/containerd/io.containerd.runtime.v2.task", "/run/libvirt", "/var/cache/vmruntime/templates",
}

func (i inventory) files() error {
	for _, dir := range stateDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		i.below(dir, entries)
	}
	return nil
}

// below adds what is in dir and in its directories: deeper is the containers'.
func (i inventory) below(dir string, entries []os.DirEntry) {
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		i.add("file %s", path)
		further, _ := os.ReadDir(path)
		for _, f := range further {
			i.add("file %s", filepath.Join(path, f.Name()))
		}
	}
}
