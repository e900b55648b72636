#!/usr/bin/env bash
# hack/software.sh: makes build/images/software.tar, an image with servers of
# Debian 12 that people run in containers, and in /repo an apt repository for a
# package that a test installs in the running container. It is made once; remove it
# for a fresh one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

servers=(nginx-light redis-server postgresql-15 python3-minimal sqlite3 inotify-tools)
# One with dependencies, with a large file to map and with triggers; and one with
# alternatives.
further=(file libmagic1 libmagic-mgc less)
# PostgreSQL's JIT compiler is as large as the rest of it.
excludes=('/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*' '*/libLLVM*' '*/llvmjit*')
dir=build/software

main() {
	if [ "${1-}" = --repository ]; then
		repository "$2"
		return
	fi
	[ ! -e build/images/software.tar ] || return 0
	rm -rf --one-file-system "$dir"
	bootstrap "$dir" --include="$(IFS=,; echo "${servers[*]}")" \
		"${excludes[@]/#/--dpkgopt=path-exclude=}" --customize-hook="hack/software.sh --repository \"\$1\""
	hack/image.sh software "$dir"
	rm -rf --one-file-system "$dir"
}

# repository fills /repo of a root filesystem whose apt can download.
repository() {
	chroot "$1" sh -eu -s "${further[@]}" <<-'END'
		mkdir /repo
		cd /repo
		apt-get -q -o APT::Sandbox::User=root download "$@"
		for deb in *.deb; do
			dpkg-deb --field "$deb"
			echo "Filename: ./$deb"
			echo "Size: $(stat -c %s "$deb")"
			echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"
			echo
		done >Packages
		rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
		echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list
	END
}

main "$@"
