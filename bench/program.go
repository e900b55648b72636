package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A program is a runtime with runc's command line, and how it is called.
type program struct {
	name string
	line []string
	// config is vmruntime's configuration.
	config string
}

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	line := slices.Concat(p.line, args)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	// A killed run leaves a container that may hold its pipes.
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// call runs a command to its end and gives what it printed, and how long it took.
func (p program) call(ctx context.Context, args ...string) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return timed(p.command(ctx, args...))
}

// run runs a container of the lab's to its end.
func (l *lab) run(ctx context.Context, p program, bundle string) ([]byte, time.Duration, error) {
	id := l.newID()
	out, took, err := p.call(ctx, "run", "--bundle", bundle, id)
	if err != nil {
		// A run that was killed has left its container.
		err = errors.Join(err, p.remove(id))
	}
	return out, took, err
}

// remove leaves nothing of a container, whatever became of it; that it is gone is
// no error.
func (p program) remove(id string) error {
	_, _, err := p.call(context.Background(), "delete", "--force", id)
	return err
}

// timed runs a command from its start to its exit.
func timed(cmd *exec.Cmd) ([]byte, time.Duration, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), took, nil
}

// A container is one that was created as engines do it: stdio are pipes, and the
// pid file names the process that stands for it.
type container struct {
	program program
	id      string
	pid     int
	stdin   *os.File
	stdout  *bufio.Reader
	output  *os.File
}

// start makes a container of the lab's and starts its process. It is deleted with
// the lab, if not before. With ctx ends the wait for what the process says.
func (l *lab) start(ctx context.Context, p program, bundle string) (*container, error) {
	c := &container{program: p, id: l.newID()}
	inputEnd, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inputEnd.Close()
	output, outputEnd, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close())
	}
	defer outputEnd.Close()
	c.stdin, c.output, c.stdout = stdin, output, bufio.NewReader(output)
	l.later(c.discard)
	context.AfterFunc(ctx, c.silence)
	if err := c.create(ctx, l, bundle, inputEnd, outputEnd); err != nil {
		return nil, err
	}
	_, _, err = p.call(ctx, "start", c.id)
	return c, err
}

// silence closes our ends of the container's pipes.
func (c *container) silence() {
	c.stdin.Close()
	c.output.Close()
}

func (c *container) create(ctx context.Context, l *lab, bundle string, stdin, stdout *os.File) error {
	pidFile, log := filepath.Join(l.dir, c.id+".pid"), filepath.Join(l.dir, c.id+".log")
	stderr, err := os.Create(log)
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := c.program.command(ctx, "create", "--bundle", bundle, "--pid-file", pidFile, c.id)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(text))
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	c.pid, err = strconv.Atoi(string(text))
	return err
}

// exited watches the process that stands for the container, as an engine does.
// Call it while the process runs.
func (c *container) exited() (wait func() error, err error) {
	fd, err := unix.PidfdOpen(c.pid, 0)
	if err != nil {
		return nil, fmt.Errorf("container %s has ended already: %w", c.id, err)
	}
	return func() error {
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return os.NewSyscallError("poll", err)
			case n == 0:
				return fmt.Errorf("container %s does not end", c.id)
			default:
				return nil
			}
		}
	}, nil
}

// delete removes a container that has ended.
func (c *container) delete(ctx context.Context) (time.Duration, error) {
	_, took, err := c.program.call(ctx, "delete", c.id)
	return took, err
}

// discard leaves nothing of the container, whatever became of it.
func (c *container) discard() error {
	c.silence()
	return c.program.remove(c.id)
}

// zeros are endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
