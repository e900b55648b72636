package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The bare machines of files.
const (
	bareShare  = "QEMU, same share"
	tunedShare = "QEMU, same share and queues"
)

// jobFile is what fio does in each of two directories.
//
//go:embed files.fio
var jobFile []byte

// places are the directories of the container that fio works in.
var places = []place{{"rootfs", "/files"}, {"volume", "/volume"}}

type place struct{ name, dir string }

// jobsName is the file of fio's jobs.
const jobsName = "files.fio"

// A fileJob is a section of files.fio and how its result is told.
type fileJob struct{ name, section, unit string }

var fileJobs = []fileJob{
	{"sequential write", "seqwrite", "MiB/s"},
	{"sequential read", "seqread", "MiB/s"},
	{"random write", "randwrite", "ops/s"},
	{"random read", "randread", "ops/s"},
	{"create", "create", "ops/s"},
	{"stat", "stat", "ops/s"},
	{"unlink", "unlink", "ops/s"},
}

// measureFiles has fio work in the root filesystem and in a bind-mounted volume:
// in a container, in bare machines that have the same share with the same options,
// and in runc. All stay, and take turns at each job: what disturbs the host for
// seconds disturbs them all.
func measureFiles(ctx context.Context, l *lab) ([]Figure, error) {
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.prepareFiles(places, l.volume()); err != nil {
		return nil, err
	}
	workers, err := l.bareFiles(ctx, warmly)
	if err != nil {
		return nil, err
	}
	for _, p := range []program{warmly, l.reference("runc")} {
		w, err := l.filesWorker(ctx, p)
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
	}
	var figures []Figure
	for _, place := range places {
		for _, job := range fileJobs {
			figure := fileFigure(place, job)
			progress("%s", figure.Name)
			var contenders []contender
			for _, w := range workers {
				contenders = append(contenders, contender{w.name, func(ctx context.Context) ([]float64, error) { return w.do(ctx, place, job) }})
			}
			if err := warmUp(ctx, contenders); err != nil {
				return nil, err
			}
			measured, err := takeTurns(ctx, l.rounds, []Figure{figure}, contenders)
			if err != nil {
				return nil, err
			}
			figures = append(figures, measured...)
		}
	}
	return figures, nil
}

// A worker does fio's jobs, one for each section that it is asked for.
type worker struct {
	name string
	ask  io.WriteCloser
	// answers are fio's, one JSON object after the other.
	answers *json.Decoder
}

// fioLoop is what workers run; bench/init has it, too.
var fioLoop = []string{"/bin/sh", "-c", "while read section; do fio --output-format=json --section=$section /volume/" + jobsName + "; done"}

// do has one job done and gives its value.
func (w worker) do(ctx context.Context, p place, j fileJob) ([]float64, error) {
	// One that hangs is of no use any more.
	stop := context.AfterFunc(ctx, func() { w.ask.Close() })
	defer stop()
	if _, err := fmt.Fprintln(w.ask, p.name+"-"+j.section); err != nil {
		return nil, err
	}
	var result fioResult
	if err := w.answers.Decode(&result); err != nil {
		return nil, fmt.Errorf("fio: %w", err)
	}
	value, err := result.value(p, j)
	return []float64{value}, err
}

// filesWorker is a container that stays for all turns.
func (l *lab) filesWorker(ctx context.Context, p program) (worker, error) {
	bundle, err := l.bundle(fioLoop, func(s *specs.Spec) {
		s.Root.Readonly = false
		// fio looks for /tmp/fio-dump-status a hundred times a second: bare machines have
		// a tmpfs there.
		s.Mounts = append(s.Mounts,
			specs.Mount{Type: "bind", Source: l.volume(), Destination: "/volume", Options: []string{"bind"}},
			specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/tmp"})
	})
	if err != nil {
		return worker{}, err
	}
	c, err := l.start(ctx, p, bundle)
	if err != nil {
		return worker{}, err
	}
	return worker{p.name, c.stdin, json.NewDecoder(c.stdout)}, nil
}

func fileFigure(p place, j fileJob) Figure {
	return Figure{Name: p.name + ", " + j.name, Unit: j.unit, Ratios: []Ratio{
		{"vmruntime", bareShare, Aim{AtLeast: 0.95}},
		{"vmruntime", tunedShare, Aim{}},
		{"vmruntime", "runc", Aim{}},
	}}
}

// prepareFiles makes the directories and puts fio's jobs in the places into dir.
func (l *lab) prepareFiles(in []place, dir string) error {
	var jobs strings.Builder
	for _, place := range in {
		// In fio's files a section's name is one word.
		fmt.Fprintln(&jobs, strings.NewReplacer("$PLACE", place.name, "$DIR", place.dir).Replace(string(jobFile)))
		if err := os.MkdirAll(filepath.Join(l.rootfs(), place.dir), 0o755); err != nil {
			return err
		}
	}
	l.later(func() error {
		return errors.Join(os.RemoveAll(filepath.Join(l.rootfs(), "files")), os.RemoveAll(filepath.Join(l.rootfs(), jobsName)), os.RemoveAll(l.volume()))
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, jobsName), []byte(jobs.String()), 0o644)
}

// bareFiles are bare machines that stay for all turns: one as QEMU makes it, and one
// whose queues are served as the container's are.
func (l *lab) bareFiles(ctx context.Context, p program) ([]worker, error) {
	s, err := l.sharing(ctx, p)
	if err != nil {
		return nil, err
	}
	var workers []worker
	for _, b := range []struct {
		name    string
		machine machine
	}{{bareShare, s.machine.plain()}, {tunedShare, s.machine}} {
		conn, err := l.bareJob(ctx, b.machine, "files", s.options, s.share)
		if err != nil {
			return nil, err
		}
		workers = append(workers, worker{b.name, conn, json.NewDecoder(conn)})
	}
	return workers, nil
}

// A sharing is a container's machine, the options with which its share is mounted, and
// those that give a bare machine the lab's share like it.
type sharing struct {
	machine machine
	options string
	share   []string
}

// sharing asks a container that is gone when it returns.
func (l *lab) sharing(ctx context.Context, p program) (sharing, error) {
	c, m, err := l.example(ctx, p)
	if err != nil {
		return sharing{}, err
	}
	mounts, _, err := p.call(ctx, "exec", c.id, "cat", "/proc/self/mountinfo")
	if err != nil {
		return sharing{}, err
	}
	options, err := shareOptions(string(mounts))
	if err != nil {
		return sharing{}, err
	}
	share, err := m.share(l)
	return sharing{m, options, share}, errors.Join(err, c.discard())
}

// shareOptions finds in a container's mountinfo the options of its 9p share.
func shareOptions(mountinfo string) (string, error) {
	for line := range strings.Lines(mountinfo) {
		_, tail, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(tail); len(fields) == 3 && fields[0] == "9p" {
			_, options, _ := strings.Cut(fields[2], ",")
			return options, nil
		}
	}
	return "", fmt.Errorf("the container's root is on no 9p share: %q", mountinfo)
}

// fioResult is what of fio's output is of interest
// (https://fio.readthedocs.io/en/latest/fio_doc.html#json-output).
type fioResult struct {
	Jobs []struct {
		Name  string       `json:"jobname"`
		Error int          `json:"error"`
		Read  fioDirection `json:"read"`
		Write fioDirection `json:"write"`
	} `json:"jobs"`
}

type fioDirection struct {
	IOs       int64   `json:"total_ios"`
	Bandwidth float64 `json:"bw_bytes"`
	IOPS      float64 `json:"iops"`
}

// parseFio gives the values of each job in each of the places.
func parseFio(text []byte, in []place) ([]float64, error) {
	var result fioResult
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, fmt.Errorf("fio: %w: %q", err, text[:min(len(text), 200)])
	}
	var values []float64
	for _, place := range in {
		for _, job := range fileJobs {
			value, err := result.value(place, job)
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
	}
	return values, nil
}

// value is what the result says of one job.
func (r fioResult) value(p place, j fileJob) (float64, error) {
	name := p.name + "-" + j.section
	for _, job := range r.Jobs {
		if job.Name != name {
			continue
		}
		direction := job.Read
		if job.Write.IOs > 0 {
			direction = job.Write
		}
		switch {
		case job.Error != 0:
			return 0, fmt.Errorf("fio: job %s: error %d", name, job.Error)
		case direction.IOs == 0:
			return 0, fmt.Errorf("fio: job %s has done nothing", name)
		case j.unit == "MiB/s":
			return direction.Bandwidth / (1 << 20), nil
		}
		return direction.IOPS, nil
	}
	return 0, fmt.Errorf("fio: nothing about %s", name)
}
