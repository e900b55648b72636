package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// userMappings are the ids of a container's user namespace; without any it has
// none.
type userMappings struct{ uids, gids []specs.LinuxIDMapping }

func newUserMappings(spec *specs.Spec) userMappings {
	if !hasNamespace(spec, specs.UserNamespace) {
		return userMappings{}
	}
	return userMappings{uids: spec.Linux.UIDMappings, gids: spec.Linux.GIDMappings}
}

// apply has package syscall write the mappings and make the child the namespace's
// root.
func (u userMappings) apply(attr *syscall.SysProcAttr) {
	attr.UidMappings, attr.GidMappings = idMap(u.uids), idMap(u.gids)
	attr.GidMappingsEnableSetgroups = true
	attr.Credential = &syscall.Credential{}
}

func idMap(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var mapped []syscall.SysProcIDMap
	for _, m := range list {
		mapped = append(mapped, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return mapped
}

// outside is what an id of the container is outside of its user namespace.
func outside(list []specs.LinuxIDMapping, id uint32) (int, error) {
	if len(list) == 0 {
		return int(id), nil
	}
	for _, m := range list {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + (id - m.ContainerID)), nil
		}
	}
	return 0, fmt.Errorf("the id %d has no mapping", id)
}

// delegate gives a cgroup to the root of its container, who may then make others in
// it (cgroups(7), "Delegation"). As with runc a container has that which mounts its
// cgroup writable.
func (u userMappings) delegate(c cgroup, mounts []specs.Mount) error {
	writable := func(m specs.Mount) bool {
		parsed := newMount(m)
		return parsed.Type == "cgroup2" && parsed.flags&unix.MS_RDONLY == 0
	}
	if c.path == "" || len(u.uids) == 0 || !slices.ContainsFunc(mounts, writable) {
		return nil
	}
	uid, err := outside(u.uids, 0)
	if err != nil {
		return fmt.Errorf("linux.uidMappings: %w", err)
	}
	for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if err := os.Chown(filepath.Join(c.path, name), uid, -1); err != nil {
			return fmt.Errorf("delegate the cgroup: %w", err)
		}
	}
	return nil
}

// bound gives a user namespace that may not mount cgroup2, for it has no cgroup
// namespace, the container's own cgroup in its place. So does runc.
func (c cgroup) bound(spec *specs.Spec) *specs.Spec {
	if c.path == "" || !hasNamespace(spec, specs.UserNamespace) || hasNamespace(spec, specs.CgroupNamespace) {
		return spec
	}
	changed := *spec
	changed.Mounts = slices.Clone(spec.Mounts)
	for i, m := range changed.Mounts {
		if newMount(m).Type == "cgroup2" {
			changed.Mounts[i].Type, changed.Mounts[i].Source = "bind", c.path
		}
	}
	return &changed
}

// own gives a process's pipes to its user, who may open them again by
// /dev/stdout and the like. Nobody inside a user namespace could: they are made
// outside.
func (u userMappings) own(pipes []*os.File, uid uint32) error {
	if len(u.uids) == 0 {
		return nil
	}
	owner, err := outside(u.uids, uid)
	if err != nil {
		return fmt.Errorf("process.user.uid: %w", err)
	}
	for _, pipe := range pipes {
		if err := pipe.Chown(owner, -1); err != nil {
			return fmt.Errorf("owner of the standard descriptors: %w", err)
		}
	}
	return nil
}
