#!/usr/bin/env bash
# hack/suites.sh SUITE [--source DIR|URL] [--times N] [--runtime NAME] [FILE...]: runs
# a suite that others wrote to judge OCI runtimes, or some of its files, N times:
#
#   runtime-tools  validation programs of opencontainers/runtime-tools
#   bats           integration tests of opencontainers/runc
#   crun           Python tests of containers/crun
#   schema         fixtures of the JSON schema of opencontainers/runtime-spec
#   table          writes docs/suites.md from the results
#
# The runtime is bin/vmruntime, or another by its name, such as runc. A source tree
# is taken from --source and kept in build/suites/src; runtime-tools is a Go module.
# Results are in build/suites/results/SUITE/RUNTIME/FILE.json, and FILE.log beside it
# has what a case printed. What a VM cannot pass is in hack/suites/reasons.tsv.
# It needs root, and bats, gawk, python3, script and xz beside what setup.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

top=$PWD
src=$top/build/suites/src
source=
times=1
runtime=vmruntime

# The files of runc's that make sense for a VM. The others look at the host's
# cgroups, or hand descriptors, devices or namespaces of the host over.
bats_files='capabilities create cwd debug delete dev env exec help hooks kill list mask mounts mounts_recursive
	pause personality ps rlimits root run seccomp spec start start_detached start_hello state timens tty umask version'

# Not those of crun's own features, and not what looks at the host.
crun_files='test_capabilities test_create test_cwd test_delete test_detach test_devices test_domainname
	test_error_handling test_exec test_hooks test_hostname test_io_priority test_limits test_linux_features test_mounts
	test_namespaces test_oci_features test_paths test_pid test_pid_file test_resources test_rlimits test_scheduler
	test_seccomp test_start test_terminal test_time test_tty test_uid_gid'

main() {
	local suite=${1-} files
	[ $# -gt 0 ] && shift
	while [ $# -gt 0 ]; do
		case $1 in
		--source | --times | --runtime)
			[ $# -gt 1 ] || die "$1: needs a value"
			printf -v "${1#--}" %s "$2"
			shift 2
			;;
		-*) die "$1: unknown option" ;;
		*) break ;;
		esac
	done
	case $suite in
	table) exec hack/suites/table.py ;;
	runtime-tools | bats | crun | schema) ;;
	*) die "usage: hack/suites.sh runtime-tools|bats|crun|schema|table [--source DIR|URL] [--times N] [--runtime NAME] [FILE...]" ;;
	esac
	[ "$(id -u)" = 0 ] || die "run it as root"
	find_runtime
	"get_${suite/-/_}"
	mapfile -t files < <(files_of "$suite" "$@")
	exec hack/suites/run.py "$suite" "$runtime" "$runtime_path" "$times" "${files[@]}"
}

find_runtime() {
	if [ "$runtime" = vmruntime ]; then
		runtime_path=$top/bin/vmruntime
		[ -e build/guest/guest.json ] || die "nothing to test: run make build guest"
		# The first container's size, so that no case waits for it.
		"$runtime_path" template build >&2
		return
	fi
	runtime_path=$(command -v "$runtime") || die "--runtime $runtime: no such program"
	runtime=$(basename "$runtime_path")
}

# files_of prints the given files, or all that a suite has for a VM.
files_of() {
	local suite=$1
	shift
	case $suite:$# in
	bats:0) tr -s '\n\t ' '\n' <<<"$bats_files" ;;
	crun:0) tr -s '\n\t ' '\n' <<<"$crun_files" ;;
	runtime-tools:0) find "$src/runtime-tools/validation" -name '*.t' -printf '%f\n' | sed 's/\.t$//' | sort ;;
	schema:0) printf '%s\n' good bad ;;
	*) printf '%s\n' "$@" ;;
	esac | grep .
}

# get_tree puts the tree of --source into build/suites/src/NAME, unless it is there.
get_tree() {
	local name=$1 url=$2
	if [ -z "$source" ]; then
		[ -d "$src/$name" ] || die "--source: name a tree of $url, or its URL"
		return
	fi
	rm -rf "${src:?}/$name" "$src/$name.new"
	mkdir -p "$src"
	if [ -d "$source" ]; then
		cp -r "$source" "$src/$name.new"
	else
		git clone --quiet --depth 1 "$source" "$src/$name.new"
	fi
	mv "$src/$name.new" "$src/$name"
}

# get_runtime_tools builds the programs. The module is older than go.mod files: its
# dependencies are ours to choose.
get_runtime_tools() {
	local dir=$src/runtime-tools program
	[ ! -e "$dir/runtimetest" ] || return 0
	rm -rf "$dir"
	mkdir -p "$src"
	cp -r "$(cd / && go mod download -json github.com/opencontainers/runtime-tools@v0.9.0 | jq -er .Dir)" "$dir"
	chmod -R u+w "$dir"
	cp hack/suites/runtime-tools.mod "$dir/go.mod"
	for program in "$dir"/validation/*/; do
		program=$(basename "$program")
		[ "$program" = util ] || (cd "$dir" && go build -mod=mod -o "validation/$program.t" "./validation/$program")
	done
	(cd "$dir" && CGO_ENABLED=0 go build -mod=mod -o runtimetest ./cmd/runtimetest)
}

# get_bats makes runc's helpers, and the images where its tests look for them.
get_bats() {
	local dir=$src/runc images=$src/runc/tests/integration/testdata
	get_tree runc https://github.com/opencontainers/runc
	[ -e "$dir/tests/cmd/_bin/recvtty" ] || make -s -C "$dir" test-binaries
	if [ ! -e "$images/busybox-amd64.tar.xz" ]; then
		busybox_root "$dir/busybox"
		tar -C "$dir/busybox" -cJf "$images/busybox-amd64.tar.xz" .
	fi
	if [ ! -e "$images/debian-amd64.tar.xz" ]; then
		hack/rootfs.sh
		tar -C build/rootfs --exclude ./dev -c . | xz -0 >"$images/debian-amd64.tar.xz"
	fi
}

# busybox_root makes DIR a root filesystem like busybox's image.
busybox_root() {
	local dir=$1 applet
	rm -rf "$dir"
	mkdir -p "$dir"/{bin,dev,etc,home,root,sbin,tmp,usr/bin,usr/sbin,var/spool/mail,var/www}
	chmod 1777 "$dir/tmp"
	cp /bin/busybox "$dir/bin/busybox"
	for applet in $(/bin/busybox --list); do
		[ -e "$dir/bin/$applet" ] || ln "$dir/bin/busybox" "$dir/bin/$applet"
	done
	printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'daemon:x:1:1:daemon:/usr/sbin:/bin/false' \
		'nobody:x:65534:65534:nobody:/home:/bin/false' >"$dir/etc/passwd"
	printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'tty:x:5:' 'users:x:100:' 'nogroup:x:65534:' >"$dir/etc/group"
}

# get_crun builds the one program that all containers of its tests run.
get_crun() {
	local dir=$src/crun/tests
	get_tree crun https://github.com/containers/crun
	[ -e "$dir/init" ] || {
		printf '#define HAVE_SECCOMP 1\n' >"$dir/config.h"
		gcc -O2 -static -I"$dir" -o "$dir/init" "$dir/init.c" -lseccomp
	}
}

get_schema() {
	get_tree runtime-spec https://github.com/opencontainers/runtime-spec
}

main "$@"
