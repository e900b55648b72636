package integration

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nothingLeft compares what is on the machine at the end of a test with what is
// there now. Call it before anything that the test makes.
func nothingLeft(t testing.TB) {
	t.Helper()
	before := takeInventory(t)
	t.Cleanup(func() { compare(t, before) })
}

// An inventory is all that a container could leave behind, each as the text
// that a failed test shows. Other people may use the machine meanwhile: what
// cannot be told apart is theirs if it goes away by itself.
type inventory map[string]bool

// compare fails the test for what was not there before. What is being torn down
// gets some time.
func compare(t testing.TB, before inventory) {
	t.Helper()
	var left []string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		reapOrphans()
		now := takeInventory(t)
		left = left[:0]
		for _, thing := range slices.Sorted(maps.Keys(now)) {
			if !before[thing] {
				left = append(left, thing)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
}

func takeInventory(t testing.TB) inventory {
	t.Helper()
	i := inventory{}
	for _, part := range []func(inventory) error{
		inventory.processes, inventory.mounts, inventory.files, inventory.sockets,
		inventory.links, inventory.cgroups, inventory.domains,
	} {
		if err := part(i); err != nil {
			t.Fatal("inventory: ", err)
		}
	}
	return i
}

func (i inventory) add(format string, args ...any) { i[fmt.Sprintf(format, args...)] = true }

// processes are those that descend from the tests, which adopt whatever a
// runtime leaves running, and the machines of a libvirtd.
func (i inventory) processes() error {
	all := readStats()
	for pid, s := range all {
		line := commandLine(pid)
		machine := strings.Contains(strings.Join(line, " "), "guest=vmruntime-"+idPrefix)
		if !machine && !all.descends(pid, os.Getpid()) || s.state == "X" {
			continue
		}
		i.add("process %d (%s) %s", pid, s.comm, strings.Join(line, " "))
		i.add("network namespace %s", netns(pid))
	}
	return nil
}

// netns of a process. One without processes lives by a mount, and shows there.
func netns(pid int) string {
	// It may have ended meanwhile.
	target, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return target
}

func (i inventory) mounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	foreign := foreignDirs()
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if !belowAny(fields[4], foreign) {
			i.add("mount %s", strings.Join(fields[2:5], " "))
		}
	}
	return nil
}

// The directories where runtimes keep their state, and what libvirt keeps of
// running domains.
var stateDirs = []string{"/run/vmruntime", "/run/vmruntime-vm", "/run/libvirt/qemu", "/run/runc", "/var/lib/vmruntime/overlays"}

// accelDir keeps what is known of the host until it boots again: whether KVM
// works.
const accelDir = "/run/vmruntime-vm/accel"

// foreignDirs are those of shims that other people's commands have started.
func foreignDirs() []string {
	// The machine's own, until it boots again.
	dirs := []string{accelDir}
	all := readStats()
	for pid := range all {
		if dir, _ := shimArguments(pid); dir != "" && !all.descends(pid, os.Getpid()) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func belowAny(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

func (i inventory) files() error {
	foreign := foreignDirs()
	for _, dir := range append(stateDirs, filepath.Join(scratch, "root"), filepath.Join(scratch, "runc")) {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			switch {
			case belowAny(path, foreign):
				return filepath.SkipDir
			case path != dir: // which may stay itself
				i.add("file %s", path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return i.temporary()
}

// temporary files are told by their names: /tmp belongs to everybody.
func (i inventory) temporary() error {
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/dev/hugepages"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for _, e := range entries {
			for _, prefix := range []string{"vmruntime", "runc", "qemu", "vl.", "libvirt"} {
				if strings.HasPrefix(e.Name(), prefix) && !belongsToTests(e.Name()) {
					i.add("file %s", filepath.Join(dir, e.Name()))
				}
			}
		}
	}
	return nil
}

// belongsToTests tells directories of other runs of tests, of which one may be of
// engines (hack/engines.sh).
func belongsToTests(name string) bool {
	return strings.HasPrefix(name, scratchPrefix) || strings.HasPrefix(name, "vmruntime-engines-")
}

func (i inventory) sockets() error {
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err
	}
	foreign := foreignDirs()
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		path := strings.TrimPrefix(fields[7], "@")
		if belowAny(path, append(stateDirs, scratch)) && !belowAny(path, foreign) {
			i.add("socket %s", path)
		}
	}
	return nil
}

func (i inventory) links() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		i.add("link %s", l.Name)
	}
	return nil
}

func (i inventory) cgroups() error {
	return filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.Contains(filepath.Base(path), idPrefix) {
			i.add("cgroup %s", path)
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
}

func (i inventory) domains() error {
	if _, err := os.Stat("/run/libvirt/libvirt-sock"); err != nil {
		return nil
	}
	out, err := exec.Command("virsh", "-q", "-c", uriSystem, "list", "--all", "--name").Output()
	if err != nil {
		// A libvirtd that is not there has no domains.
		return nil
	}
	for name := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(name, "vmruntime-"+idPrefix) {
			i.add("libvirt domain %s", name)
		}
	}
	return nil
}

// stat is a part of /proc/PID/stat.
type stat struct {
	comm   string
	state  string
	parent int
}

type stats map[int]stat

func readStats() stats {
	all := stats{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			all[pid] = s
		}
	}
	return all
}

func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// A name may hold anything, parentheses too.
	begin, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	parent, err := strconv.Atoi(fields[1])
	return stat{comm: string(text[begin+1 : end]), state: fields[0], parent: parent}, err == nil
}

func (all stats) descends(pid, ancestor int) bool {
	for pid != 0 {
		pid = all[pid].parent
		if pid == ancestor {
			return true
		}
	}
	return false
}

// reapOrphans takes the zombies that the tests have adopted and that nobody
// waits for, as every supervisor does.
func reapOrphans() {
	for pid, s := range readStats() {
		if s.parent == os.Getpid() && s.state == "Z" {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// shimOf finds the shim of a container; 0 if there is none.
func shimOf(id string) (pid int, dir string) {
	for pid, s := range readStats() {
		if dir, of := shimArguments(pid); of == id && s.state != "Z" {
			return pid, dir
		}
	}
	return 0, ""
}

// shimArguments are a shim's directory and the container's id, empty for any
// other process.
func shimArguments(pid int) (dir, id string) {
	line := commandLine(pid)
	if len(line) < 4 || filepath.Base(line[0]) != "vmruntime-shim" {
		return "", ""
	}
	return line[2], line[3]
}

func commandLine(pid int) []string {
	// The process may have ended meanwhile.
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}
