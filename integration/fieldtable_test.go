package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Why a row is not for runc.
const (
	old       = "Debian 12's runc does not know it"
	hostOwn   = "on the host it would be the host's own"
	cgroup2   = "the host may have cgroup v1"
	closedDir = "the tests' directory is closed to other users of the host"
)

// fieldGroups are the fields of config.json, each with a test: a line of the table
// in docs/config-json.md has at least one row here.
var fieldGroups = []fieldGroup{
	{"process", []fieldTest{
		{
			field:  "ociVersion",
			change: func(s *specs.Spec) { s.Version = "1.0.2" },
			look:   `echo runs`, want: "runs",
		},
		{
			field:  "process.args",
			change: func(*specs.Spec) {},
			look:   `tr "\0" "\n" < /proc/1/cmdline | head -n 2`, want: "/bin/sh\n-c",
		},
		{
			field:  "process.cwd",
			change: func(s *specs.Spec) { s.Process.Cwd = "/made/by the runtime" },
			look:   `pwd; stat -c "%a %u" .`, want: "/made/by the runtime\n755 0",
		},
		{
			field:  "process.env",
			change: func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=first", "A=b  c", "EMPTY=") },
			look:   `echo "$A|$EMPTY|$HOME"; env | grep -c ^EMPTY=$`, want: "b  c||/home/user\n1",
		},
		{
			field: "process.user",
			change: func(s *specs.Spec) {
				mask := uint32(0o37)
				s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 2000}, Umask: &mask}
			},
			look: `id -u; id -g; id -G; umask`, want: "1000\n1001\n1001 5 2000\n0037",
		},
		{
			field: "process.user",
			exec:  true, change: func(*specs.Spec) {},
			look: `id -u; id -g; id -G; pwd`, want: "1000\n1001\n1001 5 2000\n/made/by the runtime",
		},
		{
			field: "process.user", not: old,
			exec: true, change: func(*specs.Spec) {},
			look: `umask`, want: "0037",
		},
		{
			field: "process.capabilities",
			change: func(s *specs.Spec) {
				s.Process.Capabilities = &specs.LinuxCapabilities{
					Bounding:    []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_AUDIT_WRITE"},
					Permitted:   []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"},
					Inheritable: []string{"CAP_CHOWN", "CAP_KILL"},
					Ambient:     []string{"CAP_CHOWN", "CAP_KILL"},
					Effective:   []string{"CAP_CHOWN"},
				}
			},
			look: `grep ^Cap /proc/self/status | cut -f2`,
			// Of a user that is not root the ambient set becomes the permitted one.
			want: "0000000000000021\n0000000000000021\n0000000000000021\n0000000020002021\n0000000000000021",
		},
		{
			field: "process.rlimits",
			change: func(s *specs.Spec) {
				s.Process.Rlimits = nil
				for i, name := range strings.Fields("CORE CPU FSIZE LOCKS RSS STACK MEMLOCK MSGQUEUE NOFILE NPROC SIGPENDING") {
					limit := specs.POSIXRlimit{Type: "RLIMIT_" + name, Soft: uint64(2000000 + i), Hard: uint64(3000000 + i)}
					switch {
					case name == "CORE":
						// Not every host lets it be raised,
						limit.Soft, limit.Hard = 0, 0
					case i > 5:
						// nor these.
						limit.Soft, limit.Hard = uint64(700+i), uint64(800+i)
					}
					s.Process.Rlimits = append(s.Process.Rlimits, limit)
				}
			},
			look: `grep -vE "address|data|nice|realtime" /proc/self/limits | tail -n +2 | sed "s/^Max //; s/  */ /g; s/ [a-z]* *$//"`,
			want: "cpu time 2000001 3000001\nfile size 2000002 3000002\nstack size 2000005 3000005\ncore file size 0 0\n" +
				"resident set 2000004 3000004\nprocesses 709 809\nopen files 708 808\nlocked memory 706 806\nfile locks 2000003 3000003\n" +
				"pending signals 710 810\nmsgqueue size 707 807",
		},
		{
			field:  "process.noNewPrivileges",
			change: func(s *specs.Spec) { s.Process.NoNewPrivileges = true },
			look:   `grep NoNewPrivs /proc/self/status | cut -f2`, want: "1",
		},
		{
			field:  "process.oomScoreAdj",
			change: func(s *specs.Spec) { score := 321; s.Process.OOMScoreAdj = &score },
			look:   `cat /proc/self/oom_score_adj`, want: "321",
		},
		{
			field: "process.scheduler", not: old,
			change: func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7} },
			look:   `cut -d" " -f19,41 /proc/self/stat`, want: "7 3",
		},
		{
			field: "process.ioPriority", not: old,
			change: func(s *specs.Spec) {
				s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
			},
			look: `ionice -p $$`, want: "best-effort: prio 6",
		},
		{
			field: "process.execCPUAffinity", not: old, exec: true,
			change: func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-3", Final: "0"} },
			look:   `taskset -p $$ | grep -o "[^ ]*$"`, want: "1",
		},
		{field: "process.terminal", elsewhere: "TestConsoleSocket, TestRunOnTerminal"},
		{field: "process.consoleSize", elsewhere: "TestConsoleSocket"},
	}},

	{"root", []fieldTest{
		{
			field:  "root.path",
			change: func(*specs.Spec) {},
			look:   `head -n 1 /etc/passwd`, want: "root:x:0:0:root:/root:/bin/sh",
		},
		{
			field:  "root.readonly",
			change: func(s *specs.Spec) { s.Root.Readonly = true },
			look:   `touch /new; touch /dev/shm/new && echo writes`, want: "touch: /new: Read-only file system\nwrites",
		},
		{
			field:  "hostname",
			change: func(s *specs.Spec) { s.Hostname = "some-name" },
			look:   `hostname`, want: "some-name",
		},
		{
			field: "domainname", not: old,
			change: func(s *specs.Spec) { s.Domainname = "example.org" },
			look:   `cat /proc/sys/kernel/domainname`, want: "example.org",
		},
		{
			field: "linux.namespaces[].type",
			change: func(s *specs.Spec) {
				if !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace }) {
					s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
				}
			},
			look: `echo $$; cat /proc/self/cgroup | head -n 1 | cut -d: -f3; ip -o link | cut -d" " -f2; ls /dev/mqueue`, want: "1\n/\nlo:",
		},
		{
			field: "linux.devices",
			change: func(s *specs.Spec) {
				mode, uid, gid := os.FileMode(0o644), uint32(12), uint32(34)
				s.Linux.Devices = []specs.LinuxDevice{
					{Path: "/dev/mine/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid, GID: &gid},
					{Path: "/dev/fuse", Type: "u", Major: 10, Minor: 229},
					{Path: "/dev/pipe", Type: "p"},
				}
			},
			look: `stat -c "%n %F %t:%T %a %u %g" /dev/mine/zero /dev/fuse /dev/pipe /dev/null; for l in fd stdin ptmx; do readlink /dev/$l; done`,
			want: "/dev/mine/zero character special file 1:5 644 12 34\n/dev/fuse character special file a:e5 666 0 0\n" +
				"/dev/pipe fifo 0:0 666 0 0\n/dev/null character special file 1:3 666 0 0\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx",
		},
		{
			field: "linux.resources.devices",
			change: func(s *specs.Spec) {
				ten, fuse := int64(10), int64(229)
				s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{
					{Allow: true, Access: "rwm"},
					{Allow: false, Type: "c", Major: &ten, Minor: &fuse, Access: "rw"},
				}
			},
			look: `head -c 1 /dev/mine/zero | wc -c; : < /dev/fuse`,
			want: "1\n/bin/sh: can't open /dev/fuse: Operation not permitted",
		},
		{
			field: "linux.maskedPaths",
			change: func(s *specs.Spec) {
				s.Linux.MaskedPaths = []string{"/proc/meminfo", "/home", "/no/such"}
			},
			look: `wc -c < /proc/meminfo; ls -A /home; touch /home/x`, want: "0\ntouch: /home/x: Read-only file system",
		},
		{
			field:  "linux.readonlyPaths",
			change: func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/proc/sys", "/dev/mqueue", "/no/such"} },
			look:   `touch /dev/mqueue/x; echo x > /proc/sys/kernel/hostname`,
			want:   "touch: /dev/mqueue/x: Read-only file system\n/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system",
		},
		{
			field: "linux.sysctl",
			change: func(s *specs.Spec) {
				s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmni": "77", "fs.mqueue.msg_max": "9"}
			},
			look: `cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max`, want: "1\n77\n9",
		},
		{
			field: "linux.sysctl", not: hostOwn,
			change: func(s *specs.Spec) { s.Linux.Sysctl["vm.max_map_count"] = "262144" },
			look:   `cat /proc/sys/vm/max_map_count`, want: "262144",
		},
		{
			field: "linux.personality", not: old,
			change: func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} },
			look:   `uname -m`, want: "i686",
		},
		{
			field: "linux.timeOffsets", not: old,
			change: func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
				s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 7000000}, "monotonic": {Secs: 5}}
			},
			look: `cut -c1-4 /proc/uptime; tr -s " " < /proc/self/timens_offsets`, want: "7000\nmonotonic 5 0\nboottime 7000000 0",
		},
		{field: "annotations", elsewhere: "TestHooks, TestLifecycle"},
		{field: "hooks.prestart", elsewhere: "TestHooks"},
		{field: "hooks.createRuntime", elsewhere: "TestHooks"},
		{field: "hooks.createContainer", elsewhere: "TestHooksInside"},
		{field: "hooks.startContainer", elsewhere: "TestHooksInside"},
		{field: "hooks.poststart", elsewhere: "TestHooks"},
		{field: "hooks.poststop", elsewhere: "TestHooks"},
	}},

	{"users", []fieldTest{
		{
			field: "linux.uidMappings", not: closedDir,
			change: func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
				s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 200000, Size: 65535}}
			},
			look: `id -u; tr -s " " < /proc/self/uid_map; stat -c %u /bin/busybox`, want: "0\n 0 1000 1\n 1 200000 65535\n65534",
		},
		{
			field: "linux.uidMappings", not: closedDir,
			change: func(s *specs.Spec) {
				i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys/fs/cgroup" })
				s.Mounts[i].Options = []string{"nosuid", "noexec", "nodev"}
			},
			look: `mkdir /sys/fs/cgroup/mine && cat /sys/fs/cgroup/mine/cgroup.type`, want: "domain",
		},
		{
			field: "linux.gidMappings", not: closedDir,
			change: func(s *specs.Spec) {
				s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 300000, Size: 65536}}
			},
			look: `id -g; tr -s " " < /proc/self/gid_map; stat -c "%g %a" /dev/pts/ptmx /dev/zero`, want: "0\n 0 300000 65536\n0 666\n0 666",
		},
		{
			field: "linux.uidMappings", not: closedDir, exec: true,
			change: func(*specs.Spec) {},
			look:   `id -u; tr -s " " < /proc/self/uid_map; readlink /proc/self/ns/user | cmp - /dev/fd/3 3<<E` + "\n$(readlink /proc/1/ns/user)\nE\necho $?", want: "0\n 0 1000 1\n 1 200000 65535\n0",
		},
	}},

	{"mounts", []fieldTest{
		{
			field: "mounts[].destination",
			change: func(s *specs.Spec) {
				// A failure shows as a missing mount.
				_ = os.Symlink("../../../in/root", filepath.Join(s.Root.Path, "link"))
				s.Mounts = append(s.Mounts,
					specs.Mount{Type: "tmpfs", Source: "a", Destination: "/new/deep"},
					specs.Mount{Type: "tmpfs", Source: "b", Destination: "/new/deep/er"},
					specs.Mount{Type: "tmpfs", Source: "c", Destination: "/link/made"})
			},
			look: `grep -E " - tmpfs [abc] " /proc/self/mountinfo | cut -d" " -f5`, want: "/new/deep\n/new/deep/er\n/in/root/made",
		},
		{
			field: "mounts[].type",
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Type: "ramfs", Source: "r", Destination: "/mnt/ramfs"})
			},
			look: `for m in /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /mnt/ramfs; do mounted $m type; done`,
			want: "proc\ntmpfs\ndevpts\ntmpfs\nmqueue\nsysfs\nramfs",
		},
		{
			field: "mounts[].source",
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts,
					specs.Mount{Type: "bind", Source: "/etc", Destination: "/mnt/dir", Options: []string{"rbind"}},
					specs.Mount{Source: "/etc/hostname", Destination: "/mnt/new/file", Options: []string{"bind"}})
			},
			look: `cmp /mnt/dir/hostname /mnt/new/file && echo same`, want: "same",
		},
		{
			// What an earlier mount has put into the root.
			field: "mounts[].source",
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts,
					specs.Mount{Type: "bind", Source: "/etc", Destination: "/mnt/own/etc", Options: []string{"bind"}},
					specs.Mount{Type: "bind", Source: filepath.Join(s.Root.Path, "mnt/own/etc/hostname"), Destination: "/mnt/copy", Options: []string{"bind"}})
			},
			look: `cmp /mnt/own/etc/hostname /mnt/copy && echo same`, want: "same",
		},
		{
			field: "mounts[].options",
			change: func(s *specs.Spec) {
				for name, options := range map[string][]string{
					"flags":   {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"},
					"cleared": {"ro", "nosuid", "nodev", "noexec", "rw", "suid", "dev", "exec"},
					"strict":  {"strictatime", "sync", "dirsync"},
					"data":    {"size=1m", "mode=1711", "uid=3"},
				} {
					s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "t", Destination: "/mnt/" + name, Options: options})
				}
			},
			look: `for m in flags cleared strict data; do mounted /mnt/$m options; done; mounted /mnt/strict data | sed s/,inode64//; stat -c "%a %u" /mnt/data; df /mnt/data | tail -1 | awk '{ print $2 }'`,
			want: "ro,nosuid,nodev,noexec,noatime,nodiratime\nrw,relatime\nrw\nrw,relatime\nrw,sync,dirsync\n1711 3\n1024",
		},
		{
			field: "mounts[].options",
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts,
					specs.Mount{Type: "bind", Source: "/etc", Destination: "/mnt/ro", Options: []string{"rbind", "ro", "nosuid", "noexec"}},
					specs.Mount{Type: "tmpfs", Source: "t", Destination: "/home", Options: []string{"tmpcopyup", "mode=755"}})
			},
			look: `touch /mnt/ro/x; mounted /mnt/ro options | sed s/,nodev//; ls /home; stat -c %a /home/user`,
			want: "touch: /mnt/ro/x: Read-only file system\nro,nosuid,noexec,relatime\nuser\n755",
		},
		{
			field: "mounts[].options", not: old,
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts,
					specs.Mount{Type: "bind", Source: "/etc", Destination: "/mnt/rro", Options: []string{"rbind", "rro", "rnoexec", "rnoatime"}},
					specs.Mount{Type: "tmpfs", Source: "t", Destination: "/mnt/links", Options: []string{"nosymfollow"}})
			},
			look: `touch /mnt/rro/x; for m in rro links; do mounted /mnt/$m options; done`,
			want: "touch: /mnt/rro/x: Read-only file system\nro,noexec,noatime\nrw,relatime,nosymfollow",
		},
		{
			field: "mounts[].options",
			change: func(s *specs.Spec) {
				for _, option := range []string{"private", "slave", "shared", "unbindable", "rshared"} {
					s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "t", Destination: "/mnt/" + option, Options: []string{option}})
				}
			},
			look: `for m in private slave shared unbindable rshared; do mounted /mnt/$m propagation; done`,
			want: "-\n-\nshared\nunbindable\nshared",
		},
	}},

	{"propagation", []fieldTest{
		{
			field: "linux.rootfsPropagation", not: old,
			change: func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" },
			look:   `mounted / propagation`, want: "shared",
		},
	}},

	{"seccomp", []fieldTest{
		{
			field: "linux.seccomp",
			change: func(s *specs.Spec) {
				s.Linux.Seccomp = &specs.LinuxSeccomp{
					DefaultAction: specs.ActAllow,
					Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
					Syscalls: []specs.LinuxSyscall{
						{Names: []string{"chmod", "fchmodat", "no_such_call"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{
							{Index: 1, Value: 0o700, Op: specs.OpEqualTo},
						}},
					},
				}
			},
			look: `grep Seccomp: /proc/self/status | cut -f2; cd /tmp; touch f; chmod 600 f; chmod 700 f; stat -c %a f`,
			want: "2\nchmod: f: Operation not permitted\n600",
		},
		{
			field: "linux.seccomp.syscalls[].action",
			change: func(s *specs.Spec) {
				busy, calls := uint(16), &s.Linux.Seccomp.Syscalls
				*calls = append(*calls,
					specs.LinuxSyscall{Names: []string{"link", "linkat"}, Action: specs.ActErrno, ErrnoRet: &busy},
					specs.LinuxSyscall{Names: []string{"sync"}, Action: specs.ActKillProcess},
					specs.LinuxSyscall{Names: []string{"syncfs"}, Action: specs.ActTrap},
					specs.LinuxSyscall{Names: []string{"times"}, Action: specs.ActLog})
			},
			look: `cd /tmp; touch f; ln f g; sync; echo $?; sync -f f; echo $?; time true 2>&1 | wc -l`,
			want: "ln: g: Device or resource busy\nBad system call\n159\nBad system call\n159\n3",
		},
		{
			field: "linux.seccomp.flags", not: old,
			change: func(s *specs.Spec) { s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} },
			// Without SPEC_ALLOW the processor does not guess in filtered processes.
			look: `echo loaded`, want: "loaded",
		},
	}},

	{"resources", []fieldTest{
		{
			field: "linux.resources.memory.limit", not: cgroup2,
			change: func(s *specs.Spec) {
				limit := int64(96 << 20)
				s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
			},
			look: `cat /sys/fs/cgroup/memory.max`, want: "100663296",
		},
		{
			field: "linux.resources.memory", not: cgroup2,
			change: func(s *specs.Spec) {
				low := int64(32 << 20)
				s.Linux.Resources.Memory.Reservation = &low
			},
			look: `cat /sys/fs/cgroup/memory.low`, want: "33554432",
		},
		{
			field: "linux.resources.cpu.quota", not: cgroup2,
			change: func(s *specs.Spec) {
				quota, period := int64(60000), uint64(100000)
				s.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
			},
			look: `cat /sys/fs/cgroup/cpu.max; nproc`, want: "60000 100000\n1",
		},
		{
			field: "linux.resources.cpu", not: cgroup2,
			change: func(s *specs.Spec) {
				shares := uint64(512)
				s.Linux.Resources.CPU.Shares = &shares
			},
			look: `cat /sys/fs/cgroup/cpu.weight`, want: "20",
		},
		{
			field: "linux.resources.pids", not: cgroup2,
			change: func(s *specs.Spec) {
				limit := int64(40)
				s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
			},
			look: `cat /sys/fs/cgroup/pids.max`, want: "40",
		},
		{
			field: "linux.resources.hugepageLimits", not: cgroup2,
			change: func(s *specs.Spec) {
				s.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 8 << 20}}
			},
			look: `cat /sys/fs/cgroup/hugetlb.2MB.max`, want: "8388608",
		},
		{
			field: "linux.resources.unified", not: cgroup2,
			change: func(s *specs.Spec) { s.Linux.Resources.Unified = map[string]string{"memory.high": "80M"} },
			look:   `cat /sys/fs/cgroup/memory.high`, want: "83886080",
		},
		{field: "linux.resources.cpu.cpus", elsewhere: "TestCgroup"},
		{field: "linux.resources.cpu.mems", elsewhere: "TestCgroup"},
		{field: "linux.resources.blockIO", elsewhere: "TestCgroup"},
		{field: "linux.cgroupsPath", elsewhere: "TestCgroup, TestCgroupsPathForSystemd"},
	}},
}
