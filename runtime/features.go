package runtime

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/vmruntime/vmruntime/internal/hook"
)

// Features is what engines ask before they write a config.json.
func Features(version, commit string) features.Features {
	yes, no := true, false
	return features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         hookNames(),
		MountOptions:  mountOptions,
		Linux: &features.Linux{
			Namespaces:   namespaceNames(),
			Capabilities: capabilities,
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no, Rdma: &no},
			Seccomp: &features.Seccomp{
				Enabled:        &yes,
				Actions:        sortedNames(seccompActions),
				Operators:      sortedNames(seccompOperators),
				Archs:          sortedNames(seccompArchitectures),
				KnownFlags:     sortedNames(seccompFlagBits),
				SupportedFlags: sortedNames(seccompFlagBits),
			},
			Apparmor:        &features.Apparmor{Enabled: &no},
			Selinux:         &features.Selinux{Enabled: &no},
			IntelRdt:        &features.IntelRdt{Enabled: &no, Schemata: &no, Monitoring: &no},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &no}},
			NetDevices:      &features.NetDevices{Enabled: &no},
		},
		Annotations: map[string]string{
			"org.vmruntime.version": version,
			"org.vmruntime.commit":  commit,
		},
		PotentiallyUnsafeConfigAnnotations: []string{},
	}
}

func hookNames() []string {
	var names []string
	for _, l := range append(hook.Host(&specs.Hooks{}), hook.Guest(&specs.Hooks{})...) {
		names = append(names, l.Name)
	}
	return names
}

// namespaceNames are those that a container can have for itself.
func namespaceNames() []string {
	names := []string{string(specs.CgroupNamespace), string(specs.UserNamespace), string(specs.TimeNamespace)}
	for _, r := range requiredNamespaces {
		names = append(names, string(r.namespace))
	}
	return slices.Sorted(slices.Values(names))
}

func sortedNames[K ~string, V any](m map[K]V) []string {
	var names []string
	for name := range maps.Keys(m) {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// mountOptions are those that are no file system's own.
var mountOptions = strings.Fields(`
	async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime
	noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime
	rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime
	rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable
	rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable`)

// capabilities are the kernel's.
var capabilities = strings.Fields(`
	CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_CHECKPOINT_RESTORE CAP_CHOWN
	CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER CAP_KILL CAP_LEASE
	CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BIND_SERVICE
	CAP_NET_BROADCAST CAP_NET_RAW CAP_PERFMON CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYSLOG
	CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE CAP_SYS_PACCT CAP_SYS_PTRACE
	CAP_SYS_RAWIO CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM`)
