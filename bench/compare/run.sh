#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the other relays, builds the release, and compares: everything from a fresh Debian 12.
# Takes the options of compare.py. Needs root: the relays change to users of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/packages.sh compare
cmake --preset release
cmake --build build/release --target ringpostd ringpost-bench
RINGPOST_PEERS=$(tests/packages.sh --peers-folder)
export RINGPOST_PEERS
exec /usr/bin/python3 -B bench/compare/compare.py "$@"
