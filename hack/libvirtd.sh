#!/usr/bin/env bash
# hack/libvirtd.sh start|stop|status: libvirtd for qemu:///system on a machine
# where no service manager runs it, as in a container or on a CI machine.
#
# start puts the settings that vmruntime needs into /etc/libvirt/qemu.conf, in a
# marked block that stop takes out again. A libvirtd that runs already belongs
# to somebody else: it is used as it is and never stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

state=/run/vmruntime-libvirtd
conf=/etc/libvirt/qemu.conf
uri=qemu:///system
seconds=60

main() {
	case ${1-} in
	start) start ;;
	stop) stop ;;
	status) status ;;
	*) die "usage: $0 start|stop|status" ;;
	esac
}

start() {
	[ "$(id -u)" = 0 ] || die "run it as root"
	if answers; then
		use_running
		return
	fi
	# What an interrupted run left.
	stop
	mkdir -p "$state"
	[ -e /run/libvirt ] || touch "$state/made-run-libvirt"
	write_settings
	close_inherited
	daemon virtlogd
	reaped libvirtd
	answers || die "libvirtd started, but does not answer on $uri within $seconds s: see $state/libvirtd.log"
	say "libvirtd runs, pid $(cat "$state/libvirtd.pid"), log $state/libvirtd.log"
}

# answers waits for the drivers too: libvirtd accepts at once, but holds a
# connection's first call back until they are up.
answers() {
	[ -S /run/libvirt/libvirt-sock ] && timeout "$seconds" virsh -q -c "$uri" version >/dev/null 2>&1 </dev/null
}

status() {
	answers || die "no libvirtd answers on $uri"
	say "libvirtd answers on $uri"
}

use_running() {
	[ -e "$state/libvirtd.pid" ] || grep -q '^clear_emulator_capabilities *= *0' "$conf" ||
		die "the running libvirtd takes from QEMU what 9p needs: put this into $conf and restart it:
$settings"
	say "libvirtd runs already"
}

# With --daemon it returns once it listens, or fails.
daemon() {
	local name=$1
	LIBVIRT_LOG_OUTPUTS="3:file:$state/$name.log" timeout "$seconds" \
		"$name" --daemon --pid-file "$state/$name.pid" </dev/null >"$state/$name.out" 2>&1 ||
		die "$name does not start: $(tail -n 5 "$state/$name.out" "$state/$name.log" 2>/dev/null)"
}

# libvirtd waits for the QEMUs that it probes, which are daemons: an init that is
# slow to reap them, as in many containers, costs it fifteen seconds each.
reaped() {
	local name=$1
	LIBVIRT_LOG_OUTPUTS="3:file:$state/$name.log" setsid tini -s -- \
		"$name" --pid-file "$state/$name.pid" </dev/null >"$state/$name.out" 2>&1 &
	timeout "$seconds" sh -c 'until [ -S /run/libvirt/libvirt-sock ]; do sleep 0.1; done' ||
		die "$name does not start: $(tail -n 5 "$state/$name.out" "$state/$name.log" 2>/dev/null)"
}

stop() {
	[ -d "$state" ] || return 0
	end_domains
	end_daemon libvirtd
	end_daemon virtlogd
	remove_settings
	remove_traces
}

end_domains() {
	local name
	answers || return 0
	virsh -q -c "$uri" list --name </dev/null | { grep '^vmruntime-' || true; } | while read -r name; do
		say "ending the domain $name that is still there"
		virsh -q -c "$uri" destroy "$name" </dev/null || true
	done
}

end_daemon() {
	local name=$1 pid
	pid=$(cat "$state/$name.pid" 2>/dev/null) || return 0
	# The number may belong to another process by now.
	[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] || return 0
	kill "$pid" 2>/dev/null || return 0
	timeout 30 tail --pid="$pid" -s 0.1 -f /dev/null || die "$name, pid $pid, does not end"
	say "$name stopped"
}

# The first of two equal settings counts, so ours come first.
write_settings() {
	remove_settings
	printf '%s\n' "$begin" "$settings" "$end" | cat - "$conf" >"$state/qemu.conf"
	# Not renamed into place: the file keeps its owner and mode.
	cat "$state/qemu.conf" >"$conf"
}

remove_settings() {
	[ ! -e "$conf" ] || sed -i "\\|^$begin\$|,\\|^$end\$|d" "$conf"
}

begin='# vmruntime begin: hack/libvirtd.sh stop removes this block'
end='# vmruntime end'
settings='# 9p creates files as the users of the container: QEMU runs as root and keeps the
# capabilities for that; the emulator wrapper drops all others.
clear_emulator_capabilities = 0
# Where no udev gives /dev/kvm to its group, libvirt as another user finds its
# own probes of QEMU outdated each time.
user = "root"
group = "root"'

remove_traces() {
	[ ! -e "$state/made-run-libvirt" ] || rm -rf /run/libvirt
	# The parent cgroup of all domains; a domain in it keeps it.
	find /sys/fs/cgroup -maxdepth 2 -type d -name machine -exec rmdir {} \; 2>/dev/null || true
	rm -rf "$state"
}

main "$@"
