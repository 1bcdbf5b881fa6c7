#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A Redis server and a Sentinel beside it, in one container: `redis-start.sh [MASTER]`. Sentinel
# keeps what it has learnt in /data, so after a restart the server is what it was, not what it began
# as.
set -eu
cp -n /sentinel.conf /data/sentinel.conf
redis-sentinel /data/sentinel.conf --port 26379 --sentinel announce-ip "$(hostname)" &
cp -n /redis.conf /data/redis.conf
set -- ${1:+--replicaof "$1" 6379}
[ -e /data/began ] && set --
: >/data/began
exec redis-server /data/redis.conf --dir /data --bind 0.0.0.0 --protected-mode no \
	--replica-announce-ip "$(hostname)" "$@"
