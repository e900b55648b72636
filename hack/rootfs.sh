#!/usr/bin/env bash
# hack/rootfs.sh [DIR [PACKAGE...]]: makes DIR, build/rootfs by default, a minimal
# Debian 12 with these packages on top, from the mirror that apt uses. It is made
# once; remove it for a fresh one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

suite=bookworm
dir=${1-build/rootfs}
packages=("${@:2}")

mirror() {
	local uri
	# shellcheck disable=SC2016 # apt expands it
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $suite" 2>/dev/null | head -n 1)
	echo "${uri:-http://deb.debian.org/debian}"
}

[ ! -d "$dir" ] || exit 0
say "Debian $suite from $(mirror) in $dir"
rm -rf --one-file-system "$dir.new"
mkdir -p "$(dirname "$dir")"
mmdebstrap --variant=minbase --aptopt='Acquire::Languages "none"' ${packages[@]+--include="$(IFS=,; echo "${packages[*]}")"} \
	"$suite" "$dir.new" "$(mirror)"
mv "$dir.new" "$dir"
