package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// serviceName is what the agent is called among a stock guest's services.
const serviceName = "vmruntime-agent"

// serve is what the seed has a stock guest's cloud-init call: it leaves the agent behind
// as a service of its own and returns, so that cloud-init can end.
func serve(file string) int {
	if err := startService(file); err != nil {
		fmt.Fprintf(os.Stderr, "vmagent: %v\n", err)
		return 1
	}
	return 0
}

func startService(file string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// As sd_booted(3) tells it.
	if _, err := os.Lstat("/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return startAlone(self, file)
	}
	out, err := exec.Command("systemd-run", unit(self, file)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemd-run: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unit is a service whose cgroup is the agent's to divide (systemd.resource-control(5),
// Delegate), and with which the machine ends, however it does.
func unit(self, file string) []string {
	args := []string{"--quiet", "--collect", "--unit=" + serviceName, "--description=vmruntime's agent"}
	for _, property := range []string{
		"Delegate=yes", "TasksMax=infinity", "LimitNPROC=infinity", fmt.Sprintf("LimitNOFILE=%d", maxFiles),
		// A container that runs out of memory is the container's affair.
		"OOMPolicy=continue",
		"SuccessAction=poweroff-immediate", "FailureAction=poweroff-immediate",
	} {
		args = append(args, "--property="+property)
	}
	return append(args, "--", self, serviceWord, file)
}

// startAlone is for another init: a session and a cgroup of the agent's own, beside the
// service that has called it.
func startAlone(self, file string) error {
	cmd := exec.Command(self, serviceWord, file)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if root := cgroupMount(); root != "" {
		enableControllers(root)
		own := filepath.Join(root, serviceName)
		if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cgroup: %w", err)
		}
		dir, err := os.Open(own)
		if err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// service is the agent of a stock guest. The machine ends with it.
func service(build, file string) int {
	err := attend(build, file)
	if err != nil {
		fmt.Fprintf(os.Stderr, "vmagent: %v\n", err)
	}
	powerOff()
	return 1
}

// attend answers the host until the channel ends. The guest's init has mounted and
// loaded what an agent that is PID 1 sees to itself.
func attend(build, file string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
	}
	if err := raiseLimits(); err != nil {
		return err
	}
	a := newAgent(build)
	if err := a.findHome(); err != nil {
		return err
	}
	if a.cgroupMount = cgroupMount(); a.cgroupMount != "" {
		own, err := ownCgroup(a.cgroupMount)
		if err != nil {
			return err
		}
		if a.cgroups, err = divide(own); err != nil {
			return err
		}
	}
	go a.reaper.run(context.Background())
	go a.seed(func() (*protocol.Container, error) { return loadContainer(file) })
	return a.serve()
}

// cgroupMount is the mount point of cgroup2, empty if there is none.
func cgroupMount() string {
	mounts, _ := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if len(mounts) == 0 {
		return ""
	}
	return mounts[0].Mountpoint
}

// ownCgroup is the cgroup2 of this process.
func ownCgroup(mount string) (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(mount, path), nil
		}
	}
	return "", errors.New("/proc/self/cgroup has no cgroup2")
}

// divide moves this process, the only one there, to a leaf of its cgroup and returns the
// place beside it where containers get theirs: a cgroup with processes hands no
// controllers on.
func divide(own string) (string, error) {
	leaf, containers := filepath.Join(own, "agent"), filepath.Join(own, "containers")
	for _, dir := range []string{leaf, containers} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("cgroup: %w", err)
		}
	}
	if err := writeFile(filepath.Join(leaf, "cgroup.procs"), "0"); err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	enableControllers(own)
	enableControllers(containers)
	return containers, nil
}

func loadContainer(file string) (*protocol.Container, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("first container: %w", err)
	}
	return parseContainer(text)
}

func parseContainer(text []byte) (*protocol.Container, error) {
	var config protocol.Container
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("first container: %w", err)
	}
	return &config, nil
}
