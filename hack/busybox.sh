#!/usr/bin/env bash
# hack/busybox.sh [DIR]: makes DIR, build/busybox by default, a root filesystem of
# Debian's static busybox with a link for each of its programs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

dir=${1-build/busybox}

[ ! -d "$dir" ] || exit 0
rm -rf --one-file-system "$dir.new"
mkdir -p "$dir.new"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,var}
chmod 1777 "$dir.new/tmp"
cp /bin/busybox "$dir.new/bin/busybox"
/bin/busybox --list | grep -vx busybox | while read -r name; do
	ln -s busybox "$dir.new/bin/$name"
done
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'app:x:1000:1000:app:/home:/bin/sh' \
	'nobody:x:65534:65534:nobody:/:/bin/false' >"$dir.new/etc/passwd"
printf '%s\n' 'root:x:0:' 'app:x:1000:' 'extra:x:2000:app' 'nogroup:x:65534:' >"$dir.new/etc/group"
mv "$dir.new" "$dir"
