# SPDX-License-Identifier: Apache-2.0
"""Relays, Redis and the wires between them break; no mail is lost, duplicates are accounted for."""
import os

import pytest

import redis_server
from chaos import Chaos

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

LONG = "RINGPOST_LONG" in os.environ
RUNS = [(seed, 5) for seed in range(1, 21)] + [(seed, 30) for seed in range(21, 24)] if LONG \
    else [(seed, 2) for seed in range(1, 4)]


@pytest.mark.parametrize("seed, lease_s", RUNS)
def test_nothing_is_lost(folder, seed, lease_s):
    chaos = Chaos(folder, os.environ["RINGPOST_BENCH"], seed, lease_s)
    try:
        account = chaos.run(seconds=8 * lease_s, rate=100)
    finally:
        print("\n".join(chaos.story))
    print(account)
    assert account["mails_accepted"] > 0
    assert account["lost"] == 0
    assert account["duplicated"] <= account["possible_duplicates"]
