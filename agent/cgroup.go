package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A cgroup is a container's cgroup2 in the guest; without a path there is none.
type cgroup struct{ path string }

// enableControllers hands every controller to the containers' cgroups.
func enableControllers(root string) {
	text, _ := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	names := strings.Fields(string(text))
	control := filepath.Join(root, "cgroup.subtree_control")
	if len(names) == 0 || writeFile(control, "+"+strings.Join(names, " +")) == nil {
		return
	}
	// One that cannot be had keeps the others away.
	for _, name := range names {
		_ = writeFile(control, "+"+name)
	}
}

func newCgroup(root, id string) cgroup {
	if root == "" {
		return cgroup{}
	}
	return cgroup{path: filepath.Join(root, id)}
}

// create makes the cgroup and sets its limits.
func (c cgroup) create(linux *specs.Linux) error {
	if c.path == "" {
		return nil
	}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	if linux == nil || linux.Resources == nil {
		return nil
	}
	return c.setAll(linux.Resources)
}

func (c cgroup) setAll(r *specs.LinuxResources) error {
	for _, s := range limits(r) {
		if err := c.set(s); err != nil {
			return err
		}
	}
	return nil
}

// open gives a descriptor to fork into the cgroup with, nil where there is none.
func (c cgroup) open() (*os.File, error) {
	if c.path == "" {
		return nil, nil
	}
	dir, err := os.Open(c.path)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return dir, nil
}

// enter moves a process into the cgroup.
func (c cgroup) enter(pid int) error {
	if c.path == "" {
		return nil
	}
	return writeFile(filepath.Join(c.path, "cgroup.procs"), strconv.Itoa(pid))
}

// A setting is one line for one file of a cgroup. It is skipped when the guest
// has no such controller, unless it was asked for by the file's own name.
type setting struct {
	field, file, value string
	required           bool
}

func (c cgroup) set(s setting) error {
	if strings.ContainsAny(s.file, "/\x00") {
		return fmt.Errorf("%s: %q is no file of a cgroup", s.field, s.file)
	}
	err := writeFile(filepath.Join(c.path, s.file), s.value)
	if errors.Is(err, fs.ErrNotExist) && !s.required {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: write %q to %s: %w", s.field, s.value, s.file, err)
	}
	return nil
}

// writeFile writes to a file that exists, as those of cgroup and sysctl do.
func writeFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(text)
	return err
}

// limits translates the resources into cgroup2, as runc does.
func limits(r *specs.LinuxResources) []setting {
	var list []setting
	add := func(field, file, value string) {
		list = append(list, setting{field: "linux.resources." + field, file: file, value: value})
	}
	if m := r.Memory; m != nil {
		memoryLimits(m, add)
	}
	if c := r.CPU; c != nil {
		cpuLimits(c, add)
	}
	if p := r.Pids; p != nil && p.Limit != nil && *p.Limit != 0 {
		add("pids.limit", "pids.max", orMax(*p.Limit))
	}
	for _, h := range r.HugepageLimits {
		add("hugepageLimits", "hugetlb."+h.Pagesize+".max", strconv.FormatUint(h.Limit, 10))
	}
	for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
		list = append(list, setting{field: "linux.resources.unified", file: key, value: r.Unified[key], required: true})
	}
	return list
}

func memoryLimits(m *specs.LinuxMemory, add func(field, file, value string)) {
	if m.Limit != nil && *m.Limit != 0 {
		add("memory.limit", "memory.max", orMax(*m.Limit))
	}
	if m.Swap != nil && *m.Swap != 0 {
		add("memory.swap", "memory.swap.max", swapMax(m))
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		// What has no soft limit is protected by none.
		add("memory.reservation", "memory.low", strconv.FormatInt(max(0, *m.Reservation), 10))
	}
}

// swapMax is the swap alone, where the specification counts memory and swap
// together.
func swapMax(m *specs.LinuxMemory) string {
	if *m.Swap < 0 || m.Limit == nil || *m.Limit < 0 {
		return orMax(*m.Swap)
	}
	return strconv.FormatInt(max(0, *m.Swap-*m.Limit), 10)
}

func cpuLimits(c *specs.LinuxCPU, add func(field, file, value string)) {
	if c.Shares != nil && *c.Shares != 0 {
		add("cpu.shares", "cpu.weight", strconv.FormatUint(cpuWeight(*c.Shares), 10))
	}
	if c.Quota != nil && *c.Quota != 0 || c.Period != nil && *c.Period != 0 {
		add("cpu.quota", "cpu.max", cpuMax(c))
	}
	if c.Burst != nil {
		add("cpu.burst", "cpu.max.burst", strconv.FormatUint(*c.Burst, 10))
	}
	if c.Idle != nil {
		add("cpu.idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10))
	}
	if c.Cpus != "" {
		add("cpu.cpus", "cpuset.cpus", c.Cpus)
	}
	if c.Mems != "" {
		add("cpu.mems", "cpuset.mems", c.Mems)
	}
}

func cpuMax(c *specs.LinuxCPU) string {
	value := "max"
	if c.Quota != nil && *c.Quota > 0 {
		value = strconv.FormatInt(*c.Quota, 10)
	}
	if c.Period != nil && *c.Period != 0 {
		value += " " + strconv.FormatUint(*c.Period, 10)
	}
	return value
}

// cpuWeight maps shares [2, 262144] to a weight [1, 10000], as runc does.
func cpuWeight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func orMax(limit int64) string {
	if limit < 0 {
		return "max"
	}
	return strconv.FormatInt(limit, 10)
}

// kill ends every process below the cgroup at once.
func (c cgroup) kill() error {
	return writeFile(filepath.Join(c.path, "cgroup.kill"), "1")
}

// pids lists the processes in the cgroup and those that the container has made
// below it.
func (c cgroup) pids() ([]int, error) {
	pids := []int{}
	err := filepath.WalkDir(c.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return ignoreMissing(err)
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(text)) {
			// Zero is a process of another pid namespace than ours.
			if pid, _ := strconv.Atoi(field); pid > 0 {
				pids = append(pids, pid)
			}
		}
		return ignoreMissing(err)
	})
	slices.Sort(pids)
	return pids, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remove deletes the cgroup once its last process is gone; one that keeps
// processes stays.
func (c cgroup) remove() {
	if c.path == "" {
		return
	}
	for pause := time.Millisecond; pause < time.Second; pause *= 2 {
		c.removeDirs()
		if _, err := os.Lstat(c.path); errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(pause)
	}
}

func (c cgroup) removeDirs() {
	var dirs []string
	_ = filepath.WalkDir(c.path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		_ = os.Remove(dir)
	}
}
