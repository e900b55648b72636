package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// execCgroup is where execs are born: in the container's cgroup, unless its init has
// handed controllers on to cgroups of its own. Nobody may be in it then, and execs
// join init, as with runc.
func (c *container) execCgroup() cgroup {
	if c.cgroup.path == "" {
		return c.cgroup
	}
	control, _ := os.ReadFile(filepath.Join(c.cgroup.path, "cgroup.subtree_control"))
	init, err := c.process("")
	if len(strings.TrimSpace(string(control))) == 0 || err != nil {
		return c.cgroup
	}
	var text []byte
	c.agent.reaper.alive(init.pid, func() { text, _ = os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", init.pid)) })
	return c.cgroup.below(c.agent.cgroupMount, string(text))
}

// below is the cgroup that /proc/PID/cgroup tells (cgroups(7)), of those whose root
// is mounted at root, if it is below c. Any other one is none of the container's.
func (c cgroup) below(root, text string) cgroup {
	for line := range strings.Lines(text) {
		path, v2 := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if path = filepath.Join(root, path); v2 && strings.HasPrefix(path, c.path+"/") {
			return cgroup{path: path}
		}
	}
	return c
}
