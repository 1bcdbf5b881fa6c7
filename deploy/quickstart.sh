#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Ringpost from nothing to mail that arrives, on a fresh Debian 12: installs packages, builds the
# release, starts ringpostd on unprivileged ports with the embedded queue and a catching sink behind
# it, sends mails through it with swaks, and shows them, the metrics and the log.
#
#   deploy/quickstart.sh           leaves it running until Ctrl-C
#   deploy/quickstart.sh --once    ends by itself, with 0 only if all mails arrived
#
# Everything it writes is in one folder below /var/tmp, named at the start and removed at the end.
# Other ports: SMTP_PORT (2525), METRICS_PORT (9925), SINK_PORT (2526).
set -euo pipefail
cd "$(dirname "$0")/.."

once=false
case ${1:-} in
"") ;;
--once) once=true ;;
*)
	echo "usage: $0 [--once]" >&2
	exit 2
	;;
esac
smtp_port=${SMTP_PORT:-2525}
metrics_port=${METRICS_PORT:-9925}
sink_port=${SINK_PORT:-2526}
mails=3
wait_s=30
daemon=
sink=
probe=
folder=$(mktemp -d /var/tmp/ringpost-quickstart.XXXXXX)

say() {
	printf '\n== %s\n' "$*"
}

stop_process() {
	[ -n "$1" ] && kill -TERM "$1" 2>/dev/null || return 0
	wait "$1"
}

# Ends both in every case; the status is that of the script, or the daemon's where it did not drain.
finish() {
	local status=$?
	trap - EXIT INT TERM
	stop_process "$daemon" || status=1
	stop_process "$sink" || true
	stop_process "$probe" || true
	rm -rf "$folder"
	exit $status
}
trap finish EXIT
trap 'exit 0' INT TERM

fail() {
	echo "quickstart: $*" >&2
	cat "$folder/ringpostd.err" "$folder/log/ringpost.log" >&2 2>/dev/null || true
	exit 1
}

say "packages and release build"
tests/packages.sh quickstart
cmake --preset release
cmake --build build/release

# Started by root it becomes `nobody` once its ports are bound; otherwise it stays who you are.
mkdir "$folder/spool" "$folder/log" "$folder/arrived"
user_line=
if [ "$(id -u)" = 0 ]; then
	chmod 755 "$folder"
	chown nobody "$folder/spool" "$folder/log"
	user_line="user: nobody"
fi
cat >"$folder/ringpost.yaml" <<END
hostname: relay.example.test
$user_line
listeners:
  - { address: "127.0.0.1:$smtp_port", role: relay }
metrics: { address: "127.0.0.1:$metrics_port" }
log: { file: $folder/log/ringpost.log }
queue: { store: spool, spool: { path: $folder/spool } }
relay:
  networks: [127.0.0.0/8]
routes:
  - { domain: "*", to: "smtp://127.0.0.1:$sink_port" }
END

say "starting the sink on port $sink_port and ringpostd on port $smtp_port ($folder)"
mkfifo "$folder/sink.out"
: >"$folder/arrivals"
/usr/bin/python3 -B tests/live/sink.py --port "$sink_port" --folder "$folder/arrived" \
	--log "$folder/arrivals" >"$folder/sink.out" &
sink=$!
read -r _ <"$folder/sink.out" || fail "the sink does not start"
build/release/ringpostd --config "$folder/ringpost.yaml" 2>"$folder/ringpostd.err" &
daemon=$!
curl --fail --silent --output "$folder/ready" --retry "$wait_s" --retry-delay 1 \
	--retry-all-errors "http://127.0.0.1:$metrics_port/readyz" &
probe=$!
# Whichever comes first: the probe's end, or that of a daemon that cannot start and says why.
wait -n "$probe" "$daemon" && kill -0 "$daemon" 2>/dev/null || fail "ringpostd is not ready"

say "sending $mails mails with swaks; this is the first dialogue"
for number in $(seq "$mails"); do
	hide=--hide-all
	[ "$number" != 1 ] || hide=--hide-informational
	swaks --server 127.0.0.1 --port "$smtp_port" \
		--from you@example.test --to friend@example.org \
		--header "Subject: Mail $number through Ringpost" \
		--header "X-Mail-Id: $number" \
		--body "Kept on disk before the 250, then handed on." "$hide" ||
		fail "swaks could not send mail $number"
done

# head ends with the last arrival; tail ends with the sink.
timeout "$wait_s" head -n "$mails" < <(tail -n +1 -F --pid="$sink" "$folder/arrivals" 2>/dev/null) \
	>"$folder/seen" || fail "$(wc -l <"$folder/arrivals") of $mails mails arrived in $wait_s s"

say "arrived at the sink: $(wc -l <"$folder/seen") mails; this is the first"
cat "$folder/arrived/000001.eml"
say "metrics: http://127.0.0.1:$metrics_port/metrics"
curl --fail --silent "http://127.0.0.1:$metrics_port/metrics" >"$folder/metrics"
grep -E '^ringpost_(mails_accepted|deliveries|queue_mails|commit_seconds_(sum|count))' \
	"$folder/metrics" || fail "the metrics are not what was expected"
say "log: $folder/log/ringpost.log"
grep -E '"event":"(received|delivery)"' "$folder/log/ringpost.log" || fail "the log is empty"

if $once; then
	say "done: $mails mails sent, $mails arrived"
	exit 0
fi
say "running until Ctrl-C. Send more:"
echo "swaks --server 127.0.0.1 --port $smtp_port --to friend@example.org"
echo "and look into $folder/arrived"
wait "$daemon"
