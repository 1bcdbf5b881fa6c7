#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds something with a preset, and where that is what tests with certain labels need, runs them.
#
#   run_preset.sh PRESET TARGETS TARGET...
#   run_preset.sh PRESET LABELS LABEL...
#
# At a low priority, the build at the lowest: beside it run tests in which seconds count. Under ASan
# one test more than there are cores, because those of the stores wait for the disk and for leases;
# else no more, because some have few seconds, and fuzzers get theirs by the clock.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1 what=$2
shift 2

build() {
	nice -n 19 cmake --build "build/$preset" --target "$@"
}

cmake --preset "$preset"
if [ "$what" = TARGETS ]; then
	build "$@"
	exit
fi
build "${@/#/for_}"
labels=$(IFS='|' && echo "$*")
jobs=$(nproc)
[ "$preset" != asan ] || jobs=$((jobs + 1))
# A suite that finds no test would pass without having looked at anything.
exec nice -n 10 ctest --test-dir "build/$preset" -L "^($labels)\$" -j "$jobs" \
	--output-on-failure --no-tests=error
