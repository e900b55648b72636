package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmruntime/vmruntime/vm"
)

// A bootDisk are the disks of `vmruntime image disk` that do what a workload's bundles
// do, and the machine that they are to have. Nothing of vmruntime runs beside them.
type bootDisk struct {
	machine            machine
	start, idle, files string
}

// awake is what the idle one says once it runs.
const awake = "awake"

// makeDisks makes them of the lab's root filesystem, as the image that hack/bench.sh
// has made of it.
func (l *lab) makeDisks(ctx context.Context, p program) (d bootDisk, err error) {
	c, m, err := l.example(ctx, p)
	if err != nil {
		return d, err
	}
	d.machine = m
	if err := c.discard(); err != nil {
		return d, err
	}
	jobs := strings.NewReplacer("$PLACE", places[0].name, "$DIR", places[0].dir).Replace(string(jobFile))
	for name, of := range map[string]struct {
		to   *string
		args []string
	}{
		"start": {&d.start, []string{"true"}},
		"idle":  {&d.idle, []string{"sh", "-c", "echo " + awake + "; exec sleep infinity"}},
		"files": {&d.files, []string{"sh", "-c", `mkdir -p "$1"; echo "$2" >/jobs; exec fio --output-format=json /jobs`, "sh", places[0].dir, jobs}},
	} {
		*of.to = filepath.Join(l.built(), "bench-"+name+".raw")
		file := *of.to
		l.later(func() error { return os.RemoveAll(file) })
		line := append([]string{"image", "disk", "--format", "raw", "-o", *of.to, l.built("images/bench.tar")}, of.args...)
		if _, _, err := p.call(ctx, line...); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (d bootDisk) contender(l *lab) contender {
	return contender{"self-booting disk", func(ctx context.Context) ([]float64, error) {
		begin := time.Now()
		if _, err := d.bootToEnd(ctx, l, d.start); err != nil {
			return nil, err
		}
		took := time.Since(begin)
		memory, err := d.idleSize(ctx, l, d.idle)
		if err != nil {
			return nil, err
		}
		console, err := d.bootToEnd(ctx, l, d.files)
		if err != nil {
			return nil, err
		}
		files, err := parseFio(between(console, '{', '}'), places[:1])
		return append([]float64{took.Seconds(), memory}, files...), err
	}}
}

// between is what reaches from the first line that begins with first to the last one
// that begins with last.
func between(text []byte, first, last byte) []byte {
	text = append([]byte{'\n'}, text...)
	from, to := bytes.Index(text, []byte{'\n', first}), bytes.LastIndex(text, []byte{'\n', last})
	if from < 0 || to < from {
		return text
	}
	return text[from : to+2]
}

// boot is a plain QEMU that boots a disk and forgets what it writes, with the console
// on stdout.
func (d bootDisk) boot(ctx context.Context, disk string) *exec.Cmd {
	line := append(d.machine.alike(), "-serial", "stdio", "-snapshot", "-drive", "if=virtio,format=raw,file="+disk)
	cmd := exec.CommandContext(ctx, vm.QEMU, line...)
	cmd.SysProcAttr = dieWithUs()
	return cmd
}

// bootToEnd runs a disk until it powers off, and gives what its console said.
func (d bootDisk) bootToEnd(ctx context.Context, l *lab, disk string) ([]byte, error) {
	var console bytes.Buffer
	cmd := d.boot(ctx, disk)
	cmd.Stdout = &console
	err := launch(cmd, l.bare)
	if err == nil {
		err = cmd.Wait()
	}
	if !bytes.Contains(console.Bytes(), []byte("has ended with exit status 0")) {
		err = errors.Join(err, errors.New("its process did not end well"))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.2000s", disk, err, console.Bytes())
	}
	return bytes.ReplaceAll(console.Bytes(), []byte("\r"), nil), nil
}

// idleSize is the proportional set size in MiB of a QEMU whose disk's process runs.
func (d bootDisk) idleSize(ctx context.Context, l *lab, disk string) (memory float64, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := d.boot(ctx, disk)
	console, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := launch(cmd, l.bare); err != nil {
		return 0, err
	}
	defer func() {
		stop()
		_ = cmd.Wait() // It was killed.
	}()
	if err := waitFor(console, awake); err != nil {
		return 0, fmt.Errorf("%s: %w", disk, err)
	}
	return pssOfTree(cmd.Process.Pid)
}

// waitFor reads until a line has the text.
func waitFor(r io.Reader, text string) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return nil
		}
	}
	return errors.Join(lines.Err(), fmt.Errorf("its console never said %q", text))
}
