#!/usr/bin/env bash
# The Nova driver: hack/nova.sh setup | lint | test | functional | live [TEST...] | tempest [REGEX]
#
#   setup       installs Debian's Nova, for the tests with it, and linters (as root, 60 MB)
#   lint        mypy and flake8, or ruff where there is one
#   test        the tests of modules and Nova's contract; without Nova what needs it is skipped
#   functional  Nova's services in one process, with the driver (some minutes)
#   live        a whole OpenStack and real machines (as root, in namespaces of its own; hack/openstack.sh
#               setup and make build guest come first), all tests or those that are named
#   tempest     the same with OpenStack's own tests, with runc and with vmruntime, side by side (all or
#               those that match; nova/tests/live_tempest.py)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# Debian's own: where there is another python3, it has no Nova.
python=/usr/bin/python3

packages=(
	python3-nova
	# api-paste.ini, for the functional tests.
	nova-common
	# What Nova's tests import.
	python3-oslotest python3-ddt python3-requests-mock python3-wsgi-intercept python3-gabbi
	mypy flake8
)

setup() {
	[ "$(id -u)" = 0 ] || die "run it as root: it installs packages"
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" </dev/null
}

# lint says what it could not look with. Tests are Nova's classes for the most part,
# which have no types.
lint() {
	local failed=0
	if command -v mypy >/dev/null; then
		(cd nova && mypy --no-error-summary vmruntime_nova) || failed=1
	else
		say "no mypy: types are not checked; hack/nova.sh setup installs it"
	fi
	if command -v ruff >/dev/null; then
		(cd nova && ruff check .) || failed=1
	elif command -v flake8 >/dev/null; then
		(cd nova && flake8) || failed=1
	else
		say "no ruff and no flake8: style is not checked; hack/nova.sh setup installs flake8"
	fi
	return "$failed"
}

run_tests() {
	(cd nova && "$python" -W ignore -m unittest discover -s tests -t . </dev/null)
}

run_functional() {
	(cd nova && "$python" -W ignore -m unittest -v tests.functional </dev/null)
}

# live runs a module of Python with an OpenStack around, and has no host around: another OpenStack, its bridges
# and namespaces, or vmruntime's other containers are not seen from here, and end with it in any case.
live() {
	[ "$(id -u)" = 0 ] || die "run it as root: containers need it"
	exec unshare --mount --propagation private --pid --fork --kill-child --ipc --net \
		"$BASH" -euo pipefail -c "$(declare -f alone with_openstack say die); alone; with_openstack \"\$@\"" "$0" \
		"$python" -W ignore -m "$@"
}

# alone sees the processes, links and runtime state of its own namespaces only.
alone() {
	mount -t proc proc /proc
	local cgroups
	cgroups=$(mktemp -d)
	mount --rbind /sys/fs/cgroup "$cgroups"
	mount -t sysfs sysfs /sys
	mount --rbind "$cgroups" /sys/fs/cgroup
	umount -R "$cgroups"
	rmdir "$cgroups"
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -m 1777 /run/lock
	ip link set lo up
}

with_openstack() {
	export NOVA_DIR
	NOVA_DIR=$(mktemp -d)/openstack
	# The database has a user of its own.
	chmod 755 "${NOVA_DIR%/*}"
	trap 'NOVA_KEEP_LOGS=build/nova hack/openstack.sh down; rmdir "${NOVA_DIR%/*}"' EXIT
	hack/openstack.sh up
	# shellcheck disable=SC1091
	. "$NOVA_DIR/openrc"
	(cd nova && "$@" </dev/null)
}

case ${1-} in
setup) setup ;;
lint) lint ;;
test) run_tests ;;
functional) run_functional ;;
live) shift && live unittest -v "${@:-tests.live}" ;;
tempest) live tests.live_tempest "${@:2}" ;;
*) die "usage: hack/nova.sh setup | lint | test | functional | live [TEST...] | tempest [REGEX]" ;;
esac
