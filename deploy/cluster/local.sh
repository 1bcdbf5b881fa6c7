#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The cluster of compose.yaml as processes on this machine: three relays behind HAProxy (PROXY
# protocol), Redis with two replicas and three Sentinels, Prometheus. Sends mails through it, kills
# a relay and the Redis master meanwhile, and shows that everything arrived.
#
#   deploy/cluster/local.sh            builds, runs, shows, and leaves it running until Ctrl-C
#   deploy/cluster/local.sh --once     ends by itself: 0 only if every mail with a 250 arrived
#
# BUILD: a folder with ringpostd and ringpost-bench, instead of a build. SECONDS_OF_LOAD (45), RATE
# (300 mails a second). Everything it writes is in one folder below /var/tmp, removed at the end; it
# listens on addresses in 127.7.0.0/16 alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=deploy/cluster
once=false
case ${1:-} in
"") ;;
--once) once=true ;;
*)
	echo "usage: $0 [--once]" >&2
	exit 2
	;;
esac
load_s=${SECONDS_OF_LOAD:-45}
rate=${RATE:-300}
net=127.7
haproxy=$net.0.1
sink=$net.0.2
prometheus=$net.0.3
folder=$(mktemp -d /var/tmp/ringpost-cluster.XXXXXX)
declare -A pids

say() {
	printf '\n== %s\n' "$*"
}

fail() {
	echo "local.sh: $*" >&2
	tail -n 5 "$folder"/*.err "$folder"/*/*.log >&2 2>/dev/null || true
	exit 1
}

# Relays first: they give their mails back.
finish() {
	local status=$? name
	trap - EXIT INT TERM
	for name in load relay-1 relay-2 relay-3 "${!pids[@]}"; do
		[ -n "${pids[$name]:-}" ] || continue
		kill -TERM "${pids[$name]}" 2>/dev/null && wait "${pids[$name]}" || true
		unset "pids[$name]"
	done
	rm -rf "$folder"
	exit $status
}
trap finish EXIT
trap 'exit 0' INT TERM

# run NAME COMMAND...: in the background, with what it says in a file.
run() {
	local name=$1
	shift
	"$@" >>"$folder/$name.out" 2>>"$folder/$name.err" </dev/null &
	pids[$name]=$!
}

# until NAME SECONDS COMMAND...: it succeeds in time, while process NAME lives.
until_true() {
	local name=$1 deadline=$((SECONDS + $2))
	shift 2
	until "$@" >/dev/null 2>&1; do
		kill -0 "${pids[$name]}" 2>/dev/null || fail "$name has ended"
		[ $SECONDS -lt $deadline ] || fail "$name: in vain: $*"
		# A connection to nobody takes no time: look ten times a second.
		read -r -t 0.1 _ <> <(:) || true
	done
}

redis_ip() { echo "$net.2.$1"; }
relay_ip() { echo "$net.1.$1"; }

# What stands in the files as names are addresses here.
local_names() {
	sed -e "s/redis-\([123]\)/$net.2.\1/g" -e "s/relay-\([123]\)/$net.1.\1/g" \
		-e "s/^\( *bind\) :25/\1 $haproxy:2525/" \
		-e "s/\($net\.1\.[123]\):25\$/\1:2525/" "$@"
}

start_redis() { # NUMBER [master]
	local ip
	ip=$(redis_ip "$1")
	mkdir -p "$folder/redis-$1"
	[ -e "$folder/redis-$1.conf" ] || cp "$here/redis.conf" "$folder/redis-$1.conf"
	run "redis-$1" redis-server "$folder/redis-$1.conf" --bind "$ip" --port 6379 \
		--dir "$folder/redis-$1" --protected-mode no \
		--logfile "$folder/redis-$1/redis.log" \
		--replica-announce-ip "$ip" \
		${2:+--replicaof "$2" 6379}
	until_true "redis-$1" 30 redis-cli -h "$ip" ping
}

start_sentinel() {
	local ip
	ip=$(redis_ip "$1")
	local_names "$here/sentinel.conf" >"$folder/sentinel-$1.conf"
	echo "sentinel announce-ip $ip" >>"$folder/sentinel-$1.conf"
	run "sentinel-$1" redis-server "$folder/sentinel-$1.conf" --sentinel --bind "$ip" \
		--port 26379 --protected-mode no
	until_true "sentinel-$1" 30 redis-cli -h "$ip" -p 26379 ping
}

master_ip() {
	redis-cli -h "$(redis_ip 3)" -p 26379 sentinel get-master-addr-by-name ringpost |
		head -n 1
}

has_replica() {
	[ "$(redis-cli -h "$(master_ip)" info replication | tr -d '\r' |
		sed -n 's/^connected_slaves://p')" -ge "$1" ]
}

start_relay() {
	local ip user="allow_root: true"
	ip=$(relay_ip "$1")
	[ "$(id -u)" = 0 ] || user=
	local_names "$here/ringpost.yaml" | sed -e "s/^hostname: .*/hostname: relay-$1.test/" \
		-e "s/^user: .*/$user/" -e "s/0\.0\.0\.0:25\"/$ip:2525\"/" \
		-e "s/0\.0\.0\.0:9925/$ip:9925/" \
		-e "s#\[10\.0\.0\.0/8, 172\.16\.0\.0/12\]#[127.0.0.0/8]#" \
		-e "s#/var/lib/ringpost#$folder/state-$1#" \
		-e "s#to: mx }#to: \"smtp://$sink:2526\" }#" >"$folder/relay-$1.yaml"
	cat >>"$folder/relay-$1.yaml" <<END
workers: 2
log: { file: $folder/relay-$1.log }
END
	run "relay-$1" "$build/ringpostd" --config "$folder/relay-$1.yaml"
	until_true "relay-$1" 60 curl --fail --silent "http://$ip:9925/readyz"
}

if [ -n "${BUILD:-}" ]; then
	build=$BUILD
else
	say "packages and release build"
	tests/packages.sh cluster
	cmake --preset release
	cmake --build build/release
	build=build/release
fi

say "Redis: a master, two replicas, three Sentinels"
start_redis 1
start_redis 2 "$(redis_ip 1)"
start_redis 3 "$(redis_ip 1)"
for number in 1 2 3; do
	start_sentinel $number
done
until_true redis-1 30 has_replica 2

say "three relays, HAProxy, Prometheus ($folder)"
for number in 1 2 3; do
	start_relay $number
done
local_names "$here/haproxy.cfg" >"$folder/haproxy.cfg"
run haproxy haproxy -f "$folder/haproxy.cfg"
local_names "$here/prometheus.yml" >"$folder/prometheus.yml"
cp "$here/alerts.yml" "$folder/"
run prometheus prometheus --config.file="$folder/prometheus.yml" \
	--storage.tsdb.path="$folder/prometheus" --web.listen-address="$prometheus:9090"
accepts() { exec 3<>"/dev/tcp/$haproxy/2525" && exec 3>&-; }
until_true haproxy 30 accepts
until_true prometheus 60 curl --fail --silent "http://$prometheus:9090/-/ready"

say "$rate mails a second for $load_s s through HAProxy at $haproxy:2525"
run load "$build/ringpost-bench" run --relay "$haproxy:2525" --sink "$sink:2526" --connections 12 \
	--seconds "${load_s}s" --rate "$rate" --size 1KiB:90,20KiB:10 --per-connection 50 \
	--baseline 0s --drain 90s --timeout 20s --json "$folder/load.json"
began=$SECONDS
runs_for() { [ $((SECONDS - began)) -ge "$1" ]; }
until_true load 600 runs_for $((load_s / 5))

say "SIGKILL: relay-1"
kill -KILL "${pids[relay-1]}"
wait "${pids[relay-1]}" 2>/dev/null || true
until_true load 600 runs_for $((load_s * 2 / 5))
old=$(master_ip)
number=${old##*.}
say "SIGKILL: the Redis master ($old)"
kill -KILL "${pids[redis-$number]}"
wait "${pids[redis-$number]}" 2>/dev/null || true
another_master() { [ -n "$(master_ip)" ] && [ "$(master_ip)" != "$old" ]; }
until_true haproxy 60 another_master
echo "the Sentinels have made $(master_ip) the master"
start_redis "$number" "$(master_ip)"
start_relay 1
echo "relay-1 and $old are back"

say "waiting for every mail"
status=0
wait "${pids[load]}" || status=$?
unset "pids[load]"
cat "$folder/load.out"
sum() { curl --fail --silent "http://$prometheus:9090/api/v1/query" --data-urlencode "query=$1" |
	sed -n 's/.*"value":\[[^,]*,"\([^"]*\)"\].*/\1/p'; }
echo "relays that Prometheus sees: $(sum 'sum(up{job="ringpost"})')"
for number in 1 2 3; do
	curl --fail --silent "http://$(relay_ip $number):9925/metrics" |
		grep -E '^ringpost_(redis_taken_over_mails|duplicates_possible|mails_accepted)_' |
		grep -v ' 0$' |
		sed "s/^/relay-$number: /" || true
done
[ $status = 0 ] || fail "not every mail with a 250 arrived"
say "every mail with a 250 arrived"
$once && exit 0
echo "running until Ctrl-C: SMTP $haproxy:2525, Prometheus http://$prometheus:9090"
wait "${pids[haproxy]}"
