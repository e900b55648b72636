#!/usr/bin/env bash
# "make run": from a fresh machine to a container in a VM of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

bundle=build/demo
id=demo-$$

# What the container runs.
# shellcheck disable=SC2016 # for the container's shell
command='echo "kernel $(uname -r), up $(cut -d" " -f1 /proc/uptime) s"; cat /etc/os-release; id'

make_bundle() {
	mkdir -p "$bundle"
	rm -f "$bundle/config.json"
	bin/vmruntime spec -b "$bundle"
	jq --arg root "$PWD/build/rootfs" --arg command "$command" '
		.root = {path: $root, readonly: true} |
		.process.terminal = false |
		.process.args = ["sh", "-c", $command]' "$bundle/config.json" >"$bundle/config.json.new"
	mv "$bundle/config.json.new" "$bundle/config.json"
}

container() {
	echo "\$ bin/vmruntime run -b $bundle $id"
	bin/vmruntime run -b "$bundle" "$id" </dev/null | tee "$bundle/output" | sed 's/^/    /'
}

compare() {
	printf '\n== host and guest\n'
	printf '  host       kernel %s, up %s s\n' "$(uname -r)" "$(cut -d' ' -f1 /proc/uptime)"
	printf '  container  %s\n' "$(head -n 1 "$bundle/output")"
}

phase setup hack/setup.sh
phase build make --no-print-directory build
phase guest make --no-print-directory guest
phase rootfs hack/rootfs.sh
make_bundle
phase container container
compare
printf '\n== how long it took\n'
timings
