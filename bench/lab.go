package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/runtime"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// patience is how long one turn, or one command, may take. It only ends what
// hangs: a slow machine never needs it.
const patience = 5 * time.Minute

// A lab is where a row is measured. What rows make there, they undo by close.
type lab struct {
	// checkout is the source tree, with what is built in it.
	checkout string
	// dir is on a tmpfs and has a short path: sockets are below it.
	dir    string
	rounds int
	ids    int
	// bare is the cgroup of bare machines; containers have each one beside it, and
	// among cgroups the scheduler shares the CPUs.
	bare *cgroup.Group
	undo []func() error
}

func newLab(checkout string, rounds int) (*lab, error) {
	dir, err := os.MkdirTemp("/run", "vmruntime-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{checkout: checkout, dir: dir, rounds: rounds}
	l.later(func() error { return os.RemoveAll(dir) })
	l.makeGroup()
	return l, nil
}

// makeGroup does as vmruntime does: where the host refuses a cgroup, it goes without.
func (l *lab) makeGroup() {
	group, err := cgroup.Make(cgroup.Place{Path: l.newID()}, filepath.Join(l.dir, "bare.json"))
	if err != nil {
		progress("bare machines have no cgroup of their own: %v", err)
		return
	}
	l.bare = group
	l.later(group.Remove)
}

// later is done by close, the last first.
func (l *lab) later(f func() error) { l.undo = append(l.undo, f) }

func (l *lab) close() error {
	var failed error
	for _, f := range slices.Backward(l.undo) {
		failed = errors.Join(failed, f())
	}
	return failed
}

// built is a path of what make has built.
func (l *lab) built(elem ...string) string {
	return filepath.Join(append([]string{l.checkout, "build"}, elem...)...)
}

// guest is what the machines boot.
func (l *lab) guest() (guest.Image, error) { return guest.Open(l.built("guest")) }

// share is the directory that bare machines see as containers see theirs: it
// holds the root filesystem and the volume.
func (l *lab) share() string { return l.built("bench") }

// rootfs is the root filesystem of every container.
func (l *lab) rootfs() string { return filepath.Join(l.share(), "rootfs") }

// volume is bind-mounted into containers that ask for it.
func (l *lab) volume() string { return filepath.Join(l.share(), "volume") }

// cold is vmruntime whose machines boot.
func (l *lab) cold() (program, error) { return l.configured("cold", `templates = "off"`) }

// warm is vmruntime whose machines are clones; their template is there when it
// returns.
func (l *lab) warm(ctx context.Context) (program, error) {
	p, err := l.configured("warm", `templates = "built"`)
	if err != nil {
		return p, err
	}
	_, _, err = p.call(ctx, "template", "build")
	return p, err
}

// configured is vmruntime with a configuration of its own.
func (l *lab) configured(name, text string) (program, error) {
	config := filepath.Join(l.dir, name+".toml")
	p := program{
		name:   "vmruntime",
		line:   []string{filepath.Join(l.checkout, "bin/vmruntime"), "--root", filepath.Join(l.dir, name), "--config", config},
		config: config,
	}
	return p, os.WriteFile(config, []byte(text+"\n"), 0o600)
}

// reference is a runtime of containers without machines.
func (l *lab) reference(name string) program {
	return program{name: name, line: []string{name, "--root", filepath.Join(l.dir, name)}}
}

// references are the runtimes that engines know.
func (l *lab) references() []program { return []program{l.reference("runc"), l.reference("crun")} }

// newID is a container's.
func (l *lab) newID() string {
	l.ids++
	return fmt.Sprintf("bench-%d-%d", os.Getpid(), l.ids)
}

// A change makes one thing different from the example configuration.
type change func(*specs.Spec)

// bundle is a directory for containers that run args.
func (l *lab) bundle(args []string, changes ...change) (string, error) {
	dir, err := os.MkdirTemp(l.dir, "bundle-")
	if err != nil {
		return "", err
	}
	if err := runtime.WriteExample(dir); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	// Debian 12's crun knows no later one.
	spec.Version = "1.0.2"
	spec.Root.Path = l.rootfs()
	spec.Process.Terminal = false
	spec.Process.Args = args
	for _, c := range changes {
		c(&spec)
	}
	if text, err = json.Marshal(spec); err != nil {
		return "", err
	}
	return dir, os.WriteFile(path, text, 0o600)
}

// progress prints a line for who waits.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
