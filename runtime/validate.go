package runtime

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/hook"
	"github.com/vmruntime/vmruntime/vm"
)

// hostNetns is the network namespace that no container may be given.
const hostNetns = "/proc/1/ns/net"

// Validate refuses what cannot cross into a VM. Nothing is left out silently:
// what is not refused is done, or is one of the ignored fields of the table.
func (b Bundle) Validate() error {
	checks := []func(*specs.Spec) error{
		checkFields, checkPod, checkMetadata, checkGuestName, checkRequiredNamespaces, checkNamespacePaths, checkUsers, checkClocks, checkPersonality, checkAffinity,
		checkMountKinds, checkSeccomp, checkDevices, checkDeviceRules, checkHooks, checkSysctl, checkRlimits, checkResources,
	}
	for _, check := range checks {
		if err := check(b.Spec); err != nil {
			return fmt.Errorf("%s: %w", specFile, err)
		}
	}
	return nil
}

// Warnings are about what is not done although it was meant to protect or to allow.
func (b Bundle) Warnings() []string {
	c := b.Spec.Process.Capabilities
	return slices.Concat(capabilityWarnings(c), ambientWarnings(c), labelWarnings(b.Spec), annotationWarnings(b.Spec.Annotations))
}

func labelWarnings(s *specs.Spec) []string {
	var ignored []string
	if s.Process.ApparmorProfile != "" {
		ignored = append(ignored, "process.apparmorProfile")
	}
	if s.Process.SelinuxLabel != "" {
		ignored = append(ignored, "process.selinuxLabel")
	}
	if s.Linux != nil && s.Linux.MountLabel != "" {
		ignored = append(ignored, "linux.mountLabel")
	}
	if len(ignored) == 0 {
		return nil
	}
	return []string{strings.Join(ignored, ", ") + " ignored: the guest's kernel runs no AppArmor or SELinux, the VM confines the container"}
}

// checkPod refuses a container that Kubernetes wants in the VM of its pod.
func checkPod(s *specs.Spec) error {
	if s.Annotations["io.kubernetes.cri.container-type"] != "container" {
		return nil
	}
	return fmt.Errorf("annotations: this is a container of pod %s, and several containers in one VM are not supported yet: give the pod another runtime class",
		s.Annotations["io.kubernetes.cri.sandbox-id"])
}

// ownAnnotations are all that mean something to us.
var ownAnnotations = []string{GuestAnnotation, vm.MetadataAnnotation, rootfsAnnotation, rootfsSizeAnnotation}

// annotationWarnings name misspelt ones. The specification forbids to refuse them
// (config.md, Annotations).
func annotationWarnings(annotations map[string]string) []string {
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(name, "org.vmruntime.") && !slices.Contains(ownAnnotations, name) {
			warnings = append(warnings, fmt.Sprintf("annotations: %s ignored: it is none of %s", name, strings.Join(ownAnnotations, ", ")))
		}
	}
	return warnings
}

func checkMetadata(s *specs.Spec) error {
	if err := vm.CheckMetadata(s.Annotations[vm.MetadataAnnotation]); err != nil {
		return fmt.Errorf("annotations: %s: %w", vm.MetadataAnnotation, err)
	}
	return nil
}

// A container in a VM has these for itself, whether it wants to or not.
var requiredNamespaces = []struct {
	namespace specs.LinuxNamespaceType
	remedy    string
}{
	{specs.NetworkNamespace, `a VM cannot share the host's network: add {"type":"network"}, or remove --network host`},
	{specs.PIDNamespace, `a VM cannot share the host's processes: add {"type":"pid"}, or remove --pid host`},
	{specs.IPCNamespace, `a VM cannot share the host's IPC: add {"type":"ipc"}, or remove --ipc host`},
	{specs.UTSNamespace, `a VM cannot share the host's name: add {"type":"uts"}, or remove --uts host`},
	{specs.MountNamespace, `a VM cannot share the host's mounts: add {"type":"mount"}`},
}

func checkRequiredNamespaces(s *specs.Spec) error {
	for _, r := range requiredNamespaces {
		if _, ok := namespace(s, r.namespace); !ok {
			return fmt.Errorf("linux.namespaces: %s", r.remedy)
		}
	}
	return nil
}

// namespaceOptions are those by which engines give a namespace a path.
var namespaceOptions = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "--pid or --pod", specs.IPCNamespace: "--ipc or --pod", specs.UTSNamespace: "--uts or --pod",
	specs.UserNamespace: "--userns or --pod", specs.CgroupNamespace: "--cgroupns or --pod",
	specs.MountNamespace: "the path", specs.TimeNamespace: "the path",
}

func checkNamespacePaths(s *specs.Spec) error {
	for i, ns := range s.Linux.Namespaces {
		name := fmt.Sprintf("linux.namespaces[%d]", i)
		option, known := namespaceOptions[ns.Type]
		switch {
		case ns.Path == "":
			continue
		case ns.Type == specs.NetworkNamespace:
			if err := checkNetns(ns.Path); err != nil {
				return fmt.Errorf("%s.path: %w", name, err)
			}
		case known:
			return fmt.Errorf("%s.path: a VM cannot join the %s namespace %s of the host or of another container: remove %s", name, ns.Type, ns.Path, option)
		}
	}
	return nil
}

// checkNetns refuses the host's own network namespace, under whatever name: a
// VM that took over its interfaces would take the host off the network.
func checkNetns(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s %s", path, reason(err))
	}
	for _, host := range []string{hostNetns, "/proc/self/ns/net"} {
		if own, err := os.Stat(host); err == nil && os.SameFile(own, info) {
			return errors.New("a VM cannot share the host's network: remove --network host")
		}
	}
	if own, err := os.Stat("/proc/self/ns/net"); err == nil && own.Sys().(*syscall.Stat_t).Dev != info.Sys().(*syscall.Stat_t).Dev {
		return fmt.Errorf("%s is not a network namespace", path)
	}
	return nil
}

func namespace(s *specs.Spec, kind specs.LinuxNamespaceType) (specs.LinuxNamespace, bool) {
	if s.Linux == nil {
		return specs.LinuxNamespace{}, false
	}
	i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	if i < 0 {
		return specs.LinuxNamespace{}, false
	}
	return s.Linux.Namespaces[i], true
}

func checkSeccomp(s *specs.Spec) error {
	if s.Linux.Seccomp == nil {
		return nil
	}
	if _, _, err := compileSeccomp(s.Linux.Seccomp); err != nil {
		return fmt.Errorf("linux.seccomp.%w", err)
	}
	return nil
}

// checkHooks finds what would make a hook fail for reasons of its own.
func checkHooks(s *specs.Spec) error {
	if s.Hooks == nil {
		return nil
	}
	for _, h := range append(hook.Host(s.Hooks), hook.Guest(s.Hooks)...) {
		for i, hook := range h.Hooks {
			name := fmt.Sprintf("hooks.%s[%d]", h.Name, i)
			switch {
			case !strings.HasPrefix(hook.Path, "/"):
				return fmt.Errorf("%s.path: %q must be absolute", name, hook.Path)
			case hook.Timeout != nil && *hook.Timeout <= 0:
				return fmt.Errorf("%s.timeout: %d must be more than 0 seconds", name, *hook.Timeout)
			}
		}
	}
	return nil
}

// checkSysctl refuses what the guest would take for settings of the whole VM
// in a way that the container could not tell; the rest is the agent's to set.
func checkSysctl(s *specs.Spec) error {
	for key := range s.Linux.Sysctl {
		if key == "" || strings.Contains(key, "..") {
			return fmt.Errorf("linux.sysctl: %q is not the name of a sysctl", key)
		}
		if dotted := strings.ReplaceAll(key, "/", "."); dotted == "kernel.hostname" {
			return errors.New("linux.sysctl: kernel.hostname must be set by hostname")
		}
	}
	return nil
}

var rlimitNames = strings.Fields("AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK")

func checkRlimits(s *specs.Spec) error {
	for i, r := range s.Process.Rlimits {
		name, ok := strings.CutPrefix(r.Type, "RLIMIT_")
		switch {
		case !ok || !slices.Contains(rlimitNames, name):
			return fmt.Errorf("process.rlimits[%d].type: %q is not the name of a limit", i, r.Type)
		case r.Soft > r.Hard:
			return fmt.Errorf("process.rlimits[%d]: soft limit %d is above the hard limit %d", i, r.Soft, r.Hard)
		}
	}
	return nil
}
