package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/network"
	"github.com/vmruntime/vmruntime/vm"
)

const (
	// bootTimeout is for a loaded host without KVM; a failed boot powers off and
	// is noticed at once.
	bootTimeout = 5 * time.Minute
	// imageTimeout is for a base image: systemd and cloud-init take minutes there, and
	// an image that never starts the agent just idles.
	imageTimeout = 15 * time.Minute
	// consoleTail is how much of the guest's console is kept, in bytes.
	consoleTail = 16 << 10
	// failGrace lets an exit that has already arrived win over the end of the
	// channel that follows it.
	failGrace = 200 * time.Millisecond
)

// A Machine is a running domain.
type Machine interface {
	// PID is QEMU's.
	PID() int
	// Pause and Resume stop the machine's CPUs and let them go on.
	Pause() error
	Resume() error
	// Paused tells whether they stand still, and Follow has changed called when somebody
	// else may have done either.
	Paused() (bool, error)
	Follow(changed func()) error
	// Save makes a template of it and Load a clone run, see package driver.
	Save(ctx context.Context, state *os.File) error
	Load(ctx context.Context, state *os.File) error
	// Destroy ends it at once.
	Destroy() error
}

// A Driver is libvirt, see package driver.
type Driver interface {
	// Boot starts a machine under the driver at uri.
	Boot(uri, root string, c vm.Config) (Machine, error)
	// Version is libvirt's.
	Version() (uint32, error)
	// Trim gives back what memory a start has needed.
	Trim()
}

// A machine is the running VM with the host's ends of its sockets.
type machine struct {
	Machine
	console *tail
	// gone is closed when QEMU has ended.
	gone chan struct{}
}

// launch starts a machine, whose directory is dir, and returns it with the agent's
// channel.
func launch(ctx context.Context, d Driver, uri, dir string, c vm.Config) (*machine, net.Conn, error) {
	agent, err := listen(c.AgentSocket)
	if err != nil {
		return nil, nil, err
	}
	defer agent.Close()
	console, err := listen(c.ConsoleSocket)
	if err != nil {
		return nil, nil, err
	}
	defer console.Close()
	m := &machine{console: &tail{}, gone: make(chan struct{})}
	defer trace.Begin(ctx, "start the domain")()
	files, err := serveFiles(dir, c)
	if err != nil {
		return nil, nil, err
	}
	if m.Machine, err = d.Boot(uri, dir, confined(uri, dir, c)); err != nil {
		return nil, nil, errors.Join(err, files.end())
	}
	files.follow(m)
	if err := m.watch(uri); err != nil {
		return nil, nil, errors.Join(err, m.Destroy())
	}
	if uri == vm.URISystem {
		if err := network.FetchTaps(m.PID(), c.Taps); err != nil {
			return nil, nil, errors.Join(err, m.Destroy())
		}
	}
	// QEMU connected before libvirt reported the start.
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	conn, err := accept(ctx, agent)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("agent channel: %w", err), m.Destroy())
	}
	output, err := accept(ctx, console)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("console: %w", err), m.Destroy())
	}
	go m.console.follow(output)
	if uri == vm.URIEmbed {
		go boundLog(filepath.Join(dir, "log/qemu", c.Name+".log"), m.gone)
	}
	return m, conn, nil
}

// alive is a context that ends with the machine, or after bootTimeout.
func (m *machine) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	go func() {
		select {
		case <-m.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

const (
	// logLimit is how much QEMU, virtiofsd or the shim may have to say, in bytes, and
	// logPause how often its log is looked at.
	logLimit = 1 << 20
	logPause = 5 * time.Second
)

// boundLog keeps a guest that has QEMU or virtiofsd complain about it without end
// from filling the host's /run, until the writer is gone; the shim's own log is
// bounded as well. All of them append to their file: it may be emptied.
func boundLog(path string, gone <-chan struct{}) {
	tick := time.NewTicker(logPause)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return
		case <-tick.C:
			truncate(path, logLimit)
		}
	}
}

// truncate empties a file that has grown beyond limit.
func truncate(path string, limit int64) {
	if info, err := os.Stat(path); err == nil && info.Size() > limit {
		_ = os.Truncate(path, 0)
	}
}

// confined tells the emulator wrapper whom to die with and what it may see; under
// a libvirtd both are libvirtd's work.
func confined(uri, dir string, c vm.Config) vm.Config {
	if uri != vm.URIEmbed {
		return c
	}
	writable, readable := visible(dir, c)
	c.EmulatorEnv = map[string]string{
		"VMRUNTIME_SHIM":  strconv.Itoa(os.Getpid()),
		"VMRUNTIME_PATHS": strings.Join(slices.Concat(writable, []string{""}, readable), ":"),
	}
	if c.Clone {
		c.EmulatorEnv["VMRUNTIME_MEMORY"] = c.MemoryFile
	}
	return c
}

// visible is what QEMU may write to and what it may only read. The control socket
// is not among them: a QEMU that a guest took over could put its own there and be
// handed the descriptors of the next exec.
func visible(dir string, c vm.Config) (writable, readable []string) {
	writable = []string{filepath.Join(dir, "lib")}
	readable = []string{c.Seed, c.AgentSocket, c.ConsoleSocket, c.Kernel, c.Initramfs}
	if c.Transport == vm.Virtiofs {
		readable = append(readable, c.ShareSocket)
	} else {
		writable = append(writable, c.Share)
	}
	if c.Boot != nil {
		writable, readable = append(writable, c.Boot.Overlay), append(readable, c.Boot.Base)
	}
	for _, disk := range c.Disks {
		if disk.ReadOnly {
			readable = append(readable, disk.Path)
		} else {
			writable = append(writable, disk.Path)
		}
	}
	switch {
	case c.MemoryFile == "":
	case c.Clone:
		readable = append(readable, c.MemoryFile)
	default:
		writable = append(writable, c.MemoryFile)
	}
	return writable, readable
}

// watch notices the end of QEMU: as its parent under the embedded driver, from
// outside when libvirtd is.
func (m *machine) watch(uri string) error {
	if uri == vm.URIEmbed {
		go func() {
			defer close(m.gone)
			var status unix.WaitStatus
			for {
				// Never another pid: libvirt waits for children of its own.
				if _, err := unix.Wait4(m.PID(), &status, 0, nil); !errors.Is(err, unix.EINTR) {
					return
				}
			}
		}()
		return nil
	}
	fd, err := unix.PidfdOpen(m.PID(), 0)
	if err != nil {
		return fmt.Errorf("pidfd of QEMU %d: %w", m.PID(), err)
	}
	go func() {
		defer close(m.gone)
		defer unix.Close(fd)
		awaitPidfd(fd, -1)
	}()
	return nil
}

// awaitPidfd waits until the process has ended and tells whether it has within
// the timeout in milliseconds; -1 waits for ever.
func awaitPidfd(fd, timeout int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, timeout)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

func listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

func accept(ctx context.Context, l *net.UnixListener) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	return l.Accept()
}

// A tail keeps the end of what the guest writes to its console.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) follow(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		t.add(buffer[:n])
		if err != nil {
			return
		}
	}
}

func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - consoleTail; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
}

// String is fit for a terminal.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.text)) {
		lines = append(lines, plain(strings.TrimRight(line, "\r\n")))
	}
	return strings.Join(lines, "\n")
}
