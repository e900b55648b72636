package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// update sets further limits. The kernel would kill for a memory limit below what
// is in use: such a one is refused, as cgroup v1 does.
func (c cgroup) update(r *specs.LinuxResources) error {
	if c.path == "" {
		return errors.New("the guest has no cgroup2")
	}
	if r.Memory != nil && r.Memory.Limit != nil && *r.Memory.Limit > 0 {
		if err := c.shrink(uint64(*r.Memory.Limit)); err != nil {
			return err
		}
	}
	return c.setAll(r)
}

// shrink has the kernel give up what it can of memory beyond the limit.
func (c cgroup) shrink(limit uint64) error {
	current, err := c.number("memory.current")
	if err != nil || current < limit {
		// Without the controller there is no limit.
		return nil
	}
	stat := c.table("memory.stat")
	files := stat["active_file"] + stat["inactive_file"] + stat["slab_reclaimable"]
	if current-min(files, current) < limit {
		// It fails if it frees less, which the usage tells as well. Where there is
		// nothing to free it takes a minute.
		_ = writeFile(filepath.Join(c.path, "memory.reclaim"), strconv.FormatUint(current-limit+reclaimMore, 10))
	}
	if current, err = c.number("memory.current"); err == nil && current >= limit {
		peak, _ := c.number("memory.peak")
		return fmt.Errorf("unable to set memory limit to %d (current usage: %d, peak usage: %d)", limit, current, peak)
	}
	return nil
}

// reclaimMore is how far below its limit a cgroup is to be, in bytes: what runs
// takes more meanwhile.
const reclaimMore = 1 << 20
