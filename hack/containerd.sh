#!/usr/bin/env bash
# hack/containerd.sh: builds a newer containerd than Debian's, with its client and
# its shim, into build/tools/containerd-VERSION, from the Go module proxy. It is
# built once.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

version=v2.4.2
dir=$PWD/build/tools/containerd-$version

[ ! -x "$dir/containerd" ] || exit 0
say "building containerd $version"
# Outside of this module, whose go.mod is not containerd's.
(cd / && GOBIN=$dir.new CGO_ENABLED=0 GOFLAGS='' go install \
	github.com/containerd/containerd/v2/cmd/{containerd,ctr,containerd-shim-runc-v2}@$version) 2>&1 | { grep -v '^go: downloading' || true; }
mv "$dir.new" "$dir"
