package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A stage is this binary between fork and the execve of a container's process.
// It is born in the container's namespaces and cgroup, reads a stageConfig from
// descriptor 3, sets everything up and reports by single bytes.

// stageTitle begins the stage's argv[0], which is how it is told from the agent.
const stageTitle = "vmagent: "

const (
	controlFD = 3
	// joinFD is the first descriptor of the namespaces that an exec joins, or of
	// the mounts that init begins with.
	joinFD = 4
)

// What stage and agent say to each other.
const (
	saysWaiting  = 'W' // preforked stage: it waits for its descriptors
	saysFiles    = 'F' // agent: they come with this
	saysTerminal = 'T' // stage: the master comes with this
	saysReady    = 'R' // stage: init waits to be started
	saysError    = 'E' // stage: the rest is why it failed
	saysStart    = 'S' // agent: go on to execve
)

// stageConfig is a stage's work.
type stageConfig struct {
	Container protocol.Container `json:"container"`
	Process   *specs.Process     `json:"process"`
	// Personality is the container's, for all of its processes.
	Personality *specs.LinuxPersonality `json:"personality,omitempty"`
	// Exec is set for a further process in a container that exists.
	Exec bool `json:"exec,omitempty"`
	// Join are the kinds of namespaces whose descriptors begin at joinFD.
	Join []int `json:"join,omitempty"`
	// CgroupNS makes a cgroup namespace, from inside the container's cgroup.
	CgroupNS bool `json:"cgroupNS,omitempty"`
}

// IsStage tells whether this process is a stage. Its main goroutine must be
// locked to the main thread before main begins: namespaces, capabilities and
// filters belong to threads.
func IsStage() bool { return strings.HasPrefix(os.Args[0], stageTitle) }

// stageMain only returns if the container's process could not be executed.
func stageMain() int {
	runtime.LockOSThread()
	s, err := newStage()
	if err == nil {
		err = s.run()
	}
	if s != nil && s.started {
		// As with runc, whoever started the container is told by its output.
		_, _ = unix.Write(2, []byte(err.Error()+"\n"))
		return 255
	}
	_, _ = unix.Write(controlFD, append([]byte{saysError}, err.Error()...))
	return 1
}

type stage struct {
	stageConfig
	rootfs rootfs
	// loopback is set when lo is up already.
	loopback bool
	// started is set when init was told to go on to its execve.
	started bool
}

func newStage() (*stage, error) {
	// What the container can see of this process must give it nothing.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("prctl(PR_SET_DUMPABLE): %w", err)
	}
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close_range: %w", err)
	}
	slowMonitor()
	s := &stage{}
	if os.Args[0] == preforkTitle {
		if err := s.wait(); err != nil {
			return nil, err
		}
	}
	if err := protocol.ReadMessage(controlReader{}, protocol.MaxRequest*2, &s.stageConfig); err != nil {
		return nil, err
	}
	return s, nil
}

// controlReader reads the socket without a poller, of which a filtered or
// half-joined process can do without.
type controlReader struct{}

func (controlReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(controlFD, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n == 0 && err == nil && len(p) > 0 {
			err = errors.New("the agent is gone")
		}
		return max(n, 0), err
	}
}

func (s *stage) run() error {
	unix.Umask(0)
	heedSignals()
	setUp := s.setUpInit
	if s.Exec {
		setUp = s.setUpExec
	}
	if err := setUp(); err != nil {
		return err
	}
	name, env, err := s.finalize()
	if err != nil {
		return err
	}
	if !s.Exec {
		if err := s.waitForStart(); err != nil {
			return err
		}
		if err := s.runHooks(startContainer, specs.StateCreated, env); err != nil {
			return err
		}
		s.started = true
	}
	err = syscall.Exec(name, s.Process.Args, env)
	return &os.PathError{Op: "exec", Path: name, Err: err}
}

// heedSignals undoes the ignoring of signals that whoever started the agent left
// to it, as nohup does: only what is caught becomes the default with execve. The
// other signals Go catches by itself.
func heedSignals() {
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// setUpInit makes the container. The order is runc's, except for what is
// written to the guest's own /proc, which comes while that is still visible.
func (s *stage) setUpInit() error {
	spec := s.Container.Spec
	if s.CgroupNS {
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("cgroup namespace: %w", err)
		}
	}
	s.joinKeyring()
	if hasNamespace(spec, specs.NetworkNamespace) && !s.loopback {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if err := setSysctls(spec.Linux.Sysctl); err != nil {
		return err
	}
	if err := s.rootfs.prepare(spec); err != nil {
		return err
	}
	if err := s.runHooks(createContainer, specs.StateCreating, s.Process.Env); err != nil {
		return err
	}
	if s.Process.Cwd != "" {
		if err := os.MkdirAll(s.Process.Cwd, 0o755); err != nil {
			return fmt.Errorf("process.cwd: %w", err)
		}
	}
	if s.Process.Terminal {
		if err := s.openTerminal(true); err != nil {
			return err
		}
	}
	if err := s.rootfs.finish(spec); err != nil {
		return err
	}
	return setNames(spec)
}

// setUpExec enters the container.
func (s *stage) setUpExec() error {
	s.joinKeyring()
	if err := join(s.Join, joinFD); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	if s.Process.Terminal {
		return s.openTerminal(false)
	}
	return nil
}

// joinKeyring gives the container a session keyring of its own. It is done on a
// best effort, like runc does it.
func (s *stage) joinKeyring() {
	_, _ = unix.KeyctlJoinSessionKeyring("_ses." + s.Container.ID)
}

func setNames(spec *specs.Spec) error {
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("hostname: %w", err)
		}
	}
	if spec.Domainname != "" {
		if err := unix.Setdomainname([]byte(spec.Domainname)); err != nil {
			return fmt.Errorf("domainname: %w", err)
		}
	}
	return nil
}

// setSysctls writes to the guest's own /proc, where net, ipc and uts settings
// are those of the writer's namespaces.
func setSysctls(sysctls map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if err := writeFile(sysctlPath(key), sysctls[key]); err != nil {
			return fmt.Errorf("linux.sysctl: %s: %w", key, err)
		}
	}
	return nil
}

// sysctlPath reads a name as sysctl(8) does: the first separator is the separator,
// and the other one part of a name (net.ipv4.conf.eth0/1.forwarding).
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		key = strings.NewReplacer(".", "/", "/", ".").Replace(key)
	}
	return "/proc/sys/" + key
}

func hasNamespace(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// waitForStart holds init before its execve. Nothing but read and write is used
// from here on, as a filter may be loaded, unless there are hooks.
func (s *stage) waitForStart() error {
	if _, err := unix.Write(controlFD, []byte{saysReady}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if _, err := (controlReader{}).Read(make([]byte, 1)); err != nil {
		return err
	}
	return nil
}
