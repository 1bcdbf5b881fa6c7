#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need, builds, runs everything through ctest, and ends with its summary.
#
#   tests/run.sh [--long]
#
# One ctest holds all: the tests of the dev build, and one test for each other preset, which builds
# it and runs there what it is for (tests/suite). Those run beside the rest, one at a time and at a
# low priority, and one test more than there are cores runs at once: most live tests wait more than
# they work. --long adds what takes long: 20 rounds of the kill test, a million mails, more seeds
# and longer fuzzing.
set -euo pipefail
cd "$(dirname "$0")/.."

configuration=ci
if [ "${1:-}" = --long ]; then
	configuration=long
	export RINGPOST_FUZZ_SECONDS=60
elif [ $# -gt 0 ]; then
	echo "usage: $0 [--long]" >&2
	exit 2
fi

tests/packages.sh all
cmake --preset dev
cmake --build build/dev
exec ctest --test-dir build/dev -C "$configuration" -j "$(($(nproc) + 1))" --output-on-failure
