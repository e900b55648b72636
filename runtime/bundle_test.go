package runtime

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A testBundle is config.json around the part that a test is about.
func testBundle(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, specFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

const (
	validRoot       = `"root":{"path":"rootfs"}`
	validProcess    = `"process":{"user":{"uid":0,"gid":0},"args":["true"],"cwd":"/"}`
	validNamespaces = `{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}`
	validLinux      = `"linux":{"namespaces":[` + validNamespaces + `]}`
	validConfig     = `{"ociVersion":"1.0.2",` + validRoot + `,` + validProcess + `,` + validLinux + `}`
)

// with is a valid config.json with one member more or another one.
func with(member string) string {
	members := []string{`"ociVersion":"1.0.2"`, validRoot, validProcess, validLinux}
	name, _, _ := strings.Cut(member, ":")
	for i, m := range members {
		if strings.HasPrefix(m, name+":") {
			members[i] = member
			return "{" + strings.Join(members, ",") + "}"
		}
	}
	return "{" + strings.Join(append(members, member), ",") + "}"
}

func without(name string) string {
	return strings.NewReplacer(
		name+",", "", `,`+name, "").Replace(validConfig)
}

// linux is a valid config.json with one member more below linux.
func linux(member string) string {
	return with(`"linux":{"namespaces":[` + validNamespaces + `],` + member + `}`)
}

// linuxWith has one namespace more as well.
func linuxWith(namespace, member string) string {
	return with(`"linux":{"namespaces":[` + validNamespaces + "," + namespace + `],` + member + `}`)
}

func process(member string) string {
	return with(`"process":{"args":["true"],"cwd":"/",` + member + `}`)
}

// argsOf has n long arguments for the program.
func argsOf(n, length int) string {
	return with(`"process":{"args":["true"` + strings.Repeat(`,"`+strings.Repeat("x", length)+`"`, n) + `],"cwd":"/"}`)
}

func namespaces(list string) string { return with(`"linux":{"namespaces":[` + list + `]}`) }

func TestBrokenBundles(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ config, want string }{
		"empty":            {"", `config.json is empty: it must be a JSON object`},
		"not JSON":         {"{\n  \"ociVersion\": }", `config.json line 2, column 17: not JSON: invalid character '}' looking for beginning of value`},
		"cut off":          {`{"ociVersion":"1.0.2"`, `config.json line 1, column 21: not JSON: unexpected end of JSON input`},
		"trailing garbage": {validConfig + " x", `config.json line 1, column 218: not JSON: invalid character 'x' after top-level value`},
		"two objects":      {"{}\n{}", `config.json line 2, column 1: not JSON: invalid character '{' after top-level value`},
		"array":            {"[]", `config.json line 1, column 1: it must be an object, not an array`},
		"string":           {`"x"`, `config.json line 1, column 3: it must be an object, not a string`},
		"null":             {`null`, `config.json: it must be a JSON object, not null`},

		"args of another type":   {with(`"process":{"args":"true","cwd":"/"}`), `config.json line 1, column 71: process.args must be an array, not a string`},
		"negative uid":           {process(`"user":{"uid":-1,"gid":0}`), `config.json line 1, column 100: process.user.uid must be a whole number of 32 bits that is not negative, not -1`},
		"uid too large":          {process(`"user":{"uid":4294967296,"gid":0}`), `config.json line 1, column 108: process.user.uid must be a whole number of 32 bits that is not negative, not 4294967296`},
		"terminal of a string":   {process(`"terminal":"yes"`), `config.json line 1, column 100: process.terminal must be true or false, not a string`},
		"annotation of a number": {with(`"annotations":{"b":"x: ","a":5}`), `config.json line 1, column 246: annotations.a must be a string, not a number`},
		"args of a number":       {process(`"env":["a",1]`), `config.json line 1, column 96: process.env must be a string, not a number`},
		"root of an array":       {with(`"root":[]`), `config.json line 1, column 30: root must be an object, not an array`},
		"mounts of an object":    {with(`"mounts":{}`), `config.json line 1, column 226: mounts must be an array, not an object`},

		"oom score":           {process(`"oomScoreAdj":5000`), `config.json: process.oomScoreAdj: 5000 must be -1000 to 1000`},
		"no version":          {without(`"ociVersion":"1.0.2"`), `config.json: ociVersion is missing: it must be 1.x, such as 1.3.0`},
		"version of tomorrow": {with(`"ociVersion":"2.0.0"`), `config.json: ociVersion: "2.0.0" is not supported: it must be 1.x, such as 1.3.0`},
		"version in words":    {with(`"ociVersion":"one"`), `config.json: ociVersion: "one" is not supported: it must be 1.x, such as 1.3.0`},
		"no root":             {without(validRoot), `config.json: root is missing: it must name the root filesystem in root.path`},
		"no root.path":        {with(`"root":{}`), `config.json: root.path is missing: it must name the root filesystem`},
		"no process":          {without(validProcess), `config.json: process is missing: it must name the program in process.args`},
		"no args":             {with(`"process":{"cwd":"/"}`), `config.json: process.args must not be empty: it must name the program to run`},
		"empty args":          {with(`"process":{"cwd":"/","args":[]}`), `config.json: process.args must not be empty: it must name the program to run`},
		"empty program":       {with(`"process":{"cwd":"/","args":[""]}`), `config.json: process.args[0] must not be empty: it must name the program to run`},
		"no cwd":              {with(`"process":{"args":["true"]}`), `config.json: process.cwd is missing: it must be an absolute path, such as "/"`},
		"NUL in cwd":          {with(`"process":{"args":["true"],"cwd":"/\u0000"}`), `config.json: process.cwd contains a NUL byte`},
		"long hostname":       {with(`"hostname":"` + strings.Repeat("x", 65) + `"`), `config.json: hostname: 65 bytes are more than the 64 that it may have`},
		"hostname with NUL":   {with(`"hostname":"a\u0000"`), `config.json: hostname: "a\x00" must be without NUL bytes`},
		"long argument":       {argsOf(1, 128<<10), `config.json: process.args[1]: argument list too long: 131072 bytes are more than the 131071 that a string may have`},
		"long variable":       {process(`"env":["A=` + strings.Repeat("x", 128<<10) + `"]`), `config.json: process.env[0]: argument list too long: 131074 bytes are more than the 131071 that a string may have`},
		"many arguments":      {argsOf(21, 100000), `config.json: process.args, process.env: argument list too long: 2100202 bytes together are more than the 2097152 that the stack limit leaves them`},
		"relative cwd":        {with(`"process":{"args":["true"],"cwd":"tmp"}`), `config.json: process.cwd: "tmp" must be absolute`},
		"NUL in env":          {process(`"env":["A=\u0000"]`), `config.json: process.env[0] contains a NUL byte`},
		"env without a name":  {process(`"env":["A=","=b"]`), `config.json: process.env[1]: "=b" must be NAME=value`},
		"env without a value": {process(`"env":["A"]`), `config.json: process.env[0]: "A" must be NAME=value`},

		"mount without destination": {with(`"mounts":[{"type":"tmpfs"}]`), `config.json: mounts[0].destination is missing: it must be an absolute path`},
		"relative destination":      {with(`"mounts":[{"destination":"tmp","type":"tmpfs"}]`), `config.json: mounts[0].destination: "tmp" must be absolute`},
		"bind without source":       {with(`"mounts":[{"destination":"/a","type":"bind"}]`), `config.json: mounts[0].source is missing: a bind mount must name a file or directory`},
		"bind of nothing":           {with(`"mounts":[{"destination":"/a","options":["rbind"],"source":"/nowhere/x"}]`), `config.json: mounts[0].source: /nowhere/x does not exist on the host`},
		"bind of a socket":          {with(`"mounts":[{"destination":"/a","type":"bind","source":"` + socket + `"}]`), `config.json: mounts[0].source: ` + socket + ` is a socket of the host, which a VM cannot share: remove the mount`},
		"bind of a device":          {with(`"mounts":[{"destination":"/a","type":"bind","source":"/dev/null"}]`), `config.json: mounts[0].source: /dev/null is a device of the host, which a VM cannot share: remove the mount`},

		"namespace twice":        {namespaces(validNamespaces + `,{"type":"pid"}`), `config.json: linux.namespaces[5]: "pid" is there twice`},
		"namespace without type": {namespaces(`{}`), `config.json: linux.namespaces[0].type is missing`},
		"root of a file":         {with(`"root":{"path":"config.json"}`), `config.json: root.path: DIR/config.json must be a directory`},
		"root of nothing":        {with(`"root":{"path":"nowhere"}`), `config.json: root.path: DIR/nowhere does not exist on the host`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := testBundle(t, test.config)
			_, err := LoadBundle(dir)
			if err == nil {
				t.Fatalf("accepted, want %q", test.want)
			}
			if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestRefusedBundles(t *testing.T) {
	major, minor := hostDevice(t)
	tests := map[string]struct{ config, want string }{
		"no linux":              {without(validLinux), `config.json: linux.namespaces: a VM cannot share the host's network: add {"type":"network"}, or remove --network host`},
		"network of the host":   {namespaces(`{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}`), `config.json: linux.namespaces: a VM cannot share the host's network: add {"type":"network"}, or remove --network host`},
		"network by path":       {namespaces(`{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network","path":"/proc/self/ns/net"}`), `config.json: linux.namespaces[4].path: a VM cannot share the host's network: remove --network host`},
		"network of nothing":    {namespaces(`{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network","path":"/nowhere"}`), `config.json: linux.namespaces[4].path: /nowhere does not exist on the host`},
		"network of a file":     {namespaces(`{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network","path":"/etc/passwd"}`), `config.json: linux.namespaces[4].path: /etc/passwd is not a network namespace`},
		"pid of the host":       {namespaces(`{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}`), `config.json: linux.namespaces: a VM cannot share the host's processes: add {"type":"pid"}, or remove --pid host`},
		"pid misspelt":          {namespaces(`{"type":"pidd"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}`), `config.json: linux.namespaces: a VM cannot share the host's processes: add {"type":"pid"}, or remove --pid host`},
		"ipc of the host":       {namespaces(`{"type":"network"},{"type":"pid"},{"type":"uts"},{"type":"mount"}`), `config.json: linux.namespaces: a VM cannot share the host's IPC: add {"type":"ipc"}, or remove --ipc host`},
		"uts of the host":       {namespaces(`{"type":"network"},{"type":"pid"},{"type":"ipc"},{"type":"mount"}`), `config.json: linux.namespaces: a VM cannot share the host's name: add {"type":"uts"}, or remove --uts host`},
		"mounts of the host":    {namespaces(`{"type":"network"},{"type":"pid"},{"type":"ipc"},{"type":"uts"}`), `config.json: linux.namespaces: a VM cannot share the host's mounts: add {"type":"mount"}`},
		"pid of another":        {namespaces(`{"type":"pid","path":"/proc/1/ns/pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}`), `config.json: linux.namespaces[0].path: a VM cannot join the pid namespace /proc/1/ns/pid of the host or of another container: remove --pid or --pod`},
		"ipc of a pod":          {namespaces(`{"type":"pid"},{"type":"network"},{"type":"ipc","path":"/proc/2/ns/ipc"},{"type":"uts"},{"type":"mount"}`), `config.json: linux.namespaces[2].path: a VM cannot join the ipc namespace /proc/2/ns/ipc of the host or of another container: remove --ipc or --pod`},
		"user":                  {namespaces(validNamespaces + `,{"type":"user"}`), `config.json: linux.uidMappings, linux.gidMappings: a user namespace needs both`},
		"user of another":       {namespaces(validNamespaces + `,{"type":"user","path":"/proc/1/ns/user"}`), `config.json: linux.namespaces[5].path: a VM cannot join the user namespace /proc/1/ns/user of the host or of another container: remove --userns or --pod`},
		"mapping for nothing":   {linux(`"uidMappings":[{"containerID":0,"hostID":1,"size":1}]`), `config.json: linux.uidMappings, linux.gidMappings: they need {"type":"user"} in linux.namespaces`},
		"mapping of nothing":    {linuxWith(`{"type":"user"}`, `"gidMappings":[{"size":1}],"uidMappings":[{"containerID":0,"hostID":1,"size":0}]`), `config.json: linux.uidMappings[0].size: 0 maps nothing`},
		"mapping of too much":   {linuxWith(`{"type":"user"}`, `"uidMappings":[{"size":1}],"gidMappings":[{"containerID":9,"hostID":1,"size":4294967295}]`), `config.json: linux.gidMappings[0]: there are no ids above 4294967295`},
		"clocks for nothing":    {linux(`"timeOffsets":{"boottime":{"secs":1}}`), `config.json: linux.timeOffsets: they need {"type":"time"} in linux.namespaces`},
		"clock unknown":         {linuxWith(`{"type":"time"}`, `"timeOffsets":{"realtime":{"secs":1}}`), `config.json: linux.timeOffsets: "realtime" must be monotonic or boottime`},
		"personality":           {linux(`"personality":{"domain":"PER_BSD"}`), `config.json: linux.personality.domain: "PER_BSD" must be LINUX or LINUX32`},
		"personality flags":     {linux(`"personality":{"domain":"LINUX","flags":["X"]}`), `config.json: linux.personality.flags: the specification has none: remove linux.personality.flags`},
		"affinity":              {process(`"execCPUAffinity":{"final":"0-"}`), `config.json: process.execCPUAffinity.final: "0-" must be a list of CPUs, such as 0-2,5`},
		"overlay":               {with(`"mounts":[{"destination":"/b","type":"overlay","source":"overlay","options":["lowerdir=/a:/b"]}]`), `config.json: mounts[0].type: an overlay of the host's directories cannot be made in a VM: mount it on the host and bind it`},
		"errno":                 {linux(`"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}`), `config.json: linux.seccomp.defaultAction: 70000 is no error number`},
		"idmap":                 {with(`"mounts":[{"destination":"/b","type":"bind","source":"rootfs","options":["bind","ridmap"]}]`), `config.json: mounts[0].options: ridmap: neither 9p nor virtiofs maps ids in a VM: remove it`},
		"netDevices":            {linux(`"netDevices":{"eth0":{}}`), `config.json: linux.netDevices: a network device of the host cannot be moved into a VM: remove linux.netDevices`},
		"intelRdt":              {linux(`"intelRdt":{"closID":"a"}`), `config.json: linux.intelRdt: cache and bandwidth classes of the host's CPU cannot cross into a VM: remove linux.intelRdt`},
		"memoryPolicy":          {linux(`"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0"}`), `config.json: linux.memoryPolicy: NUMA policies of the host cannot cross into a VM: remove linux.memoryPolicy`},
		"vm":                    {with(`"vm":{"kernel":{"path":"/vmlinuz"}}`), `config.json: vm: the machine is made from vmruntime's own configuration: remove vm`},
		"relative hook":         {with(`"hooks":{"poststop":[{"path":"true"}]}`), `config.json: hooks.poststop[0].path: "true" must be absolute`},
		"hook without time":     {with(`"hooks":{"prestart":[{"path":"/bin/true"},{"path":"/bin/true","timeout":0}]}`), `config.json: hooks.prestart[1].timeout: 0 must be more than 0 seconds`},
		"id-mapped mount":       {with(`"mounts":[{"destination":"/a","type":"tmpfs"},{"destination":"/b","type":"tmpfs","uidMappings":[{"containerID":0,"hostID":1,"size":1}]}]`), `config.json: mounts[1].uidMappings: neither 9p nor virtiofs maps ids in a VM: remove the mapping, and let the files on the host have the ids of the user namespace`},
		"device of the host":    {linux(`"devices":[{"path":"/dev/x","type":"c","major":` + major + `,"minor":` + minor + `}]`), `config.json: linux.devices[0]: device /dev/x (c ` + major + `:` + minor + `) of the host cannot cross into a VM: remove --device`},
		"device of no number":   {linux(`"devices":[{"path":"/dev/null","type":"c","major":1,"minor":4294967299}]`), `config.json: linux.devices[0].minor: 4294967299 must be 0 to 1048575`},
		"device rule type":      {linux(`"resources":{"devices":[{"allow":true,"type":"p"}]}`), `config.json: linux.resources.devices[0].type: "p" must be a, b or c`},
		"device rule access":    {linux(`"resources":{"devices":[{"allow":true,"access":"rx"}]}`), `config.json: linux.resources.devices[0].access: "rx" must be of the letters r, w and m`},
		"device rule number":    {linux(`"resources":{"devices":[{"allow":true,"major":-2}]}`), `config.json: linux.resources.devices[0].major: -2 is no number of a device`},
		"seccomp notify":        {linux(`"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"}`), `config.json: linux.seccomp.defaultAction: SCMP_ACT_NOTIFY needs a seccomp listener, which cannot see system calls inside a VM: remove it`},
		"seccomp listener":      {linux(`"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}`), `config.json: linux.seccomp.listenerPath: a seccomp listener of the host cannot see system calls inside a VM: remove linux.seccomp.listenerPath`},
		"seccomp rule":          {linux(`"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"x"}]}`), `config.json: linux.seccomp.syscalls[0].action: "x" is not known`},
		"rlimit":                {process(`"rlimits":[{"type":"RLIMIT_X","hard":1,"soft":1}]`), `config.json: process.rlimits[0].type: "RLIMIT_X" is not the name of a limit`},
		"soft above hard limit": {process(`"rlimits":[{"type":"RLIMIT_NOFILE","hard":1,"soft":2}]`), `config.json: process.rlimits[0]: soft limit 2 is above the hard limit 1`},
		"sysctl of hostname":    {linux(`"sysctl":{"kernel.hostname":"x"}`), `config.json: linux.sysctl: kernel.hostname must be set by hostname`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := LoadBundle(testBundle(t, test.config))
			if err != nil {
				t.Fatalf("not sound: %v", err)
			}
			if err = b.Validate(); err == nil {
				t.Fatalf("accepted, want %q", test.want)
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
}

func TestAcceptedBundles(t *testing.T) {
	tests := map[string]string{
		"least":             validConfig,
		"most arguments":    argsOf(20, 100000),
		"more arguments":    strings.Replace(argsOf(21, 100000), `"cwd":"/"`, `"cwd":"/","rlimits":[{"type":"RLIMIT_STACK","soft":67108864,"hard":67108864}]`, 1),
		"longest argument":  argsOf(1, 128<<10-1),
		"newest version":    with(`"ociVersion":"1.3.0"`),
		"version of a fork": with(`"ociVersion":"1.0.2-dev"`),
		"white space":       " \n" + validConfig + "\n\n",
		"unknown field":     with(`"later":{"x":1}`),
		"unknown namespace": namespaces(validNamespaces + `,{"type":"time"},{"type":"later"}`),
		"user namespace":    linuxWith(`{"type":"user"}`, `"uidMappings":[{"hostID":5,"size":4294967290}],"gidMappings":[{"containerID":1,"hostID":1,"size":1},{"containerID":2,"hostID":9,"size":2}]`),
		"clocks":            linuxWith(`{"type":"time"}`, `"timeOffsets":{"boottime":{"secs":1},"monotonic":{"secs":-1,"nanosecs":3}}`),
		"personality":       linux(`"personality":{"domain":"LINUX32"}`),
		"affinity":          process(`"execCPUAffinity":{"initial":"0","final":"0-2,5"}`),
		"empty fields":      linux(`"netDevices":{},"intelRdt":{},"uidMappings":[]`),
		"privileged":        linux(`"devices":[{"path":"/dev/sda","type":"b","major":8,"minor":0}],"resources":{"devices":[{"allow":true,"access":"rwm"}]}`),
		"device of a guest": linux(`"devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229}]`),
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := LoadBundle(testBundle(t, config))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestErrorsAreNoErrorsOfTheExecutable(t *testing.T) {
	dir := t.TempDir()
	_, err := LoadBundle(filepath.Join(dir, "none"))
	if want := "config.json not found in bundle " + dir + "/none"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.Mkdir(filepath.Join(dir, specFile), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = LoadBundle(dir)
	if err == nil {
		t.Fatal("a directory was accepted as config.json")
	}
	for _, text := range []string{"no such file or directory", "permission denied"} {
		if strings.Contains(err.Error(), text) {
			t.Errorf("%q contains %q", err, text)
		}
	}
}

func TestSourcesAreResolved(t *testing.T) {
	dir := testBundle(t, with(`"mounts":[{"destination":"/a","type":"bind","source":"link"}]`))
	if err := os.Symlink("rootfs", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b, err := LoadBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "rootfs"); b.Sources[0] != want || b.Rootfs != want {
		t.Errorf("source %s, rootfs %s, want %s", b.Sources[0], b.Rootfs, want)
	}
}

// Mounts see those before them, as with runc.
func TestOwnSources(t *testing.T) {
	mount := func(destination, source string) specs.Mount {
		return specs.Mount{Type: "bind", Destination: destination, Source: source}
	}
	b := Bundle{Dir: "/bundle", Rootfs: "/bundle/root", Spec: &specs.Spec{Mounts: []specs.Mount{
		mount("/a", "root/b/c"),
		mount("/bundle/root/b", "/somewhere"),
		mount("/c", "root/b/../b/c"),
		mount("/d", "root/bc"),
		mount("/e", "/b"),
		{Type: "tmpfs", Destination: "/f", Source: "root/b"},
	}}}
	if diff := cmp.Diff(map[int]string{2: "/b/c"}, b.findOwnSources()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for destination, want := range map[string]string{"/bundle/root/b": "/b", "/bundle/rootb": "/bundle/rootb", "/b": "/b"} {
		if got := b.destination(mount(destination, "/")); got != want {
			t.Errorf("destination %s: %s, want %s", destination, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	for config, want := range map[string]string{
		validConfig: "",
		process(`"capabilities":{"permitted":["CAP_KILL"],"inheritable":["CAP_KILL","CAP_CHOWN"],"ambient":["CAP_KILL","CAP_CHOWN"]}`): "can't raise ambient capability CAP_CHOWN: it must be permitted and inheritable as well",
		process(`"apparmorProfile":"a","selinuxLabel":"b"`):                                                                            "process.apparmorProfile, process.selinuxLabel ignored: the guest's kernel runs no AppArmor or SELinux, the VM confines the container",
		with(`"annotations":{"org.vmruntime.rotfs":"block","org.vmruntime.rootfs":"block","a.b":"c"}`):                                 "annotations: org.vmruntime.rotfs ignored: it is none of org.vmruntime.guest, org.vmruntime.libvirt.metadata, org.vmruntime.rootfs, org.vmruntime.rootfs.size",
	} {
		b, err := LoadBundle(testBundle(t, config))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.Warnings(), "\n"); got != want {
			t.Errorf("warned %q, not %q", got, want)
		}
	}
}

// hostDevice is the number of a character device of this host that is none of every
// kernel's.
func hostDevice(t *testing.T) (major, minor string) {
	t.Helper()
	numbers, err := filepath.Glob("/sys/dev/char/*:*")
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range numbers {
		major, minor, _ := strings.Cut(filepath.Base(number), ":")
		d := specs.LinuxDevice{Type: "c"}
		d.Major, _ = strconv.ParseInt(major, 10, 64)
		d.Minor, _ = strconv.ParseInt(minor, 10, 64)
		if !inGuest(d) {
			return major, minor
		}
	}
	t.Skip("needs a character device in /sys/dev/char beside every kernel's own")
	return "", ""
}
