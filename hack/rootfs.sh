#!/usr/bin/env bash
# hack/rootfs.sh [DIR [PACKAGE...]]: makes DIR, build/rootfs by default, a minimal
# Debian 12 with these packages on top, from the mirror that apt uses. It is made
# once; remove it for a fresh one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

dir=${1-build/rootfs}
packages=("${@:2}")

[ ! -d "$dir" ] || exit 0
bootstrap "$dir" ${packages[@]+--include="$(IFS=,; echo "${packages[*]}")"}
