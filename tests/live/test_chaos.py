# SPDX-License-Identifier: Apache-2.0
"""Relays, Redis and the ways between them break; no mail is lost, duplicates are accounted for."""
import collections
import os
import pathlib
import time

import pytest

import chaos_plan
import netns
import redis_server
from chaos import FAKETIME, Chaos

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

IS_LONG = "RINGPOST_LONG" in os.environ
RUNS = chaos_plan.LONG if IS_LONG else chaos_plan.SHORT
RATE = 100  # mails a second at each relay


def has_loops():
    return os.geteuid() == 0 and pathlib.Path("/dev/loop-control").exists()


def faults_of(runs, **machine):
    plans = [chaos_plan.plan(seed, lease_s, **machine) for seed, lease_s in runs]
    return collections.Counter(fault for plan in plans for fault in plan.faults)


@pytest.fixture(scope="module")
def accounts():
    """Of all seeds; summed up at the end."""
    of_all, began = [], time.monotonic()
    yield of_all
    sums = collections.Counter()
    for account in of_all:
        sums.update({key: account[key] for key in (
            "mails_accepted", "lost", "duplicated", "late", "taken_over")})
        sums.update(account["possible_duplicates"])
    slowest = max((account["slowest_takeover_s"] for account in of_all), default=0)
    print(f"{len(of_all)} seeds in {time.monotonic() - began:.0f} s: {dict(sums)}, "
          f"slowest take-over {slowest} s")


@pytest.mark.parametrize("namespaces", (True, False))
@pytest.mark.parametrize("loops", (True, False))
def test_the_seeds_cover_every_fault(namespaces, loops):
    """Three times in the long run, wherever it runs; in the short one once."""
    machine = {"namespaces": namespaces, "loops": loops}
    wanted = {fault for kind in chaos_plan.KINDS for fault in chaos_plan.possible(kind, **machine)}
    assert len(wanted) == (10 if loops else 9)
    faults = faults_of(chaos_plan.LONG, **machine)
    assert {fault for fault in wanted if faults[fault] < 3} == set(), faults
    if namespaces and loops:
        assert wanted == set(faults_of(chaos_plan.SHORT))


@pytest.mark.parametrize("seed, lease_s", RUNS)
def test_nothing_is_lost(folder, accounts, seed, lease_s):
    plan = chaos_plan.plan(seed, lease_s, netns.can_be_made(), has_loops())
    assert "clock" not in plan.faults or os.path.exists(FAKETIME), "install libfaketime"
    chaos = Chaos(folder, os.environ["RINGPOST_BENCH"], plan)
    print(f"{plan.kind}: {', '.join(plan.faults)}; lease {lease_s} s")
    try:
        account = chaos.run(seconds=8 * lease_s, rate=RATE)
    finally:
        print("\n".join(chaos.story))
    print(account)
    accounts.append(account)
    assert account["mails_accepted"] > 0
    assert account["lost"] == 0
    assert account["left"] == 0
    assert account["duplicated"] + account["late"] <= account["possible_duplicates_sum"]
