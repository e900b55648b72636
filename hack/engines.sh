#!/usr/bin/env bash
# hack/engines.sh COMMAND...: runs COMMAND beside a containerd, a dockerd and a
# podman of its own, all with the runtimes runc and vmruntime (that of this
# checkout) and with the image busybox, and exits as COMMAND does.
#
# Everything lives in namespaces of its own: the engines use their usual paths in
# /run, /etc and /var/lib, none of which is the machine's, and a network that
# reaches nobody else. It ends with COMMAND, or with this script, and leaves
# nothing; what a killed run leaves on the disk the next one removes.
#
# COMMAND finds DOCKER_HOST and CONTAINERD_ADDRESS; hack/engine.sh stops and starts
# a daemon; logs are in /run/engines. ENGINE_CONTAINERD=2 takes containerd 2.4
# instead of Debian's.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=hack/lib.sh
. "$here/hack/lib.sh"

prefix='vmruntime-engines-'
state_prefix=${TMPDIR:-/var/tmp}/$prefix

main() {
	[ $# -gt 0 ] || die "usage: $0 COMMAND..."
	if [ "$1" = --inside ]; then
		inside "${@:2}"
	else
		outside "$@"
	fi
}

# outside makes the namespaces, and cleans up when they are gone.
outside() {
	local file status=0
	[ "$(id -u)" = 0 ] || die "run it as root"
	for file in bin/vmruntime build/guest/guest.json; do
		[ -e "$here/$file" ] || die "no $file: run make build guest"
	done
	[ "${ENGINE_CONTAINERD-}" != 2 ] || "$here/hack/containerd.sh"
	"$here/hack/busybox.sh"
	"$here/hack/image.sh" busybox build/busybox
	remove_stale
	state=$(mktemp -d "$state_prefix"XXXXXX)
	cgroup=$prefix${state##*-}
	exec 9>"$state/lock"
	flock 9
	trap 'end_children; remove "$state"' EXIT
	# setpriv: what happens to this script happens to the namespaces.
	(
		exec 9>&-
		close_inherited
		enter_cgroup
		exec setpriv --pdeathsig KILL unshare --mount --net --pid --ipc --cgroup --fork --kill-child --mount-proc \
			tini -s -g -- "$here/hack/engines.sh" --inside "$state" "$@"
	) || status=$?
	exit "$status"
}

# Who holds a run's lock is at work.
remove_stale() {
	local old
	for old in "$state_prefix"*; do
		[ -d "$old" ] || continue
		(flock -n 9) 9>"$old/lock" || continue
		say "removing what a killed run left: $old"
		remove "$old"
	done
}

end_children() {
	local pids
	read -r -a pids <"/proc/$$/task/$$/children" || true
	[ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
}

remove() {
	local name=$prefix${1##*-} dir
	while read -r dir; do
		remove_cgroup "$dir"
	done < <(cgroup_mounts | while read -r dir _; do [ ! -d "$dir/$name" ] || echo "$dir/$name"; done)
	rm -rf --one-file-system "$1"
}

# The last processes of a killed namespace take their time.
remove_cgroup() {
	local deadline=$((SECONDS + 60))
	until find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || [ ! -d "$1" ]; do
		[ "$SECONDS" -lt "$deadline" ] || die "cannot remove $1"
		sleep 0.1
	done
}

# cgroup_mounts prints directory, type and options of each cgroup hierarchy.
cgroup_mounts() {
	awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/mounts
}

# enter_cgroup moves this process into a cgroup of its own in every hierarchy. It
# becomes the root of a cgroup namespace: what engines make stays below.
enter_cgroup() {
	local dir type file
	while read -r dir type _; do
		[ -w "$dir/cgroup.procs" ] || continue
		mkdir "$dir/$cgroup"
		# A new cpuset is empty, and takes nobody.
		for file in cpuset.cpus cpuset.mems; do
			[ "$type" = cgroup2 ] || [ ! -e "$dir/$file" ] || cat "$dir/$file" >"$dir/$cgroup/$file"
		done
		echo "$BASHPID" >"$dir/$cgroup/cgroup.procs"
	done < <(cgroup_mounts)
}

# inside is the first process of the namespaces but for tini.
inside() {
	state=$1
	shift
	mounts
	network
	configure
	PATH=$here/hack:$PATH
	[ "${ENGINE_CONTAINERD-}" != 2 ] || PATH=$(echo "$here"/build/tools/containerd-v2*):$PATH
	export PATH DOCKER_HOST=unix:///run/docker.sock CONTAINERD_ADDRESS=/run/containerd/containerd.sock
	"$here/hack/engine.sh" start containerd
	"$here/hack/engine.sh" start dockerd
	load_images
	exec "$@"
}

mounts() {
	local name
	# The disk of a container cannot carry another overlay.
	[ "$(stat -f -c %T "$state")" != overlayfs ] || mount -t tmpfs -o mode=700 tmpfs "$state"
	chmod 711 "$state"
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -p /run/lock /run/netns /run/engines/tmp
	for name in etc var/lib; do
		mkdir -p "$state/upper/$name" "$state/work/$name"
		mount -t overlay -o "lowerdir=/$name,upperdir=$state/upper/$name,workdir=$state/work/$name" overlay "/$name"
	done
	# Not on that overlay, because they carry overlays themselves.
	for name in docker containerd containers cni; do
		mkdir -p "$state/$name" "/var/lib/$name"
		mount --bind "$state/$name" "/var/lib/$name"
	done
	mount_sys
}

# /sys shows the network namespace and the cgroups of who mounts it.
mount_sys() {
	local dir type options hierarchy
	local -a hierarchies
	mapfile -t hierarchies < <(cgroup_mounts)
	mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
	[ ! -d /sys/kernel/security ] || mount -t securityfs securityfs /sys/kernel/security 2>/dev/null || true
	if [[ "${hierarchies[*]}" == "/sys/fs/cgroup cgroup2 "* ]]; then
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		# Only a cgroup without processes hands controllers down.
		mkdir /sys/fs/cgroup/init
		xargs -n 1 </sys/fs/cgroup/cgroup.procs 2>/dev/null | while read -r pid; do
			echo "$pid" >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true
		done
		sed 's/\(^\| \)/&+/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
		return
	fi
	mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
	for hierarchy in "${hierarchies[@]}"; do
		read -r dir type options <<<"$hierarchy"
		mkdir -p "$dir"
		options=$(tr , '\n' <<<"$options" | grep -vxE 'rw|ro|relatime|nosuid|nodev|noexec|seclabel|nsdelegate|xattr|clone_children|release_agent=.*|memory_recursiveprot' | paste -sd,) || true
		mount -t "$type" ${options:+-o "$options"} "$type" "$dir"
	done
}

network() {
	ip link set lo up
	sysctl -q -w net.ipv4.ip_forward=1
	# Where there is no bridge filter, none is needed.
	sysctl -q -e -w net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
}

configure() {
	local files processes vmruntime=$here/bin/vmruntime
	ulimit -n "$(ulimit -Hn)"
	files=$(ulimit -Hn) processes=$(ulimit -Hu)
	[ "$processes" != unlimited ] || processes=-1
	mkdir -p /etc/docker /etc/containerd /etc/containers /etc/cni/net.d
	cat >/etc/docker/daemon.json <<-END
		{
		  "hosts": ["unix:///run/docker.sock"], "containerd": "/run/containerd/containerd.sock",
		  "exec-opts": ["native.cgroupdriver=cgroupfs"], "storage-driver": "overlay2",
		  "experimental": true, "runtimes": {"vmruntime": {"path": "$vmruntime"}}
		}
	END
	# restrict_oom_score_adj: for machines where nobody may lower it.
	cat >/etc/containerd/config.toml <<-END
		version = 2
		[plugins."io.containerd.internal.v1.opt"]
		  path = "/var/lib/containerd/opt"
		[plugins."io.containerd.grpc.v1.cri"]
		  restrict_oom_score_adj = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.vmruntime]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.vmruntime.options]
		      BinaryName = "$vmruntime"
	END
	# default_ulimits: podman's own are above the hard limits of some machines.
	cat >/etc/containers/containers.conf <<-END
		[containers]
		default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
		log_driver = "k8s-file"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		runtime = "runc"
		runtime_supports_json = ["crun", "runc", "vmruntime"]
		[engine.runtimes]
		runc = ["/usr/bin/runc", "/usr/sbin/runc"]
		vmruntime = ["$vmruntime"]
		[network]
		network_backend = "cni"
		cni_plugin_dirs = ["/usr/lib/cni"]
	END
	printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' >/etc/containers/storage.conf
	echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
	echo 'unqualified-search-registries = ["docker.io"]' >/etc/containers/registries.conf
}

load_images() {
	local tar=$here/build/images/busybox.tar
	docker load -q -i "$tar" >/dev/null
	podman load -q -i "$tar" >/dev/null
	ctr images import "$tar" >/dev/null
}

main "$@"
