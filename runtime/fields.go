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

	{"root.path", supported, "absolute or relative to the bundle; shared with the VM, mounts below it included"},
	{"root.readonly", supported, "made read-only inside the VM"},

	{"mounts[].destination", supported, "absolute; symlinks are resolved inside the root"},
	{"mounts[].type", supported, "what the guest's kernel has; a bind mount's source is shared with the VM"},
	{"mounts[].source", supported, "of a bind mount: a file or directory; sockets, pipes and devices of the host are refused"},
	{"mounts[].options", supported, "`ro` and `rro` binds are read-only on the host as well"},
	{"mounts[].uidMappings", refused, "id-mapped mounts cannot cross into a VM yet: remove the mapping"},
	{"mounts[].gidMappings", refused, "id-mapped mounts cannot cross into a VM yet: remove the mapping"},

	{"process.terminal", supported, "with --console-socket, or the caller's terminal"},
	{"process.consoleSize", supported, ""},
	{"process.cwd", supported, "absolute"},
	{"process.env", supported, ""},
	{"process.args", supported, ""},
	{"process.commandLine", ignored, "for Windows"},
	{"process.user", supported, ""},
	{"process.user.username", ignored, "for Windows"},
	{"process.capabilities", supported, ""},
	{"process.rlimits", supported, ""},
	{"process.noNewPrivileges", supported, ""},
	{"process.oomScoreAdj", supported, "in the guest, where it orders the container's processes"},
	{"process.apparmorProfile", ignored, "the guest's kernel runs no AppArmor; a warning says so"},
	{"process.selinuxLabel", ignored, "the guest's kernel runs no SELinux; a warning says so"},
	{"process.scheduler", supported, "in the guest"},
	{"process.ioPriority", supported, "in the guest"},
	{"process.execCPUAffinity", refused, "CPU affinity cannot cross into a VM: remove process.execCPUAffinity"},

	{"hostname", supported, ""},
	{"domainname", supported, ""},
	{"annotations", supported, "shown by state and in the libvirt domain's metadata"},

	{"hooks.prestart", supported, "on the host, in create, with the container's network namespace made"},
	{"hooks.createRuntime", supported, "on the host, in create, with the container's network namespace made"},
	{"hooks.createContainer", refused, "a hook inside the container's namespaces cannot run in a VM yet: use hooks.createRuntime"},
	{"hooks.startContainer", refused, "a hook inside the container's namespaces cannot run in a VM yet: use hooks.createRuntime"},
	{"hooks.poststart", supported, "on the host"},
	{"hooks.poststop", supported, "on the host"},

	{"linux.uidMappings", refused, "user namespaces cannot cross into a VM yet: remove the mapping"},
	{"linux.gidMappings", refused, "user namespaces cannot cross into a VM yet: remove the mapping"},
	{"linux.namespaces[].type", supported, "pid, mount, ipc, uts and network must be there; time is left to the VM's own clock; unknown ones are ignored"},
	{"linux.namespaces[].path", refused, "only a network namespace can be joined by path; that of the host is refused"},
	{"linux.devices", supported, "devices that the guest's kernel has (null, zero, tty, fuse, net/tun, ...); others are refused, or left out of a privileged container"},
	{"linux.cgroupsPath", ignored, "the VM's own cgroup on the host is not made yet; inside, the container is at the root of its cgroup namespace"},
	{"linux.sysctl", supported, "in the guest"},
	{"linux.rootfsPropagation", supported, "inside the VM; nothing propagates to the host"},
	{"linux.maskedPaths", supported, ""},
	{"linux.readonlyPaths", supported, ""},
	{"linux.mountLabel", ignored, "the guest's kernel runs no SELinux; a warning says so"},
	{"linux.netDevices", refused, "a network device of the host cannot be moved into a VM: remove linux.netDevices"},
	{"linux.intelRdt", refused, "cache and bandwidth classes of the host's CPU cannot cross into a VM: remove linux.intelRdt"},
	{"linux.memoryPolicy", refused, "NUMA policies of the host cannot cross into a VM: remove linux.memoryPolicy"},
	{"linux.personality", refused, "execution domains cannot cross into a VM yet: remove linux.personality"},
	{"linux.timeOffsets", refused, "clock offsets cannot cross into a VM yet: remove linux.timeOffsets"},

	{"linux.seccomp", supported, "compiled on the host, loaded inside"},
	{"linux.seccomp.flags", supported, "TSYNC is implied; WAIT_KILLABLE_RECV is refused"},
	{"linux.seccomp.listenerPath", refused, "a seccomp listener of the host cannot see system calls inside a VM: remove linux.seccomp.listenerPath"},
	{"linux.seccomp.listenerMetadata", refused, "a seccomp listener of the host cannot see system calls inside a VM: remove linux.seccomp.listenerMetadata"},
	{"linux.seccomp.syscalls[].action", supported, "all but SCMP_ACT_NOTIFY, which is refused"},

	{"linux.resources.devices", ignored, "no device of the host is in the VM; of the guest's, the container gets those of linux.devices"},
	{"linux.resources.memory.limit", supported, "decides the VM's RAM, and is the limit inside"},
	{"linux.resources.memory", supported, "in the guest, as far as cgroup v2 has it"},
	{"linux.resources.cpu.quota", supported, "with period decides the number of virtual CPUs, and is the limit inside"},
	{"linux.resources.cpu.cpus", supported, "bounds the number of virtual CPUs; which CPUs of the host they run on is the host's choice"},
	{"linux.resources.cpu.mems", ignored, "the VM has one memory node"},
	{"linux.resources.cpu", supported, "in the guest, as far as cgroup v2 has it"},
	{"linux.resources.pids", supported, "in the guest"},
	{"linux.resources.blockIO", ignored, "the VM has no block device of the container's"},
	{"linux.resources.hugepageLimits", ignored, "the guest has no huge pages to hand out"},
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
