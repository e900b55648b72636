package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
)

const (
	// bootTimeout is for a loaded host without KVM; a failed boot powers off and
	// is noticed at once.
	bootTimeout = 5 * time.Minute
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
	// Destroy ends it at once.
	Destroy() error
}

// A Boot starts a machine under the libvirt driver at uri; see driver.Boot.
type Boot func(uri, root string, c vm.Config) (Machine, error)

// A machine is the running VM with the host's ends of its sockets.
type machine struct {
	Machine
	console *tail
	// gone is closed when QEMU has ended.
	gone chan struct{}
}

// boot starts the plan's machine and returns it with the agent's channel.
func boot(ctx context.Context, start Boot, p Plan) (*machine, net.Conn, error) {
	agent, err := listen(p.Machine.AgentSocket)
	if err != nil {
		return nil, nil, err
	}
	defer agent.Close()
	console, err := listen(p.Machine.ConsoleSocket)
	if err != nil {
		return nil, nil, err
	}
	defer console.Close()
	m := &machine{console: &tail{}, gone: make(chan struct{})}
	if m.Machine, err = start(p.URI, p.Dir, confined(p)); err != nil {
		return nil, nil, err
	}
	if err := m.watch(p.URI); err != nil {
		return nil, nil, errors.Join(err, m.Destroy())
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
	if p.URI == vm.URIEmbed {
		go m.boundLog(filepath.Join(p.Dir, "log/qemu", p.Machine.Name+".log"))
	}
	return m, conn, nil
}

const (
	// logLimit is how much QEMU may have to say, in bytes, and logPause how often
	// its log is looked at.
	logLimit = 1 << 20
	logPause = 5 * time.Second
)

// boundLog keeps a guest that has QEMU complain about it without end from
// filling the host's /run. QEMU appends to the file: it may be emptied.
func (m *machine) boundLog(path string) {
	tick := time.NewTicker(logPause)
	defer tick.Stop()
	for {
		select {
		case <-m.gone:
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
func confined(p Plan) vm.Config {
	config := p.Machine
	if p.URI == vm.URIEmbed {
		config.EmulatorEnv = map[string]string{
			"VMRUNTIME_SHIM":  strconv.Itoa(os.Getpid()),
			"VMRUNTIME_PATHS": strings.Join(visible(p), ":"),
		}
	}
	return config
}

// visible is what QEMU may write to and, behind the empty one, what it may read.
// The control socket is not among them: a QEMU that a guest took over could put
// its own there and be handed the descriptors of the next exec.
func visible(p Plan) []string {
	m := p.Machine
	return []string{
		m.Share, filepath.Join(p.Dir, "lib"), "",
		m.Seed, m.AgentSocket, m.ConsoleSocket, m.Kernel, m.Initramfs,
	}
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
