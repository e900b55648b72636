package agent

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vmruntime/vmruntime/protocol"
)

// stats reads what the kernel says of the cgroup. What a controller that is not
// there would say is missing.
func (c cgroup) stats() (protocol.Stats, error) {
	if c.path == "" {
		return protocol.Stats{}, errors.New("the guest has no cgroup2")
	}
	s := protocol.Stats{CPU: c.table("cpu.stat"), OOMKills: c.oomKills()}
	s.Memory.Stat = c.table("memory.stat")
	for file, to := range map[string]*uint64{
		"memory.current": &s.Memory.Usage, "memory.peak": &s.Memory.Peak, "memory.max": &s.Memory.Limit,
		"memory.swap.current": &s.Memory.Swap, "memory.swap.max": &s.Memory.SwapLimit,
		"pids.current": &s.Pids.Current, "pids.max": &s.Pids.Limit,
	} {
		n, err := c.number(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		*to = n
	}
	return s, nil
}

// table reads a file of lines with a name and a number.
func (c cgroup) table(file string) map[string]uint64 {
	table := map[string]uint64{}
	text, _ := os.ReadFile(filepath.Join(c.path, file))
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			table[name] = n
		}
	}
	return table
}

// number reads a file that holds one; "max" is the largest.
func (c cgroup) number(file string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(c.path, file))
	if err != nil {
		return 0, err
	}
	word := strings.TrimSpace(string(text))
	if word == "max" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(word, 10, 64)
}

// oomKills is how many processes the kernel has killed, here and below.
func (c cgroup) oomKills() uint64 { return c.table("memory.events")["oom_kill"] }

const (
	// oomWait is the most that an answer about OOM kills is waited for, and
	// oomTick how often the container is looked at meanwhile.
	oomWait = 20 * time.Second
	oomTick = time.Second
)

// awaitOOM waits for more OOM kills than seen. The kernel wakes who polls the file
// whenever one of its counters has changed.
func (c *container) awaitOOM(seen uint64) uint64 {
	kills := c.cgroup.oomKills()
	events, err := os.Open(filepath.Join(c.cgroup.path, "memory.events"))
	if err != nil {
		return kills
	}
	defer events.Close()
	raw, err := events.SyscallConn()
	if err != nil {
		return kills
	}
	more := func(uintptr) bool {
		kills = c.cgroup.oomKills()
		return kills > seen
	}
	for end := time.Now().Add(oomWait); kills <= seen && !c.over() && time.Now().Before(end); {
		if events.SetReadDeadline(time.Now().Add(oomTick)) != nil {
			break
		}
		_ = raw.Read(more)
	}
	return kills
}
