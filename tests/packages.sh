#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building (build), testing (test) or both (all, the default) need on Debian 12, and
# the other relays of bench/compare (compare). Asks apt only for what is missing, as root or through
# sudo.
#
#   tests/packages.sh [build|quickstart|cluster|test|all|compare]
#
# Servers that cannot be installed beside Postfix are unpacked into a folder of their own, which
#   tests/packages.sh --peers-folder
# prints.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers_folder=${RINGPOST_PEERS:-/var/tmp/ringpost-test-peers}

build=(build-essential cmake ninja-build pkg-config liburing-dev libyaml-dev libmicrohttpd-dev
	libjemalloc-dev zlib1g-dev libjansson-dev libunbound-dev libssl-dev libcmocka-dev
	libcurl4-openssl-dev libidn2-dev libhiredis-dev libzstd-dev liblua5.1-0-dev)
test=(clang libclang-rt-14-dev clang-format lld llvm git curl e2fsprogs mount util-linux procps
	iproute2 postfix dovecot-core dovecot-lmtpd dovecot-submissiond swaks libnet-ssleay-perl
	msmtp nodejs
	python3 python3-pytest python3-spf python3-yaml python3-aiosmtpd python3-cryptography
	openssl chromium
	libpcre2-8-0 libgnutls30 libgnutls-dane0 libnsl2 libdb5.3 libidn12 libidn2-0
	redis-server redis-tools haproxy faketime
	ldnsutils libevent-2.1-7 libfstrm0 libprotobuf-c1 libssl3 libsystemd0)
quickstart=(curl python3 swaks)
# deploy/cluster/local.sh. Where systemd runs, their own services start, on loopback.
cluster=(curl redis-server redis-tools haproxy prometheus)
# nsd, because its package would start it on port 53.
unpacked=(exim4-base exim4-daemon-light prometheus nsd)
# Relays to compare with. Haraka comes from npm, Exim and OpenSMTPD are unpacked.
compare=(postfix redis-server redis-tools nodejs python3 python3-yaml mount util-linux
	libpcre2-8-0 libgnutls30 libgnutls-dane0 libnsl2 libdb5.3 libidn12 libidn2-0 libevent-2.1-7
	libssl3 libpam0g)
unpacked_compare=(exim4-base exim4-daemon-light opensmtpd)

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "packages.sh: needs root or sudo for: $*" >&2
		exit 1
	fi
}

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_missing() {
	local missing=() package
	for package in "$@"; do
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "packages.sh: installing ${missing[*]}"
	as_root apt-get update -q
	echo "postfix postfix/main_mailer_type select No configuration" |
		as_root debconf-set-selections
	# The tests run Redis servers of their own; the package's would take port 6379.
	if [ -d /run/systemd/system ] && [[ " ${missing[*]} " == *" redis-server "* ]]; then
		as_root systemctl mask redis-server.service
	fi
	# Where systemd runs, Dovecot's own service starts, but without a protocol and so without a
	# port; Postfix's does not, for want of a configuration. The tests run their own instances.
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# A folder all may read, owned by root: a server run by root must not be exchangeable by others.
#   unpack_peers PROGRAM... -- PACKAGE...
unpack_peers() {
	local missing=no
	while [ "$1" != -- ]; do
		[ -x "$peers_folder/$1" ] || missing=yes
		shift
	done
	shift
	[ $missing = yes ] || return 0
	local work
	work=$(mktemp -d)
	as_root apt-get update -q
	(cd "$work" && apt-get download -q "$@")
	as_root mkdir -p -m 755 "$peers_folder"
	local archive
	for archive in "$work"/*.deb; do
		as_root dpkg-deb -x "$archive" "$peers_folder"
	done
	as_root chmod u-s "$peers_folder/usr/sbin/exim4"
	rm -rf "$work"
}

add_exim_user() {
	getent passwd Debian-exim >/dev/null && return 0
	as_root useradd --system --no-create-home --home-dir /nonexistent \
		--shell /usr/sbin/nologin Debian-exim
}

# nodemailer, with the npm that belongs to the node that is there.
install_node_modules() {
	[ -d "$here/live/node_modules/nodemailer" ] && return 0
	command -v npm >/dev/null || install_missing npm
	(cd "$here/live" && npm ci --no-audit --no-fund --loglevel=error)
}

# Without its optional dependencies (filters that are not used) and scripts.
install_haraka() {
	local folder=$here/../bench/compare/haraka
	[ -d "$folder/node_modules/Haraka" ] && return 0
	command -v npm >/dev/null || install_missing npm
	(cd "$folder" && npm ci --omit=optional --ignore-scripts --no-audit --no-fund \
		--loglevel=error)
}

case ${1:-all} in
--peers-folder)
	echo "$peers_folder"
	;;
build)
	install_missing "${build[@]}"
	;;
quickstart)
	install_missing "${build[@]}" "${quickstart[@]}"
	;;
test | all)
	[ "${1:-all}" = test ] || install_missing "${build[@]}"
	install_missing "${test[@]}"
	unpack_peers usr/bin/promtool usr/sbin/exim4 usr/sbin/nsd -- "${unpacked[@]}"
	add_exim_user
	install_node_modules
	;;
cluster)
	install_missing "${build[@]}" "${cluster[@]}"
	;;
compare)
	install_missing "${build[@]}" "${compare[@]}"
	unpack_peers usr/sbin/exim4 usr/sbin/smtpd -- "${unpacked_compare[@]}"
	install_haraka
	;;
*)
	echo "usage: $0 [build|quickstart|cluster|test|all|compare|--peers-folder]" >&2
	exit 2
	;;
esac
