#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Results as ringpost-bench writes them, of relays that do not exist: every figure is invented.

usage: fixtures.py FOLDER      writes the results of three scenarios, four relays, three runs each

The same seed gives the same results. Totals, series and distributions of a result agree with each
other, as those of a real run do.
"""
import json
import math
import pathlib
import random
import sys

STEP_BITS = 5
MACHINE = {"kernel": "6.1.0-31-amd64", "cpu": "Invented Processor 7402 (2 of 48 cores)",
           "cpus": 2, "memory_bytes": 4104388608}


def bucket_bound(value):
    """The greatest value of the bucket that holds a value, as bench/histogram.h lays them out."""
    if value < 64:
        return value
    shift = value.bit_length() - 1 - STEP_BITS
    return (((value >> shift) + 1) << shift) - 1


def latency(rng, count, median_us, spread, tail_share, tail_us):
    """A distribution of so many values: a log-normal body, and a tail that some of them are in."""
    samples = min(count, 20000)
    values = []
    for _ in range(samples):
        us = median_us * math.exp(rng.gauss(0, spread))
        if rng.random() < tail_share:
            us += tail_us * rng.expovariate(1)
        values.append(max(1, int(us)))
    values.sort()
    buckets = {}
    for i, us in enumerate(values):
        share = count * (i + 1) // samples - count * i // samples
        buckets[bucket_bound(us)] = buckets.get(bucket_bound(us), 0) + share

    def at(share):
        wanted, below = math.ceil(share * count), 0
        for bound, n in sorted(buckets.items()):
            below += n
            if below >= wanted:
                return min(bound, values[-1])
        return values[-1]
    return {"count": count, "min": values[0], "mean": sum(values) // samples, "p50": at(0.5),
            "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": values[-1],
            "buckets": [list(pair) for pair in sorted(buckets.items())]}


def make_series(rng, relay, offered, rate):
    """Second by second until all is delivered; a slow relay accepts more than it delivers."""
    names = ("t_s offered accepted delivered errors queued accept_p50_us accept_p99_us "
             "end_to_end_p50_us end_to_end_p99_us relay_cpu source_cpu sink_cpu relay_pss_bytes")
    series = {name: [] for name in names.split()}
    accepted = delivered = second = 0
    while delivered < offered:
        second += 1
        wobble = rng.gauss(1, relay["wobble"]) * (0.45 if second % 11 == 7 else 1)
        take = min(offered - accepted, max(0, int(rate * relay["accept_factor"] * wobble)))
        accepted += take
        give = min(accepted - delivered, max(1, int(rate * rng.gauss(1, relay["wobble"]))))
        delivered += give
        queued = accepted - delivered
        busy = relay["cores"] * (1 if give > rate / 2 else 0.4)
        row = {"t_s": second, "offered": take, "accepted": take, "delivered": give,
               "errors": 0, "queued": queued, "relay_cpu": round(busy * rng.gauss(1, 0.04), 3),
               "source_cpu": round(0.05 + take / 60000, 3), "sink_cpu": round(give / 70000, 3),
               "relay_pss_bytes": int(relay["pss"] + queued * relay["pss_queued"]
                                      + 4e5 * rng.random()),
               "accept_p50_us": relay["accept_us"] if take else None,
               "accept_p99_us": relay["accept_us"] * 3 if take else None,
               "end_to_end_p50_us": relay["end_us"] + queued * 1e6 / rate,
               "end_to_end_p99_us": relay["end_us"] * 4 + queued * 1e6 / rate}
        for name, value in row.items():
            series[name].append(value)
    return {"interval_s": 1, **series}


RELAYS = {
    "ringpost": dict(speed=11800, cores=1.05, accept_us=2900, end_us=4800, accept_factor=1.01,
                     wobble=0.04, pss=38 << 20, pss_queued=220, written=1.5, switches=1.1,
                     tail=0.004, processes=[("ringpostd", 1)]),
    "heron": dict(speed=2150, cores=1.45, accept_us=8200, end_us=61000, accept_factor=1.6,
                  wobble=0.09, pss=96 << 20, pss_queued=350, written=3.2, switches=21,
                  tail=0.02, processes=[("master", 1), ("smtpd", 48), ("cleanup", 20),
                                        ("qmgr", 1), ("smtp", 40)]),
    "magpie": dict(speed=870, cores=1.7, accept_us=15500, end_us=92000, accept_factor=1.05,
                   wobble=0.14, pss=210 << 20, pss_queued=900, written=4.1, switches=34,
                   tail=0.03, processes=[("magpied", 96)]),
    "wren": dict(speed=1390, cores=0.98, accept_us=6100, end_us=240000, accept_factor=2.6,
                 wobble=0.11, pss=54 << 20, pss_queued=120, written=2.4, switches=12,
                 tail=0.05, processes=[("wren-queue", 1), ("wren-smtp", 2)]),
}

SCENARIOS = {
    "1 KiB, lockstep": dict(options={"mode": "lockstep", "size": "1KiB", "connections": "64"},
                            speed=1.0, size=1024),
    "10 KiB, pipelined": dict(options={"mode": "pipelined", "size": "10KiB", "connections": "64"},
                              speed=0.72, size=10240),
    "1 MiB, eight connections": dict(
        options={"mode": "lockstep", "size": "1MiB", "connections": "8"},
        speed=0.021, size=1 << 20),
}


def make_relay_use(rng, relay, total_s, offered, size):
    cpu_s = relay["cores"] * total_s
    processes = [{"name": name, "count": count,
                  "user_s": round(cpu_s * 0.6 / len(relay["processes"]), 2),
                  "system_s": round(cpu_s * 0.4 / len(relay["processes"]), 2)}
                 for name, count in relay["processes"]]
    return {"user_s": round(cpu_s * 0.6, 3), "system_s": round(cpu_s * 0.4, 3),
            "cpu_us_per_mail": round(cpu_s * 1e6 / offered, 2),
            "context_switches": int(relay["switches"] * offered * rng.gauss(1, 0.03)),
            "bytes_written": int(relay["written"] * offered * (size + 900)),
            "processes": processes}


def make_result(label="ringpost", scenario="1 KiB, lockstep", run=1, lost=0, more_options=None):
    """One result. `run` is the seed, and the hour it started at."""
    relay, conditions = RELAYS[label], SCENARIOS[scenario]
    rng = random.Random(f"{label}/{scenario}/{run}")
    rate = relay["speed"] * conditions["speed"] * rng.gauss(1, 0.03)
    offered = round(relay["speed"] * conditions["speed"] * 30)
    series = make_series(rng, relay, offered, rate)
    total_s = round(len(series["t_s"]) - rng.random(), 3)
    offer_s = round(sum(1 for n in series["offered"] if n) - rng.random(), 3)
    offer_s = min(offer_s, total_s)
    without = 26000 * min(1.0, conditions["speed"] * 2.2)
    slow = 1 / conditions["speed"] ** 0.8
    use = make_relay_use(rng, relay, total_s, offered, conditions["size"])
    return {
        "ringpost_bench": 1, "command": "run", "label": label, "scenario": scenario,
        "started": f"2026-03-0{run}T{10 + run}:00:00Z",
        "options": {**conditions["options"], "recipients": "1", "messages": str(offered),
                    "relay": "127.0.0.1:2525", "sink": "127.0.0.1:2526",
                    "json": f"{label}-{run}.json", "seed": str(run), **(more_options or {})},
        "machine": MACHINE,
        "totals": {"mails_offered": offered, "mails_accepted": offered, "mails_refused": 0,
                   "mails_in_doubt": 0, "recipients_offered": offered,
                   "recipients_accepted": offered, "recipients_delivered": offered - lost,
                   "lost": lost, "duplicated": 0, "unacknowledged_delivered": 0, "foreign": 0,
                   "connections": 64, "connection_errors": 0,
                   "bytes_offered": offered * conditions["size"]},
        "time": {"offer_s": offer_s, "total_s": total_s},
        "rate": {"accepted_per_s": round(offered / offer_s, 1),
                 "delivered_per_s": round((offered - lost) / total_s, 1),
                 "without_relay_before_per_s": round(without * rng.gauss(1, 0.02), 1),
                 "without_relay_after_per_s": round(without * rng.gauss(1, 0.02), 1),
                 "share_without_relay": round((offered - lost) / total_s / without, 4)},
        "latency_us": {
            "accept": latency(rng, offered, relay["accept_us"] * slow, 0.28, relay["tail"],
                              relay["accept_us"] * slow * 6),
            "end_to_end": latency(rng, offered - lost, relay["end_us"] * slow, 0.4,
                                  relay["tail"] * 2, relay["end_us"] * slow * 5)},
        "relay": {**use, "pss_peak_bytes": max(series["relay_pss_bytes"])},
        "load": {"source_cpu_s": round(sum(series["source_cpu"]), 3),
                 "sink_cpu_s": round(sum(series["sink_cpu"]), 3)},
        "series": series,
    }


def write_all(folder):
    """All of them, with one loss among them. Returns the paths in the order of the page."""
    paths = []
    for place, scenario in enumerate(SCENARIOS, 1):
        for label in RELAYS:
            for run in (1, 2, 3):
                lost = 3 if (label, place, run) == ("wren", 2, 3) else 0
                path = pathlib.Path(folder) / f"{place}-{label}-{run}.json"
                path.write_text(json.dumps(make_result(label, scenario, run, lost)))
                paths.append(path)
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for written in write_all(sys.argv[1]):
        print(written)
