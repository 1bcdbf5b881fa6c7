#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds a preset and runs there the tests that carry one of the labels.
#
#   run_preset.sh PRESET [LABEL...]     without a label the build alone is the test
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1
shift

cmake --preset "$preset"
cmake --build "build/$preset"
[ $# -gt 0 ] || exit 0
labels=$(IFS='|' && echo "$*")
# A suite that finds no test would pass without having looked at anything.
exec ctest --test-dir "build/$preset" -L "^($labels)\$" -j "$(nproc)" --output-on-failure \
	--no-tests=error
