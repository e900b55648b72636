package runtime

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// A foreground connects a process of the container with the terminal and the
// signals of this one.
type foreground struct {
	// terminal is the caller's, nil where the process has none.
	terminal console.Console
	stdio    *stdio
	// copied is closed once all of the terminal's output is passed on.
	copied chan struct{}
}

// newForeground finds the terminal and gives the container's its size. remedy tells
// what helps where there is none.
func newForeground(s *stdio, remedy string) (*foreground, error) {
	f := &foreground{stdio: s, copied: make(chan struct{})}
	if !s.Terminal {
		close(f.copied)
		return f, nil
	}
	terminal, err := findTerminal()
	if err != nil {
		return nil, fmt.Errorf("the process wants a terminal and this one has none: run it from one, or %s", remedy)
	}
	f.terminal = terminal
	f.resize()
	return f, nil
}

// findTerminal is the first of our descriptors that is a terminal, or else the
// controlling one.
func findTerminal() (console.Console, error) {
	for _, file := range []*os.File{os.Stderr, os.Stdout, os.Stdin} {
		if c, err := console.ConsoleFromFile(file); err == nil {
			return c, nil
		}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return console.ConsoleFromFile(tty)
}

// wait passes signals on until the process has ended, and returns its exit
// status. Keys go to the container, unprocessed.
func (f *foreground) wait(process *os.Process, signals Signals, forward func(unix.Signal)) (int, error) {
	restore, err := f.attach()
	if err != nil {
		// Without its terminal nobody could end it.
		_ = process.Kill()
		_, _ = process.Wait()
		return 0, err
	}
	defer restore()
	f.stdio.closeSlave()

	ended := make(chan error, 1)
	var status *os.ProcessState
	go func() {
		var err error
		status, err = process.Wait()
		ended <- err
	}()
	for {
		select {
		case s := <-signals.received:
			f.handle(s.(unix.Signal), forward)
		case err := <-ended:
			if err != nil {
				return 0, fmt.Errorf("wait: %w", err)
			}
			<-f.copied
			return exitCode(status), nil
		}
	}
}

func (f *foreground) handle(s unix.Signal, forward func(unix.Signal)) {
	switch s {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
		// About this process: a child's end, Go's scheduler, our own output.
	case unix.SIGWINCH:
		f.resize()
	default:
		forward(s)
	}
}

// attach passes keys and output on, and returns what gives the terminal back.
func (f *foreground) attach() (restore func(), err error) {
	if f.terminal == nil {
		return func() {}, nil
	}
	if restore, err = makeRaw(f.terminal.Fd()); err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(f.stdio.master, os.Stdin) }()
	go func() {
		defer close(f.copied)
		// Ends with EIO, when nobody holds the slave any more.
		copyTerminal(os.Stdout, f.stdio.master)
	}()
	return restore, nil
}

// copyTerminal passes a terminal's output on. Where it does not go to a terminal,
// lines end as the process has written them.
func copyTerminal(to *os.File, from io.Reader) {
	if _, err := console.ConsoleFromFile(to); err == nil {
		_, _ = io.Copy(to, from)
		return
	}
	lines := &lineFeeds{w: to}
	_, _ = io.Copy(lines, from)
	_ = lines.Flush()
}

// resize gives the container's terminal the size of ours, which may have none.
func (f *foreground) resize() {
	if f.terminal == nil {
		return
	}
	if size, err := f.terminal.Size(); err == nil && size.Width != 0 && size.Height != 0 {
		_ = f.stdio.master.Resize(size)
	}
}

func exitCode(s *os.ProcessState) int {
	status := s.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
