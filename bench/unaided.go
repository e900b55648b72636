package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/runtime"
	"github.com/vmruntime/vmruntime/shim"
	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// An unaided container is one whose machine starts without vmruntime: everything that
// vmruntime prepares for it is ready before the clock starts.
type unaided struct {
	// Dir has the seed, the share and the sockets.
	Dir       string
	Container string
	Config    vm.Config
	// State is the template's; without one the machine boots.
	State string
	// machine is the command line of vmruntime's.
	machine machine
	group   *cgroup.Group
}

// prepareClones is for machines that are clones of the bundle's template.
func (l *lab) prepareClones(ctx context.Context, p program, bundle string) (*unaided, error) {
	u, plan, err := l.prepare(ctx, p, bundle)
	if err != nil {
		return nil, err
	}
	if u.machine.option("-incoming") == "" {
		return nil, errors.New("vmruntime does not start from its template: see vmruntime --debug run")
	}
	template := vm.Template{Dir: plan.Template}
	u.State = template.StateFile()
	u.Config.MemoryFile, u.Config.Clone, u.Config.Initramfs = template.MemoryFile(), true, ""
	return u, nil
}

// prepare has a container of the bundle's started, for its machine, and makes what
// another machine like it finds: its seed and its share.
func (l *lab) prepare(ctx context.Context, p program, bundle string) (*unaided, shim.Plan, error) {
	// Short, for libvirt has a socket below it.
	dir, err := os.MkdirTemp(l.dir, "c-")
	if err != nil {
		return nil, shim.Plan{}, err
	}
	plan, err := planOf(ctx, p, bundle, dir)
	if err != nil {
		return nil, shim.Plan{}, err
	}
	if err := vm.Mount(plan.Machine.Share, plan.Shares); err != nil {
		return nil, shim.Plan{}, err
	}
	l.later(func() error { return vm.Unmount(plan.Machine.Share) })
	if err := vm.WriteSeed(plan.Machine.Seed, vm.Seed{InstanceID: plan.Machine.UUID, Container: plan.Container}); err != nil {
		return nil, shim.Plan{}, err
	}
	c, m, err := l.example(ctx, p)
	if err != nil {
		return nil, shim.Plan{}, err
	}
	// Its paths become ours.
	was := filepath.Dir(pathOf(m, "/seed.iso"))
	for i, arg := range m {
		m[i] = strings.ReplaceAll(arg, was, dir)
	}
	config, err := withoutWrapper(plan.Machine)
	if err != nil {
		return nil, shim.Plan{}, err
	}
	u := &unaided{Dir: dir, Container: plan.ID, Config: config, machine: m, group: l.bare}
	return u, plan, c.discard()
}

// planOf is what vmruntime would do with the bundle, with its files in dir.
func planOf(ctx context.Context, p program, bundle, dir string) (shim.Plan, error) {
	config, err := runtime.LoadConfig(p.config, p.line[0])
	if err != nil {
		return shim.Plan{}, err
	}
	b, err := runtime.LoadBundle(bundle)
	if err != nil {
		return shim.Plan{}, err
	}
	image, err := guest.Open(config.Guest)
	if err != nil {
		return shim.Plan{}, err
	}
	proof, err := vm.NewProof(image.Kernel, image.Initramfs)
	if err != nil {
		return shim.Plan{}, err
	}
	verdict, err := vm.ProveKVM(ctx, proof)
	if err != nil {
		return shim.Plan{}, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return shim.Plan{}, os.NewSyscallError("sysinfo", err)
	}
	plan, err := runtime.Translate("bench", b, config, runtime.Host{
		Root: dir, CPUs: uint(goruntime.NumCPU()), Memory: info.Totalram * uint64(info.Unit),
		Accelerator: verdict.Accelerator, Guest: image, Firmware: vm.FindFirmware(verdict.Accelerator, config.LibvirtURI),
	})
	m := &plan.Machine
	m.Share, m.Seed = filepath.Join(dir, "share"), filepath.Join(dir, "seed.iso")
	// Here is no shim to make them.
	m.TapsMade = false
	m.AgentSocket, m.ConsoleSocket = filepath.Join(dir, "agent.sock"), filepath.Join(dir, "console.sock")
	return plan, err
}

// pathOf is the path in the machine's arguments that ends with end.
func pathOf(m machine, end string) string {
	for _, arg := range m {
		if i := strings.Index(arg, end); i >= 0 {
			return arg[strings.LastIndexAny(arg[:i], `"=`)+1 : i+len(end)]
		}
	}
	return ""
}

// bare is the container's run with QEMU alone.
func (u *unaided) bare(ctx context.Context) (time.Duration, error) {
	sockets, err := u.listen()
	if err != nil {
		return 0, err
	}
	defer sockets.close()
	cmd := exec.CommandContext(ctx, vm.QEMU, u.arguments()...)
	if u.State != "" {
		state, err := os.Open(u.State)
		if err != nil {
			return 0, err
		}
		defer state.Close()
		cmd.ExtraFiles = []*os.File{state}
	}
	cmd.SysProcAttr = dieWithUs()
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := launch(cmd, u.group); err != nil {
		return 0, err
	}
	// What waits for QEMU must not outlive it.
	stop := context.AfterFunc(ctx, sockets.close)
	defer func() {
		stop()
		// It ends by the signal, and only then.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if u.State != "" {
		if err := u.load(sockets); err != nil {
			return 0, err
		}
	}
	conn, err := sockets.agent.Accept()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = converse(ctx, conn, u.Container)
	return time.Since(begin), err
}

// stateFD is QEMU's descriptor of the state: the first of ExtraFiles.
const stateFD = 3

// load gives QEMU the state, as driver.Load does, and has it go on.
func (u *unaided) load(s sockets) error {
	conn, err := s.monitor.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	m, err := openMonitor(conn)
	if err != nil {
		return err
	}
	capabilities := []map[string]any{{"capability": "x-ignore-shared", "state": true}, {"capability": "events", "state": true}}
	if err := m.do("migrate-set-capabilities", map[string]any{"capabilities": capabilities}); err != nil {
		return err
	}
	if err := m.do("migrate-incoming", map[string]any{"uri": fmt.Sprintf("fd:%d", stateFD)}); err != nil {
		return err
	}
	if err := m.migrated(); err != nil {
		return err
	}
	return m.do("cont", nil)
}

// arguments are QEMU's, without what libvirt needs to govern it and with a monitor
// of ours.
func (u *unaided) arguments() []string {
	drop := map[string]int{"-name": 2, "-S": 1, "-mon": 2, "-sandbox": 2, "-no-shutdown": 1, "-msg": 2}
	var line []string
	for i := 1; i < len(u.machine); {
		n := drop[u.machine[i]]
		if i+1 < len(u.machine) && (strings.Contains(u.machine[i+1], "charmonitor") || strings.Contains(u.machine[i+1], "masterKey")) {
			n = 2
		}
		switch {
		case u.machine[i] == "-netdev":
			line = append(line, "-netdev", ownTap(u.machine[i+1]))
			n = 2
		case n == 0:
			line = append(line, u.machine[i])
			n = 1
		}
		i += n
	}
	return append(line, "-chardev", "socket,id=monitor,path="+u.monitorSocket(), "-mon", "chardev=monitor,mode=control")
}

// ownTap has QEMU make the tap that libvirt hands it as a descriptor.
func ownTap(netdev string) string {
	var tap struct{ ID string }
	if err := json.Unmarshal([]byte(netdev), &tap); err != nil {
		return netdev
	}
	return "tap,id=" + tap.ID + ",script=no,downscript=no"
}

func (u *unaided) monitorSocket() string { return filepath.Join(u.Dir, "monitor.sock") }

// sockets are those that QEMU connects to.
type sockets struct{ agent, console, monitor net.Listener }

func (u *unaided) listen() (s sockets, err error) {
	for _, socket := range []struct {
		to   *net.Listener
		path string
	}{{&s.agent, u.Config.AgentSocket}, {&s.console, u.Config.ConsoleSocket}, {&s.monitor, u.monitorSocket()}} {
		if *socket.to, err = net.Listen("unix", socket.path); err != nil {
			s.close()
			return s, err
		}
	}
	return s, nil
}

func (s sockets) close() {
	for _, l := range []net.Listener{s.agent, s.console, s.monitor} {
		if l != nil {
			l.Close()
		}
	}
}
