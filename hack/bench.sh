#!/usr/bin/env bash
# hack/bench.sh [-rows NAME,...] [-rounds N]: sets the machine up, builds, and
# measures vmruntime beside bare QEMU, libvirt, runc and crun, alone and beside
# engines; docs/bench/ gets the data, the pictures and the page. Run as root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# measure runs bench below a subreaper that reaps at once, as engines do, and in
# mounts of its own.
measure() {
	# shellcheck disable=SC2016 # the inner shell expands it
	unshare -m --propagation slave sh -c '
		# crun refuses to run where version 2 of cgroups has controllers beside version 1.
		umount /sys/fs/cgroup/unified 2>/dev/null
		exec tini -s -- build/bench/bench "$@"' sh -out docs/bench "$@"
}

phase setup hack/setup.sh
phase build make --no-print-directory build guest build/bench/bench build/bench/init build/bench/vmlinuz
# One of an older checkout lacks packages.
[ -e build/bench/rootfs/usr/bin/iperf3 ] || rm -rf --one-file-system build/bench/rootfs
phase rootfs hack/rootfs.sh build/bench/rootfs fio iperf3
phase image hack/image.sh bench build/bench/rootfs
phase cloudimage hack/cloudimage.sh
phase measure measure "$@"
timings
