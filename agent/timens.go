package agent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// clockOffsets are those of a container's time namespace. One without offsets
// shows nothing but the machine's own clocks, and is not made.
func clockOffsets(spec *specs.Spec) map[string]specs.LinuxTimeOffset {
	if !hasNamespace(spec, specs.TimeNamespace) {
		return nil
	}
	return spec.Linux.TimeOffsets
}

// unshareTime gives the children of the calling thread a time namespace
// (time_namespaces(7)). Offsets can be written until the first is born.
func unshareTime(clocks map[string]specs.LinuxTimeOffset) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("time namespace: %w", err)
	}
	path := fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid())
	for _, clock := range slices.Sorted(maps.Keys(clocks)) {
		offset := clocks[clock]
		if err := writeFile(path, fmt.Sprintf("%s %d %d", clock, offset.Secs, offset.Nanosecs)); err != nil {
			return fmt.Errorf("linux.timeOffsets: %s: %w", clock, err)
		}
	}
	return nil
}
