package agent

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// consoleChunks is how many writes the console holds that is slower than they
	// come.
	consoleChunks = 16
	// consolePatience is how long a write waits for a console that takes nothing,
	// before what it writes is dropped.
	consolePatience = 2 * time.Second
	// consoleEnd is how long the machine's end waits for what it holds.
	consoleEnd = 5 * time.Second
)

// A console is the machine's, as a writer that never fails and holds nobody up for
// long: a serial port that nobody reads takes nothing for ever.
type console struct {
	file   *os.File
	chunks chan []byte
	// ended is closed when everything is written.
	ended chan struct{}

	mu sync.Mutex
	// lost counts the bytes that were dropped and not yet told of.
	lost int
}

func openConsole() (*console, error) {
	fd, err := unix.Open("/dev/console", unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/console: %w", err)
	}
	return newConsole(os.NewFile(uintptr(fd), "/dev/console")), nil
}

func newConsole(file *os.File) *console {
	c := &console{file: file, chunks: make(chan []byte, consoleChunks), ended: make(chan struct{})}
	go c.run()
	return c
}

func (c *console) run() {
	defer close(c.ended)
	for chunk := range c.chunks {
		// A console that fails is as good as one that nobody reads.
		_, _ = c.file.Write(chunk)
	}
}

// Write implements [io.Writer]. One that had to drop something does not wait again
// until the console has taken more.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chunk := append([]byte(nil), p...)
	if c.lost > 0 {
		chunk = append(fmt.Appendf(nil, "\nvmruntime: %d bytes are lost: nobody reads this console\n", c.lost), p...)
	}
	if c.offer(chunk) {
		c.lost = 0
	} else {
		c.lost += len(p)
	}
	return len(p), nil
}

func (c *console) offer(chunk []byte) bool {
	select {
	case c.chunks <- chunk:
		return true
	default:
	}
	if c.lost > 0 {
		return false
	}
	select {
	case c.chunks <- chunk:
		return true
	case <-time.After(consolePatience):
		return false
	}
}

// say writes a line of ours.
func (c *console) say(format string, args ...any) {
	fmt.Fprintf(c, "vmruntime: "+format+"\n", args...)
}

// close waits for what is written, but not for ever.
func (c *console) close() {
	close(c.chunks)
	select {
	case <-c.ended:
	case <-time.After(consoleEnd):
	}
}
