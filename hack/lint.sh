#!/usr/bin/env bash
# gofmt, golangci-lint and shellcheck over the whole checkout; all of them run
# even where one complains.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# ours lists the files that match, committed or not yet.
ours() {
	git ls-files -z --cached --others --exclude-standard -- "$@"
}

failed=0
[ -x build/tools/golangci-lint ] || die "no build/tools/golangci-lint: run hack/setup.sh"

say gofmt
unformatted=$(ours '*.go' | xargs -0 -r gofmt -l)
if [ -n "$unformatted" ]; then
	say "not formatted (gofmt -w): $unformatted"
	failed=1
fi

say shellcheck
ours '*.sh' .ci/run | xargs -0 -r shellcheck -x || failed=1

say golangci-lint
build/tools/golangci-lint run ./... || failed=1

say "the Nova driver"
hack/nova.sh lint || failed=1

exit "$failed"
