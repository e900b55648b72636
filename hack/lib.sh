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

# bootstrap DIR OPTIONS... makes a minimal Debian 12 from the mirror that apt uses.
bootstrap() {
	local dir=$1 suite=bookworm mirror
	mirror=$(debian_mirror "$suite")
	say "Debian $suite from $mirror in $dir"
	rm -rf --one-file-system "$dir.new"
	mkdir -p "$(dirname "$dir")"
	mmdebstrap --variant=minbase --aptopt='Acquire::Languages "none"' "${@:2}" "$suite" "$dir.new" "$mirror"
	mv "$dir.new" "$dir"
}

debian_mirror() {
	local uri
	# shellcheck disable=SC2016 # apt expands it
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $1" 2>/dev/null | head -n 1)
	echo "${uri:-http://deb.debian.org/debian}"
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
