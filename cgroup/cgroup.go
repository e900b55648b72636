// Package cgroup is a container's cgroup on the host: the one that engines name in
// cgroupsPath and read their statistics from. The shim and all that serves its
// machine are in it.
//
// The order of use: Make, then Enter with the first process, Limit sets the limits,
// and Remove removes it. Other processes Open it.
package cgroup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Place names a cgroup, whichever version the host has.
type Place struct {
	// Path is below the hierarchies' mount points, or below the caller's own cgroup
	// if it is relative. It is empty where Systemd makes a scope.
	Path string `json:"path,omitempty"`
	// Systemd has systemd make the scope Prefix-Name.scope in Slice, which is
	// systemd's own choice if empty.
	Systemd bool   `json:"systemd,omitempty"`
	Slice   string `json:"slice,omitempty"`
	Prefix  string `json:"prefix,omitempty"`
	Name    string `json:"name,omitempty"`
	// Chosen says that somebody has named it; another one is nobody's wish.
	Chosen bool `json:"chosen,omitempty"`
}

// ParsePlace understands linux.cgroupsPath as runc does. Without it the cgroup is
// named after the container, below the caller's, and not with its id alone: that is the
// name of runc's for a container of the same id.
func ParsePlace(path, id string, systemd bool) (Place, error) {
	switch {
	case path == "" && systemd:
		return Place{Systemd: true, Prefix: "vmruntime", Name: id}, nil
	case path == "":
		return Place{Path: "vmruntime-" + id}, nil
	case !systemd:
		return Place{Path: path, Chosen: true}, nil
	}
	parts := strings.Split(path, ":")
	if len(parts) != 3 || parts[2] == "" {
		return Place{}, fmt.Errorf("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", path)
	}
	return Place{Systemd: true, Slice: parts[0], Prefix: parts[1], Name: parts[2], Chosen: true}, nil
}

// A Group is a cgroup; nil stands for a container that has none.
type Group struct {
	manager cgroups.Manager
	saved   saved
}

// saved is what is kept of a Group in a file. Paths are by v1 controller, or one
// under "": relative ones are other ones for another process.
type saved struct {
	Place Place             `json:"place"`
	Paths map[string]string `json:"paths"`
}

func (s saved) open() (*Group, error) {
	m, err := manager.NewWithPaths(&cgroups.Cgroup{
		Path: s.Place.Path, Systemd: s.Place.Systemd,
		Parent: s.Place.Slice, ScopePrefix: s.Place.Prefix, Name: s.Place.Name,
		Resources: &cgroups.Resources{},
	}, s.Paths)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	s.Paths = m.GetPaths()
	return &Group{m, s}, nil
}

// Make makes a cgroup and writes into file what Open needs. Nobody may be in it, and
// it must not be frozen. When it fails, nothing is left.
func Make(p Place, file string) (*Group, error) {
	g, err := saved{Place: p}.open()
	if err != nil {
		return nil, err
	}
	// One that is being removed is none.
	if pids, _ := g.manager.GetAllPids(); len(pids) > 0 {
		return nil, fmt.Errorf("container's cgroup is not empty: %d process(es) found in %s: name another one in linux.cgroupsPath",
			len(pids), cmp.Or(p.Path, p.Prefix+"-"+p.Name+".scope"))
	}
	if state, _ := g.manager.GetFreezerState(); state == cgroups.Frozen {
		return nil, errors.New("container's cgroup unexpectedly frozen")
	}
	text, err := json.Marshal(g.saved)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, errors.Join(err, os.Remove(file))
	}
	if p.Systemd {
		// A scope is made with its first process.
		return g, nil
	}
	if err := g.Enter(nobody); err != nil {
		return nil, errors.Join(err, g.Remove(), os.Remove(file))
	}
	return g, nil
}

// nobody is a process that does not exist.
const nobody = -1

// Open is the Group that was saved in a file, nil if there is none.
func Open(file string) (*Group, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s.open()
}

// check refuses a damaged record: paths that are missing would become those of the hierarchies'
// roots, with which all that is empty on the host would be removed.
func (s saved) check() error {
	if len(s.Paths) == 0 {
		return errors.New("it names no cgroup")
	}
	own := func(base string) bool { return base == filepath.Base(filepath.Clean("/"+s.Place.Path)) }
	if s.Place.Systemd {
		own = func(base string) bool { return s.Place.Name != "" && strings.Contains(base, s.Place.Name) }
	}
	for _, path := range s.Paths {
		if base := filepath.Base(path); !filepath.IsAbs(path) || filepath.Clean(path) != path || base == "/" || !own(base) {
			return fmt.Errorf("%q is not the container's cgroup", path)
		}
	}
	return nil
}

// Enter moves the first process into the cgroup.
func (g *Group) Enter(pid int) error {
	if err := g.manager.Apply(pid); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// Add moves a further process into the cgroup, with all its threads.
func (g *Group) Add(pid int) error {
	if g == nil {
		return nil
	}
	if err := g.manager.AddPid("", pid); err != nil {
		return fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	return nil
}

// Limit gives the cgroup the container's limits and what its machine needs beside
// them. A machine that boots is not held to the container's CPU quota.
func (g *Group) Limit(r *specs.LinuxResources, booting bool) error {
	if g == nil {
		return nil
	}
	if err := g.manager.Set(resources(r, booting)); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// Thaw lets processes go on that somebody has frozen: under cgroup v1 they could
// not even be killed.
func (g *Group) Thaw() error {
	if g == nil {
		return nil
	}
	state, err := g.manager.GetFreezerState()
	if err != nil || state != cgroups.Frozen {
		return err
	}
	return g.manager.Freeze(cgroups.Thawed)
}

// Remove removes the cgroup and those below it, whose processes have ended.
func (g *Group) Remove() error {
	if g == nil {
		return nil
	}
	if err := g.manager.Destroy(); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}
