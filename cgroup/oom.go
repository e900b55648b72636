package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
)

// squeezeRoom is what is left of memory in a squeezed cgroup, in bytes: enough for
// what is in it to go on, and used up at once by who tries.
const squeezeRoom = 8 << 20

// memoryFiles are the files of a memory cgroup that Squeeze needs.
type memoryFiles struct {
	usage, limit, swap, reclaim string
	// noSwap is what leaves no swap, given the memory limit.
	noSwap func(limit string) string
}

var (
	memoryV1 = memoryFiles{
		"memory.usage_in_bytes", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.force_empty",
		func(limit string) string { return limit },
	}
	memoryV2 = memoryFiles{
		"memory.current", "memory.max", "memory.swap.max", "memory.reclaim",
		func(string) string { return "0" },
	}
)

// Squeeze takes all memory from the cgroup that its processes do not hold: the next
// one that asks for some meets the kernel's OOM killer. Nothing gives it back.
func (g *Group) Squeeze() error {
	if g == nil {
		return errors.New("the container has no cgroup on the host")
	}
	files, dir := memoryV1, g.manager.Path("memory")
	if cgroups.IsCgroup2UnifiedMode() {
		files = memoryV2
	}
	if dir == "" {
		return errors.New("the host has no memory cgroups")
	}
	if err := files.squeeze(dir); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

func (f memoryFiles) squeeze(dir string) error {
	f.dropCache(dir)
	usage, err := readNumber(dir, f.usage)
	if err != nil {
		return err
	}
	limit := strconv.FormatUint(usage+squeezeRoom, 10)
	if err := write(dir, f.limit, limit); err != nil {
		return err
	}
	if err := write(dir, f.swap, f.noSwap(limit)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// dropTime bounds how long dropping the cache may take: what is in use comes back as
// it goes.
const dropTime = time.Second

// dropCache frees what is kept of files: the kernel would give it up bit by bit
// instead of killing somebody. It says that it failed if it frees less than it is
// asked for.
func (f memoryFiles) dropCache(dir string) {
	cached := cacheOf(dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = write(dir, f.reclaim, strconv.FormatUint(cached, 10))
	}()
	select {
	case <-done:
	case <-time.After(dropTime):
	}
}

// cacheOf is how much of files is in memory, in bytes.
func cacheOf(dir string) uint64 {
	text, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
	var sum uint64
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil && (name == "active_file" || name == "inactive_file") {
			sum += n
		}
	}
	return sum
}

// OOMKills is how many processes in the cgroup the host's kernel has killed for
// want of memory.
func (g *Group) OOMKills() uint64 {
	if g == nil {
		return 0
	}
	// Without the controller there are none.
	n, _ := g.manager.OOMKillCount()
	return n
}

func readNumber(dir, file string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// write writes to a file that exists.
func write(dir, file, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}
