#!/usr/bin/env bash
# Makes build/rootfs, a minimal Debian 12 from the mirror that apt uses. It is
# made once; remove it for a fresh one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

suite=bookworm

mirror() {
	local uri
	# shellcheck disable=SC2016 # apt expands it
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $suite" 2>/dev/null | head -n 1)
	echo "${uri:-http://deb.debian.org/debian}"
}

[ ! -d build/rootfs ] || exit 0
say "Debian $suite from $(mirror)"
rm -rf --one-file-system build/rootfs.new
mkdir -p build
mmdebstrap --variant=minbase --aptopt='Acquire::Languages "none"' "$suite" build/rootfs.new "$(mirror)"
mv build/rootfs.new build/rootfs
