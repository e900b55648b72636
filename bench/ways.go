package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A way is how a machine boots and reaches its files: a configuration of vmruntime, with
// $BUILD for the directory of what is built.
type way struct{ name, config string }

var ways = []way{
	{"9p, warm", `templates = "built"`},
	{"9p, cold", `templates = "off"`},
	{"virtiofs", `transport = "virtiofs"`},
	{onDisks, `rootfs = "block"`},
	{"base image", `base_image = "$BUILD/cloudimage.qcow2"`},
}

// onDisks is the way with a root filesystem of its own: a disk is made of what is
// there, and others write to theirs.
const onDisks = "block"

// measureWays measures the same container in every way, and in runc: a start, the
// memory of an idle one, and files in the root filesystem.
func measureWays(ctx context.Context, l *lab) ([]Figure, error) {
	figures := []Figure{{Name: "start", Unit: "s"}, {Name: "memory", Unit: "MiB"}}
	for _, job := range fileJobs {
		figures = append(figures, Figure{Name: job.name, Unit: job.unit})
	}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.prepareFiles(places[:1], l.rootfs()); err != nil {
		return nil, err
	}
	w, err := l.newWorkload(l.rootfs())
	if err != nil {
		return nil, err
	}
	var contenders []contender
	for _, way := range ways {
		p, err := l.configured(strings.Map(letters, way.name), strings.ReplaceAll(way.config, "$BUILD", l.built()))
		if err != nil {
			return nil, err
		}
		if way.name != onDisks {
			contenders = append(contenders, w.contender(l, way.name, p))
			continue
		}
		disks, err := l.diskWorkload(ctx, p)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, disks.contender(l, way.name, p))
	}
	disks, err := l.makeDisks(ctx, warmly)
	if err != nil {
		return nil, err
	}
	contenders = append(contenders, disks.contender(l), w.contender(l, "runc", l.reference("runc")))
	return takeTurns(ctx, l.rounds, figures, contenders)
}

// letters are what remains of a name in a path.
func letters(r rune) rune {
	if r == ' ' || r == ',' {
		return -1
	}
	return r
}

// A workload are the bundles of what every way does.
type workload struct{ start, idle, files string }

func (l *lab) newWorkload(root string) (w workload, err error) {
	writable := func(s *specs.Spec) { s.Root.Path, s.Root.Readonly = root, false }
	for _, of := range []struct {
		to   *string
		args []string
	}{
		{&w.start, []string{"true"}},
		{&w.idle, []string{"sleep", "infinity"}},
		{&w.files, []string{"/usr/bin/fio", "--output-format=json", "/" + jobsName}},
	} {
		if *of.to, err = l.bundle(of.args, writable); err != nil {
			return w, err
		}
	}
	return w, nil
}

// diskWorkload is that of a copy of the root filesystem, whose disks are there when it
// returns: they are made once.
func (l *lab) diskWorkload(ctx context.Context, p program) (workload, error) {
	root, store := l.built("bench-block"), l.built("bench-disks")
	l.later(func() error { return errors.Join(os.RemoveAll(root), os.RemoveAll(store)) })
	if err := os.RemoveAll(root); err != nil {
		return workload{}, err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", l.rootfs(), root).CombinedOutput(); err != nil {
		return workload{}, fmt.Errorf("copy of the root filesystem: %w: %s", err, out)
	}
	text, err := os.ReadFile(p.config)
	if err != nil {
		return workload{}, err
	}
	if err := os.WriteFile(p.config, fmt.Appendf(text, "rootfs_store = %q\n", store), 0o600); err != nil {
		return workload{}, err
	}
	w, err := l.newWorkload(root)
	if err != nil {
		return w, err
	}
	_, _, err = l.run(ctx, p, w.start)
	return w, err
}

func (w workload) contender(l *lab, name string, p program) contender {
	return contender{name, func(ctx context.Context) ([]float64, error) {
		_, took, err := l.run(ctx, p, w.start)
		if err != nil {
			return nil, err
		}
		memory, err := l.memory(ctx, p, w.idle)
		if err != nil {
			return nil, err
		}
		text, _, err := l.run(ctx, p, w.files)
		if err != nil {
			return nil, err
		}
		files, err := parseFio(text, places[:1])
		return append([]float64{took.Seconds(), memory}, files...), err
	}}
}

// memory is the proportional set size in MiB of all processes of an idle container.
func (l *lab) memory(ctx context.Context, p program, bundle string) (float64, error) {
	c, err := l.start(ctx, p, bundle)
	if err != nil {
		return 0, err
	}
	total, err := pssOfTree(c.pid)
	return total, errors.Join(err, c.discard())
}

// pssOfTree is that of a process and all that descend from it.
func pssOfTree(pid int) (float64, error) {
	total, err := pss(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children(pid) {
		more, err := pssOfTree(child)
		if err != nil {
			return 0, err
		}
		total += more
	}
	return total, nil
}
