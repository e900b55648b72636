package runtime

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// support is what becomes of a field of config.json.
type support string

const (
	supported support = "supported"
	refused   support = "refused"
	ignored   support = "ignored"
)

// A field of config.json. A name stands for all below it that have no entry of
// their own; "[]" is any element of a list. The remark of a refused field is the
// end of the error; docs/config-json.md is made of this table.
type field struct {
	name    string
	support support
	remark  string
}

// fields is every field of the specification's config.json that is about Linux.
var fields = []field{
	{"ociVersion", supported, "any 1.x"},

	{"root.path", supported, "absolute or relative to the bundle; shared with the VM, mounts below it included, or on disks ([block.md](block.md))"},
	{"root.readonly", supported, "made read-only inside the VM"},

	{"mounts[].destination", supported, "absolute; symlinks are resolved inside the root; the path of the root on the host is taken off its beginning, as runc does"},
	{"mounts[].type", supported, "what the guest's kernel has, `cgroup` being cgroup2; a bind mount's source is shared with the VM; an overlay is refused, for its directories are the host's"},
	{"mounts[].source", supported, "of a bind mount: a file or directory, also one that an earlier mount has put into the root; sockets, pipes and devices of the host are refused"},
	{"mounts[].options", supported, "`ro` and `rro` binds are read-only on the host as well"},
	{"mounts[].uidMappings", refused, "neither 9p nor virtiofs maps ids in a VM: remove the mapping, and let the files on the host have the ids of the user namespace"},
	{"mounts[].gidMappings", refused, "neither 9p nor virtiofs maps ids in a VM: remove the mapping, and let the files on the host have the ids of the user namespace"},

	{"process.terminal", supported, "with --console-socket, or the caller's terminal"},
	{"process.consoleSize", supported, ""},
	{"process.cwd", supported, "absolute; made where it is missing, not for an exec"},
	{"process.env", supported, ""},
	{"process.args", supported, ""},
	{"process.commandLine", ignored, "for Windows"},
	{"process.user", supported, ""},
	{"process.user.username", ignored, "for Windows"},
	{"process.capabilities", supported, "one that nobody knows is left out; a warning says so"},
	{"process.rlimits", supported, ""},
	{"process.noNewPrivileges", supported, ""},
	{"process.oomScoreAdj", supported, "in the guest, where it orders the container's processes, and of the VM on the host, as far as that allows"},
	{"process.apparmorProfile", ignored, "the guest's kernel runs no AppArmor; a warning says so"},
	{"process.selinuxLabel", ignored, "the guest's kernel runs no SELinux; a warning says so"},
	{"process.scheduler", supported, "in the guest"},
	{"process.ioPriority", supported, "in the guest"},
	{"process.execCPUAffinity", supported, "the CPUs are those of the VM; `final` counts, or `initial` where there is none"},

	{"hostname", supported, ""},
	{"domainname", supported, ""},
	{"annotations", supported, "shown by state and in the libvirt domain's metadata, `org.vmruntime.libvirt.metadata` as an element of its own; `org.vmruntime.guest` chooses the guest as [base-image.md](base-image.md) says, `org.vmruntime.rootfs` and `org.vmruntime.rootfs.size` choose as [block.md](block.md) says; a warning names others that begin with `org.vmruntime.`"},

	{"hooks.prestart", supported, "on the host, in create, with the container's network namespace made"},
	{"hooks.createRuntime", supported, "on the host, in create, with the container's network namespace made"},
	{"hooks.createContainer", supported, "in the VM, in the container's namespaces and root, once its mounts are made"},
	{"hooks.startContainer", supported, "in the VM, as the container's process right before it is executed"},
	{"hooks.poststart", supported, "on the host"},
	{"hooks.poststop", supported, "on the host"},

	{"linux.uidMappings", supported, "in the guest, whose ids are those of the host's files; the root filesystem is not shifted"},
	{"linux.gidMappings", supported, "in the guest, whose ids are those of the host's files; the root filesystem is not shifted"},
	{"linux.namespaces[].type", supported, "pid, mount, ipc, uts and network must be there; without cgroup the container sees the guest's whole hierarchy; time is made where linux.timeOffsets ask for it; unknown ones are ignored"},
	{"linux.namespaces[].path", refused, "only a network namespace can be joined by path; that of the host is refused"},
	{"linux.devices", supported, "block devices of the host are disks of the VM ([devices.md](devices.md)); character devices are those of the guest's kernel (null, zero, tty, fuse, net/tun, ...) and numbers that nobody has; others of the host are refused, and all of them are left out of a privileged container"},
	{"linux.cgroupsPath", supported, "the host's cgroup of shim and VM, see [cgroups.md](cgroups.md); inside, the container is at the root of its cgroup namespace"},
	{"linux.sysctl", supported, "in the guest, those without a namespace as well: the kernel is the container's own"},
	{"linux.rootfsPropagation", supported, "inside the VM; nothing propagates to the host"},
	{"linux.maskedPaths", supported, ""},
	{"linux.readonlyPaths", supported, ""},
	{"linux.mountLabel", ignored, "the guest's kernel runs no SELinux; a warning says so"},
	{"linux.netDevices", refused, "a network device of the host cannot be moved into a VM: remove linux.netDevices"},
	{"linux.intelRdt", refused, "cache and bandwidth classes of the host's CPU cannot cross into a VM: remove linux.intelRdt"},
	{"linux.memoryPolicy", refused, "NUMA policies of the host cannot cross into a VM: remove linux.memoryPolicy"},
	{"linux.personality", supported, "in the guest"},
	{"linux.personality.flags", refused, "the specification has none: remove linux.personality.flags"},
	{"linux.timeOffsets", supported, "in the guest"},

	{"linux.seccomp", supported, "compiled on the host, loaded inside"},
	{"linux.seccomp.flags", supported, "TSYNC is implied; WAIT_KILLABLE_RECV is refused"},
	{"linux.seccomp.listenerPath", refused, "a seccomp listener of the host cannot see system calls inside a VM: remove linux.seccomp.listenerPath"},
	{"linux.seccomp.listenerMetadata", refused, "a seccomp listener of the host cannot see system calls inside a VM: remove linux.seccomp.listenerMetadata"},
	{"linux.seccomp.syscalls[].action", supported, "all but SCMP_ACT_NOTIFY, which is refused"},

	{"linux.resources.devices", supported, "in the guest, whose devices they are about; as with runc the default devices and terminals are always allowed"},
	{"linux.resources.memory.limit", supported, "decides the VM's RAM, which without it is `memory` of [config.toml](config.toml), 1024 MiB, and is the limit inside; with the VM's overhead on the host"},
	{"linux.resources.memory", supported, "in the guest, as far as cgroup v2 has it; with the VM's overhead on the host"},
	{"linux.resources.memory.kernel", ignored, "obsolete"},
	{"linux.resources.memory.kernelTCP", ignored, "obsolete"},
	{"linux.resources.memory.disableOOMKiller", ignored, "a VM that waits for memory would wait with all that the container does not own"},
	{"linux.resources.cpu.quota", supported, "with period decides the number of virtual CPUs, and is the limit inside and, from start on, on the host"},
	{"linux.resources.cpu.cpus", supported, "where the VM runs on the host; bounds the number of virtual CPUs"},
	{"linux.resources.cpu.mems", supported, "on the host; the VM has one memory node"},
	{"linux.resources.cpu.realtimeRuntime", ignored, "the VM's threads are not scheduled in real time"},
	{"linux.resources.cpu.realtimePeriod", ignored, "the VM's threads are not scheduled in real time"},
	{"linux.resources.cpu", supported, "in the guest, as far as cgroup v2 has it, and on the host"},
	{"linux.resources.pids", supported, "in the guest; with what the VM's own threads need on the host"},
	{"linux.resources.blockIO", supported, "on the host, for what the VM reads and writes there"},
	{"linux.resources.hugepageLimits", supported, "in the guest, for the page sizes that its kernel has"},
	{"linux.resources.network", ignored, "net_cls and net_prio belong to the host's cgroup v1"},
	{"linux.resources.rdma", refused, "RDMA devices of the host cannot cross into a VM: remove linux.resources.rdma"},
	{"linux.resources.unified", supported, "in the guest"},

	{"solaris", ignored, "for Solaris"},
	{"windows", ignored, "for Windows"},
	{"vm", refused, "the machine is made from vmruntime's own configuration: remove vm"},
	{"zos", ignored, "for z/OS"},
	{"freebsd", ignored, "for FreeBSD"},
}

// checkFields refuses what the table refuses, wherever it is set.
func checkFields(spec *specs.Spec) error {
	for _, f := range fields {
		if f.support != refused || f.name == "linux.namespaces[].path" {
			continue
		}
		if at := find(reflect.ValueOf(spec), "", f.name); at != "" {
			return fmt.Errorf("%s: %s", at, f.remark)
		}
	}
	return nil
}

// find looks for a field of that name that is set, and returns its place with
// the index of each list.
func find(v reflect.Value, at, name string) string {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if name == "" {
		if !v.IsValid() || v.IsZero() || isEmptyList(v) {
			return ""
		}
		return at
	}
	if !v.IsValid() {
		return ""
	}
	if rest, ok := strings.CutPrefix(name, "[]"); ok {
		for i := range v.Len() {
			if found := find(v.Index(i), fmt.Sprintf("%s[%d]", at, i), strings.TrimPrefix(rest, ".")); found != "" {
				return found
			}
		}
		return ""
	}
	key, rest := splitName(name)
	member := jsonField(v, key)
	if !member.IsValid() {
		return ""
	}
	return find(member, strings.TrimPrefix(at+"."+key, "."), rest)
}

func isEmptyList(v reflect.Value) bool {
	return (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

// splitName takes the first key off a name.
func splitName(name string) (key, rest string) {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		return name, ""
	}
	return name[:end], strings.TrimPrefix(name[end:], ".")
}

func jsonField(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if jsonName(v.Type().Field(i)) == key {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
