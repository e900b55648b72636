# shellcheck shell=bash
# What the scripts here share. Sourced, from the top of the checkout.

# Where setup.sh puts Go if the machine has none, and before the old one of the
# distribution that it fetched it with.
export PATH=/usr/local/go/bin:$PATH

say() {
	printf '%s: %s\n' "${0##*/}" "$*"
}

die() {
	say "$*" >&2
	exit 1
}

# close_inherited closes every descriptor from 3 on, so that a daemon does not
# keep the caller's pipes and locks open.
close_inherited() {
	local fd
	for fd in /proc/self/fd/*; do
		fd=${fd##*/}
		# 255 is what bash reads the script from.
		[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
	done
}

# phase runs a command under a name and keeps how long it took for timings.
phase() {
	local name=$1 begin=$EPOCHREALTIME status=0 microseconds
	shift
	printf '\n== %s\n' "$name"
	"$@" || status=$?
	microseconds=$((${EPOCHREALTIME/./} - ${begin/./}))
	phases+=("$(printf '%-12s %4d.%d s' "$name" $((microseconds / 1000000)) $((microseconds / 100000 % 10)))")
	return "$status"
}

phases=()

timings() {
	printf '  %s\n' "${phases[@]}"
}
