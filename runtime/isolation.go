package runtime

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/cpulist"
)

// checkUsers wants mappings where there is a user namespace and only there.
func checkUsers(s *specs.Spec) error {
	_, wanted := namespace(s, specs.UserNamespace)
	uids, gids := s.Linux.UIDMappings, s.Linux.GIDMappings
	switch {
	case !wanted && len(uids)+len(gids) > 0:
		return errors.New(`linux.uidMappings, linux.gidMappings: they need {"type":"user"} in linux.namespaces`)
	case wanted && (len(uids) == 0 || len(gids) == 0):
		return errors.New("linux.uidMappings, linux.gidMappings: a user namespace needs both")
	}
	return errors.Join(checkMappings("linux.uidMappings", uids), checkMappings("linux.gidMappings", gids))
}

func checkMappings(name string, list []specs.LinuxIDMapping) error {
	// user_namespaces(7).
	const most = 340
	if len(list) > most {
		return fmt.Errorf("%s: %d entries are more than the kernel's %d", name, len(list), most)
	}
	for i, m := range list {
		// The last id is no id, but chown(2)'s word for "as it is".
		last := uint64(max(m.ContainerID, m.HostID)) + uint64(m.Size)
		switch {
		case m.Size == 0:
			return fmt.Errorf("%s[%d].size: 0 maps nothing", name, i)
		case last > math.MaxUint32:
			return fmt.Errorf("%s[%d]: there are no ids above %d", name, i, uint32(math.MaxUint32))
		}
	}
	return nil
}

// checkClocks is about time_namespaces(7).
func checkClocks(s *specs.Spec) error {
	if _, ok := namespace(s, specs.TimeNamespace); !ok && len(s.Linux.TimeOffsets) > 0 {
		return errors.New(`linux.timeOffsets: they need {"type":"time"} in linux.namespaces`)
	}
	for clock, offset := range s.Linux.TimeOffsets {
		switch {
		case clock != "monotonic" && clock != "boottime":
			return fmt.Errorf("linux.timeOffsets: %q must be monotonic or boottime", clock)
		case offset.Nanosecs >= 1e9:
			return fmt.Errorf("linux.timeOffsets.%s.nanosecs: %d must be less than a second", clock, offset.Nanosecs)
		}
	}
	return nil
}

func checkPersonality(s *specs.Spec) error {
	p := s.Linux.Personality
	if p != nil && p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32 {
		return fmt.Errorf("linux.personality.domain: %q must be %s or %s", p.Domain, specs.PerLinux, specs.PerLinux32)
	}
	return nil
}

func checkAffinity(s *specs.Spec) error {
	a := s.Process.ExecCPUAffinity
	if a == nil {
		return nil
	}
	for _, f := range []struct{ name, list string }{{"initial", a.Initial}, {"final", a.Final}} {
		if _, err := cpulist.Parse(f.list); f.list != "" && err != nil {
			return fmt.Errorf("process.execCPUAffinity.%s: %q must be a list of CPUs, such as 0-2,5", f.name, f.list)
		}
	}
	return nil
}

// checkMountKinds refuses what needs the host's file systems, and the options that
// stand for the container's own mappings.
func checkMountKinds(s *specs.Spec) error {
	for i, m := range s.Mounts {
		if m.Type == "overlay" && !isBind(m) {
			return fmt.Errorf("mounts[%d].type: an overlay of the host's directories cannot be made in a VM: mount it on the host and bind it", i)
		}
		for _, option := range []string{"idmap", "ridmap"} {
			if slices.Contains(m.Options, option) {
				return fmt.Errorf("mounts[%d].options: %s: neither 9p nor virtiofs maps ids in a VM: remove it", i, option)
			}
		}
	}
	return nil
}
