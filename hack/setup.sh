#!/usr/bin/env bash
# Installs what a Debian 12 machine lacks to build, run and test vmruntime.
# Run as root. Safe to repeat; where nothing is missing it changes nothing and
# takes a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# package  why
packages='
ca-certificates            downloads of Go modules are checked against them
gcc                        cgo: libvirt and libseccomp are called from C
libc6-dev                  cgo: headers of the C library
pkg-config                 cgo: finds libseccomp
libseccomp-dev             compiles seccomp filters on the host
make                       the Makefile
git                        version and commit of the build
qemu-system-x86            runs the virtual machines
qemu-utils                 qemu-img: overlays on base images, disks in the format qcow2
qemu-system-common         virtiofsd, the second transport of files
libvirt0                   the libvirt library, loaded when a VM starts
libvirt-daemon             the connection modules that come with libvirtd
libvirt-daemon-driver-qemu the QEMU driver, embedded and in libvirtd
libvirt-daemon-system      libvirtd, for qemu:///system
libvirt-clients            virsh, to look at domains
tini                       reaps what a libvirtd leaves to init, where init does not
busybox-static             small root filesystems in tests
syslinux                   starts disks with a BIOS, and the cloud image in tests
mtools                     makes the FAT of their boot partitions without mounting it
fdisk                      sfdisk: partitions of the cloud image, and a look at those of disks
e2fsprogs                  mke2fs: images of what containers write, and the root of the cloud image
mmdebstrap                 the Debian root filesystem of the demo and the tests
runc                       the reference that tests compare with
crun                       another one, of benchmarks
docker.io                  an engine, for the tests with engines
containerd                 another one
podman                     another one
conmon                     supervises what podman starts
catatonit                  podman run --init
containernetworking-plugins networks of podman
iptables                   engines publish ports with it
cloud-init                 checks the seed against its schema
erofs-utils                images of root filesystems, read-only
syslinux-common            its code for the first sector of a disk
systemd-boot-efi           starts disks with UEFI
ovmf                       UEFI of virtual machines, for the tests of disks
genisoimage                isoinfo, an independent reader of the seed ISO
iperf3                     network throughput, in benchmarks
redis-tools                redis-benchmark, against a redis in a container
jq                         scripts read JSON with it
iproute2                   scripts and tests look at links and namespaces
procps                     scripts and tests look at processes
util-linux                 flock, nsenter, unshare and script in tests
shellcheck                 lints the shell scripts
'

# The kernel that guests boot: its package is unpacked, never installed. The
# cloud flavour has no 9p.
kernel_package=linux-image-amd64

# Debian 12 has Go 1.19, too old for go.mod, but able to fetch a newer one from
# the module proxy, checked against the checksum database.
go_version=1.26.8
golangci_version=v2.15.0

main() {
	[ "$(id -u)" = 0 ] || die "run it as root: it installs packages"
	install_packages
	install_go
	fetch_kernel
	install_golangci
	say "ready"
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing: ${missing[*]}"
	apt update
	# Nothing may start on installation: policy-rc.d is what invoke-rc.d asks.
	apt install --no-install-recommends "${missing[@]}"
}

missing_packages() {
	local name
	while read -r name _; do
		[ -z "$name" ] || installed "$name" || echo "$name"
	done <<<"$packages"
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# apt runs apt-get without questions; what it prints appears only if it fails.
apt() {
	local log
	log=$(mktemp)
	say "apt-get $1"
	if ! DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		rm -f "$log"
		die "apt-get $* failed"
	fi
	rm -f "$log"
}

install_go() {
	if go_is_new_enough; then
		return
	fi
	[ ! -e /usr/local/go ] || die "$(go version 2>&1 | head -n 1): go.mod needs Go ${go_version%.*}; replace /usr/local/go or put a newer go in PATH"
	say "Go $go_version from the Go module proxy"
	installed golang-go || apt install --no-install-recommends golang-go
	unpack_go "$(download_go)" /usr/local/go
}

# A Go since 1.21 that may fetch toolchains counts as new enough.
go_is_new_enough() {
	command -v go >/dev/null && go list -m >/dev/null 2>&1
}

# Outside of this module, whose go.mod an old Go cannot parse.
download_go() {
	(cd / && /usr/bin/go mod download -json "golang.org/toolchain@v0.0.1-go$go_version.linux-amd64") | jq -er .Dir
}

# In a module zip no file is executable and every go.mod but its own has
# another name.
unpack_go() {
	local from=$1 to=$2
	cp -r "$from" "$to.new"
	chmod -R u+w "$to.new"
	chmod 0755 "$to.new"/bin/* "$to.new"/pkg/tool/*/*
	find "$to.new" -name _go.mod -execdir mv {} go.mod \;
	mv "$to.new" "$to"
}

fetch_kernel() {
	mkdir -p build/kernel
	[ -z "$(kernel_deb)" ] || return 0
	local name
	name=$(kernel_name) || { apt update && name=$(kernel_name); } || die "no package $kernel_package in the apt sources"
	say "downloading $name"
	download_kernel "$name" || { apt update && download_kernel "$(kernel_name)"; } || die "download of $name failed"
	mv build/kernel/tmp/*.deb build/kernel/
	rm -r build/kernel/tmp
}

kernel_deb() {
	find build/kernel -maxdepth 1 -name '*.deb' | head -n 1
}

# kernel_name is the package that the metapackage stands for.
kernel_name() {
	apt-cache depends "$kernel_package" 2>/dev/null | awk '/Depends: linux-image-[0-9]/ { print $2; found = 1; exit } END { exit !found }'
}

# World-readable, because apt downloads as a user of its own.
download_kernel() {
	rm -rf build/kernel/tmp
	mkdir -p build/kernel/tmp
	(cd build/kernel/tmp && apt-get -q -o APT::Sandbox::User=root download "$1" >/dev/null)
}

install_golangci() {
	local bin=build/tools/golangci-lint
	if [ -x "$bin" ] && [[ "$("$bin" version --short 2>/dev/null)" == "${golangci_version#v}" ]]; then
		return
	fi
	say "building golangci-lint $golangci_version (some minutes on the first time)"
	GOBIN=$PWD/build/tools GOFLAGS='' go install -v \
		"github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$golangci_version" 2>&1 | count_packages
}

# count_packages makes a sign of life of go's list of packages. What else go
# says has a space or a colon.
count_packages() {
	awk '/^go: downloading/ { next }
		/[ :]/ { print; next }
		++n % 200 == 0 { print "  " n " packages"; fflush() }'
}

main "$@"
