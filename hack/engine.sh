#!/usr/bin/env bash
# hack/engine.sh start|stop|kill containerd|dockerd: starts a daemon and waits
# until it answers, stops it, or kills it, inside hack/engines.sh. Containers stay.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=hack/lib.sh
. "$here/hack/lib.sh"

state=/run/engines
seconds=120

main() {
	[ $# = 2 ] || die "usage: $0 start|stop|kill containerd|dockerd"
	[ -d "$state" ] || die "there are no engines: run it inside hack/engines.sh"
	pidfile=$state/$2.pid log=$state/$2.log
	case "$1 $2" in
	'start containerd') start "$2" ctr version ;;
	'start dockerd') start "$2" docker version ;;
	'stop '*) end "$2" TERM ;;
	'kill '*) end "$2" KILL ;;
	*) die "unknown: $*" ;;
	esac
}

# start NAME QUESTION...: QUESTION succeeds once the daemon answers.
start() {
	local name=$1 deadline=$((SECONDS + seconds))
	shift
	close_inherited
	[ "$name" != dockerd ] || rm -f /run/docker.pid
	TMPDIR=$state/tmp setsid "$name" </dev/null >>"$log" 2>&1 &
	echo $! >"$pidfile"
	until "$@" >/dev/null 2>&1 </dev/null; do
		kill -0 $! 2>/dev/null || die "$name has ended: $(tail -n 5 "$log")"
		[ "$SECONDS" -lt "$deadline" ] || die "$name does not answer within $seconds s: $(tail -n 5 "$log")"
		sleep 0.1
	done
}

end() {
	local pid
	pid=$(cat "$pidfile") || die "$1 does not run"
	kill -"$2" "$pid"
	timeout "$seconds" tail --pid="$pid" -s 0.1 -f /dev/null || die "$1, pid $pid, does not end"
	rm -f "$pidfile"
}

main "$@"
