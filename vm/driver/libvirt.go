// Package driver runs machines through libvirt. It is the only package that
// imports libvirt's C binding, which loads the library into every process that
// links it: the shim does, the short-lived commands do not.
package driver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/vmruntime/vmruntime/vm"
)

// The event loop is libvirt's one process-wide demand: an embedded driver
// talks to QEMU from it, and it has to run before the first connection.
var startEvents = sync.OnceValue(func() error {
	// An embedded libvirt logs warnings to stderr, about settings that are ours.
	if err := os.Setenv("LIBVIRT_DEBUG", "error"); err != nil {
		return err
	}
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	go func() {
		for libvirt.EventRunDefaultImpl() == nil {
		}
	}()
	return nil
})

// Boot connects to the libvirt driver at uri and starts a machine there. For
// vm.URIEmbed, root is an existing directory of the caller's own whose path is
// short, because libvirt puts sockets below it; QEMU becomes a child of the
// calling process then. A machine with a MemoryFile does not run yet: Save or Load
// comes next. Under vm.URISystem the machine ends with the process:
// its domain is destroyed with the connection. libvirt's calls cannot be
// interrupted.
func Boot(uri, root string, c vm.Config) (*Machine, error) {
	switch uri {
	case vm.URISystem:
		conn, err := connect(uri)
		if err != nil {
			return nil, err
		}
		return start(conn, c, libvirt.DOMAIN_START_AUTODESTROY, "/run/libvirt/qemu")
	case vm.URIEmbed:
		conn, err := embed(root)
		if err != nil {
			return nil, err
		}
		if err := probe(conn, c.Emulator, c.Accelerator); err != nil {
			return nil, err
		}
		// Not before the probe: it daemonizes a QEMU whose zombie libvirt would
		// wait for.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
		}
		return start(conn, c, 0, filepath.Join(root, "run/qemu"))
	}
	return nil, fmt.Errorf("libvirt_uri: %q is neither %s nor %s", uri, vm.URIEmbed, vm.URISystem)
}

func connect(uri string) (*libvirt.Connect, error) {
	if err := startEvents(); err != nil {
		return nil, fmt.Errorf("libvirt: event loop: %w", err)
	}
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, connectError(uri, err)
	}
	return conn, nil
}

// connectError says what to do where nobody listens.
func connectError(uri string, err error) error {
	var failed libvirt.Error
	if errors.As(err, &failed) && failed.Domain == libvirt.FROM_RPC && nobodyListens(failed.Message) {
		return fmt.Errorf("libvirt_uri: libvirtd does not listen for %s: start libvirtd, or set libvirt_uri to %q", uri, vm.URIEmbed)
	}
	return fmt.Errorf("libvirt %s: %w", uri, err)
}

// nobodyListens knows the C library's words for it.
func nobodyListens(message string) bool {
	return strings.HasSuffix(message, "No such file or directory") || strings.HasSuffix(message, "Connection refused")
}

// startError names what a machine has too much of.
func startError(c vm.Config, err error) error {
	var failed libvirt.Error
	if errors.As(err, &failed) && strings.Contains(failed.Message, "cannot set up guest memory") {
		return fmt.Errorf("the host does not give the machine %d MiB of memory: lower linux.resources.memory.limit or, without one, memory in config.toml", c.Memory>>20)
	}
	return fmt.Errorf("libvirt: start of domain %s: %w", c.Name, err)
}

func embed(root string) (*libvirt.Connect, error) {
	if err := prepareRoot(root); err != nil {
		return nil, fmt.Errorf("libvirt root %s: %w", root, err)
	}
	return connect(vm.URIEmbed + "?root=" + root)
}

// embeddedConf leaves to the shim and the emulator wrapper what libvirt would
// do for a shared host: cgroups, namespaces, capabilities, logging by a daemon.
const embeddedConf = `security_driver = "none"
cgroup_controllers = []
namespaces = []
clear_emulator_capabilities = 0
stdio_handler = "file"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
max_core = 0
`

func prepareRoot(root string) error {
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/qemu.conf"), []byte(embeddedConf), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(vm.CapabilityCache, 0o700); err != nil {
		return err
	}
	err := os.Symlink(vm.CapabilityCache, filepath.Join(root, "cache"))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// probe has libvirt learn what the emulator can do, or take it from the cache.
func probe(conn *libvirt.Connect, emulator string, a vm.Accelerator) error {
	if _, err := conn.GetDomainCapabilities(emulator, "x86_64", "q35", string(a), 0); err != nil {
		return fmt.Errorf("libvirt: probe of %s: %w", emulator, err)
	}
	return nil
}

// Probe has libvirt learn once what the emulator can do, so that no container
// waits for it. What it finds holds until the emulator or QEMU changes.
func Probe(emulator string, a vm.Accelerator) (err error) {
	root, err := os.MkdirTemp("/run", "vmruntime-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	conn, err := embed(root)
	if err != nil {
		return err
	}
	err = probe(conn, emulator, a)
	_, closed := conn.Close()
	return errors.Join(err, closed)
}

// A Machine is a running domain.
type Machine struct {
	pid    int
	conn   *libvirt.Connect
	domain *libvirt.Domain
}

// reapInterval is how often a QEMU that is being started is looked after.
const reapInterval = 50 * time.Millisecond

// start boots a transient domain, one that is gone as soon as it ends. pids is the
// directory of libvirt's pid files.
func start(conn *libvirt.Connect, c vm.Config, flags libvirt.DomainCreateFlags, pids string) (*Machine, error) {
	text, err := vm.DomainXML(c)
	if err != nil {
		return nil, err
	}
	if c.MemoryFile != "" {
		flags |= libvirt.DOMAIN_START_PAUSED
	}
	pidFile := filepath.Join(pids, c.Name+".pid")
	stop := reap(pidFile)
	domain, err := conn.DomainCreateXML(text, flags)
	stop()
	if err != nil {
		return nil, startError(c, err)
	}
	pid, err := readPID(pidFile)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("domain %s: %w", c.Name, err), domain.Destroy())
	}
	return &Machine{pid, conn, domain}, nil
}

// reap collects a QEMU that ends while it is being started, until stop is called.
// libvirt takes one for alive whose zombie is there, and would wait for its end
// for more than a minute. It is never another child: libvirt waits for those itself. Under
// libvirtd QEMU is not ours, and nothing happens.
func reap(pidFile string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if pid, err := readPID(pidFile); err == nil && pid > 0 {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
			select {
			case <-done:
				return
			case <-time.After(reapInterval):
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func readPID(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// PID is QEMU's.
func (m *Machine) PID() int { return m.pid }

// Pause stops the machine's CPUs.
func (m *Machine) Pause() error { return m.domain.Suspend() }

// Resume lets the machine's CPUs go on.
func (m *Machine) Resume() error { return m.domain.Resume() }

// Paused tells whether the CPUs stand still, whoever has stopped them.
func (m *Machine) Paused() (bool, error) {
	state, _, err := m.domain.GetState()
	return state == libvirt.DOMAIN_PAUSED, err
}

// Follow has changed called after each time that somebody has paused the machine or
// let it go on, also through another connection.
func (m *Machine) Follow(changed func()) error {
	_, err := m.conn.DomainEventLifecycleRegister(m.domain, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
		if e.Event == libvirt.DOMAIN_EVENT_SUSPENDED || e.Event == libvirt.DOMAIN_EVENT_RESUMED {
			// The event loop waits for nobody.
			go changed()
		}
	})
	return err
}

// Destroy ends the machine at once.
func (m *Machine) Destroy() error { return m.domain.Destroy() }
