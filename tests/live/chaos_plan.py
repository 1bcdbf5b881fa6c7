# SPDX-License-Identifier: Apache-2.0
"""What a seed of the chaos test breaks: a kind of Redis, and four faults in an order."""
import dataclasses
import random

FAULTS = 4  # of a seed
COMMON = ("kill", "stop", "restart", "cut", "redis_full", "clock")
OF_KIND = {
    "single": ("redis_killed", "disk_full"),
    "sentinel": ("sentinel_master_killed",),
    "cluster": ("cluster_master_killed",),
}
KINDS = tuple(OF_KIND)
# Together these break everything at least once, those of --long three times.
SHORT = [(seed, 2) for seed in (2, 3, 4)]
LONG = [(seed, 5) for seed in range(20)] + [(seed, 30) for seed in range(20, 23)]


@dataclasses.dataclass
class Plan:
    seed: int
    kind: str
    lease_s: int
    faults: list
    lot: random.Random


def possible(kind, namespaces=True, loops=True):
    """A connection is cut by a namespace, or by a wire, which only a single server can have."""
    faults = COMMON + OF_KIND[kind]
    if not namespaces and kind != "single":
        faults = [fault for fault in faults if fault != "cut"]
    return [fault for fault in faults if loops or fault != "disk_full"]


def plan(seed, lease_s, namespaces=True, loops=True):
    """One fault is of the kind itself, the others are any."""
    lot = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    able = possible(kind, namespaces, loops)
    first = lot.choice([fault for fault in able if fault in OF_KIND[kind]])
    faults = [first, *lot.sample([fault for fault in able if fault != first], FAULTS - 1)]
    lot.shuffle(faults)
    return Plan(seed, kind, lease_s, faults, lot)
