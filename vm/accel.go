package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// QEMU is the program that runs every machine, found in PATH.
const QEMU = "qemu-system-x86_64"

// verdictDir keeps what was found out about KVM, until the host boots anew.
const verdictDir = "/run/vmruntime-vm/accel"

// kvmDeadline is how long a guest may take under KVM to boot and power off; a
// sound host needs less than one second. A variable for the tests.
var kvmDeadline = 10 * time.Second

// Proof names what a verdict about KVM holds for: a host's KVM may run one
// kernel or QEMU and not another. All are absolute paths.
type Proof struct {
	QEMU      string
	Kernel    string
	Initramfs string
	// Dir is where verdicts are kept.
	Dir string
}

// NewProof is about a guest and the QEMU of this host; the error says that there
// is none.
func NewProof(kernel, initramfs string) (Proof, error) {
	qemu, err := exec.LookPath(QEMU)
	if err != nil {
		return Proof{}, fmt.Errorf("%s is not installed: see vmruntime check", QEMU)
	}
	return Proof{QEMU: qemu, Kernel: kernel, Initramfs: initramfs, Dir: verdictDir}, nil
}

// Verdict is the accelerator that guests run with, and why.
type Verdict struct {
	Accelerator Accelerator `json:"accelerator"`
	// Reason is a sentence for people.
	Reason string `json:"reason"`
}

// ProveKVM decides between KVM and TCG. That /dev/kvm opens proves little:
// there are machines where it opens and a guest then hangs. So the guest is
// booted once under KVM, with a deadline; the verdict is remembered for this
// boot of the host, and of several callers at once only one boots.
func ProveKVM(ctx context.Context, p Proof) (Verdict, error) {
	verdict, err := p.prove(ctx)
	if err != nil {
		return Verdict{}, fmt.Errorf("proof of KVM: %w", err)
	}
	return verdict, nil
}

// KnownVerdict gives a verdict that can be told without booting anything.
func KnownVerdict(p Proof) (Verdict, bool) {
	if err := openKVM(); err != nil {
		return noKVM(err), true
	}
	path, err := p.path()
	if err != nil {
		return Verdict{}, false
	}
	verdict, err := readVerdict(path)
	return verdict, err == nil
}

func (p Proof) prove(ctx context.Context) (Verdict, error) {
	if err := openKVM(); err != nil {
		return noKVM(err), nil
	}
	path, err := p.path()
	if err != nil {
		return Verdict{}, err
	}
	if verdict, err := readVerdict(path); err == nil {
		return verdict, nil
	}
	unlock, err := lockVerdicts(p.Dir)
	if err != nil {
		return Verdict{}, err
	}
	defer unlock()
	// Another process may have proved it while this one waited.
	if verdict, err := readVerdict(path); err == nil {
		return verdict, nil
	}
	verdict, err := p.boot(ctx)
	if err != nil {
		return Verdict{}, err
	}
	return verdict, writeVerdict(path, verdict)
}

// openKVM tells whether the device is there for us. A variable for the tests.
var openKVM = func() error {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return device.Close()
}

func noKVM(err error) Verdict {
	return Verdict{TCG, fmt.Sprintf("KVM cannot be used: %v", err)}
}

// path of the verdict: its name changes with the host's boot and with each of
// the files.
func (p Proof) path() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	key := sha256.New()
	fmt.Fprintf(key, "%s", boot)
	for _, name := range []string{p.QEMU, p.Kernel, p.Initramfs} {
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(key, "%q %d %d\n", name, info.Size(), info.ModTime().UnixNano())
	}
	return filepath.Join(p.Dir, fmt.Sprintf("%x.json", key.Sum(nil)[:12])), nil
}

// boot runs the guest once under KVM. The error says that nothing was learned.
func (p Proof) boot(ctx context.Context) (Verdict, error) {
	limited, cancel := context.WithTimeout(ctx, kvmDeadline)
	defer cancel()
	console, err := p.run(limited)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return Verdict{}, ctx.Err()
	case limited.Err() != nil:
		return Verdict{TCG, fmt.Sprintf("KVM is there, but a guest did not boot with it within %v", kvmDeadline)}, nil
	case errors.As(err, &exit):
		return Verdict{TCG, fmt.Sprintf("KVM is there, but QEMU failed with it: %v: %s", err, lastLine(console))}, nil
	case err != nil:
		return Verdict{}, err
	case !bytes.Contains(console, []byte("reboot: Power down")):
		// A triple fault ends QEMU with status 0, too.
		return Verdict{TCG, "KVM is there, but a guest that booted with it did not get to its end: " + lastLine(console)}, nil
	}
	return Verdict{KVM, "a guest booted with KVM"}, nil
}

// run gives what QEMU and the guest's console printed.
func (p Proof) run(ctx context.Context) ([]byte, error) {
	// The parent of PDEATHSIG is the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var console bytes.Buffer
	cmd := exec.CommandContext(ctx, p.QEMU,
		"-accel", "kvm", "-machine", "q35", "-cpu", "host", "-m", "256", "-smp", "1",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", p.Kernel, "-initrd", p.Initramfs, "-append", Cmdline(KVM, protocol.ProbeWord))
	cmd.Stdout = &limitedWriter{to: &console, left: 64 << 10}
	cmd.Stderr = cmd.Stdout
	// A QEMU that hangs in KVM must not outlive the proof.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return console.Bytes(), err
}

// limitedWriter drops what is over the limit: a guest may print for ever.
type limitedWriter struct {
	to   *bytes.Buffer
	left int
}

func (w *limitedWriter) Write(data []byte) (int, error) {
	n := min(len(data), w.left)
	w.left -= n
	w.to.Write(data[:n])
	return len(data), nil
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "it printed nothing"
}

func lockVerdicts(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Its holder is bound by the deadline, so this wait is, too.
	for {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
	}
	return func() { _ = lock.Close() }, nil
}

func readVerdict(path string) (Verdict, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return Verdict{}, err
	}
	var v Verdict
	if err := json.Unmarshal(body, &v); err != nil {
		return Verdict{}, err
	}
	if v.Accelerator != KVM && v.Accelerator != TCG {
		return Verdict{}, fs.ErrInvalid
	}
	return v, nil
}

func writeVerdict(path string, v Verdict) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := path + ".new" // under the lock there is one writer
	if err := os.WriteFile(temp, body, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
