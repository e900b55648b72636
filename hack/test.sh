#!/usr/bin/env bash
# hack/test.sh [lint] [unit] [nova] [integration] [engines]: sets the machine up, builds what that
# needs, and runs what is named, all of it even where something fails. Logs are in
# build/test/.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

logs=build/test
failed=()

# gotest NAME ARGUMENTS... prints what fails, what is skipped and what is slow,
# and keeps everything in a log.
gotest() {
	local name=$1
	shift
	go test -tags libvirt_dlopen -json "$@" </dev/null |
		tee "$logs/$name.json" | jq -nRrj --unbuffered -f hack/gotest.jq
}

unit() {
	mapfile -t packages < <(go list -tags libvirt_dlopen ./... | grep -v '/integration')
	gotest unit -race "${packages[@]}"
}

# Those of the Nova driver that need no Nova, or all of them where there is one.
nova() {
	hack/nova.sh test
}

# Never cached: what these tests look at is not only Go sources.
integration() {
	if ! hack/libvirtd.sh status 2>/dev/null; then
		trap 'hack/libvirtd.sh stop' EXIT
		hack/libvirtd.sh start || return
	fi
	local timeout=50m
	[ "${VMRUNTIME_SOAK-}" != 1 ] || timeout=4h
	# The agent's own scenarios are tried in a VM as well. One package at a time:
	# machines are slow enough without others beside them.
	VMRUNTIME_GUEST=$PWD/build/guest gotest integration -count=1 -p 1 -timeout "$timeout" ./agent ./integration
}

# With containerd, dockerd and podman. UPDATE=1 writes the tables of README.md.
engines() {
	local timeout=50m
	[ "${VMRUNTIME_SOAK-}" != 1 ] || timeout=2h
	gotest engines -count=1 -timeout "$timeout" ./integration/engines ${UPDATE:+-update}
}

try() {
	phase "$1" "${@:2}" || failed+=("$1")
}

prepare() {
	phase setup hack/setup.sh
	[[ " $* " == *" integration "* || " $* " == *" engines "* ]] || return 0
	phase build make --no-print-directory build
	phase guest make --no-print-directory guest
	phase rootfs hack/rootfs.sh
	[[ " $* " != *" integration "* ]] || phase cloudimage hack/cloudimage.sh
	[[ " $* " != *" engines "* ]] || phase software hack/software.sh
	# Without it a test is skipped, with the reason.
	[[ " $* " != *" engines "* ]] || phase containerd hack/containerd.sh || true
}

summary() {
	printf '\n== summary\n'
	timings
	for log in "$logs"/*.json; do
		[ -e "$log" ] || continue
		jq -rs --arg name "$(basename "$log" .json)" '
			[.[] | select(.Test and (.Action | IN("pass", "fail", "skip"))) | .Action] |
			"  \($name): \(map(select(. == "pass")) | length) passed, \(map(select(. == "fail")) | length) failed, \(map(select(. == "skip")) | length) skipped"' "$log"
	done
	jq -rj 'select(.Action == "output" and (.Test | not) and (.Output | test("^(ok|FAIL|---|\\?) *\\t"))) | .Output' "$logs"/*.json 2>/dev/null || true
	[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
}

rm -rf "$logs"
mkdir -p "$logs"
prepare "$@"
for name; do
	case $name in
	lint) try lint hack/lint.sh ;;
	unit | nova | integration | engines) try "$name" "$name" ;;
	*) die "unknown: $name" ;;
	esac
done
summary
