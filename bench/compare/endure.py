#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs that last: does a rate hold, and does one destination's trouble stay its own?

    endure.py steady [--seconds 600]    the rate of the last minute against that of the first, each
                                        divided by the rate without relay right before and after
    endure.py stall [--seconds 120]     1000 mails/s to a good sink alone, then beside 2000 mails/s
                                        to a sink that never answers

Both start the release build of ringpostd and drive it with ringpost-bench. What is required is at
the top of each function; the exit status is 1 where it is missed. --out keeps the results.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import harness
from relays.ringpost import Ringpost

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINUTE_S = 60


def bench(arguments):
    return [str(ROOT / "build/release/ringpost-bench"), *map(str, arguments)]


def read(file):
    return json.loads(pathlib.Path(file).read_text())


def mean(values):
    return sum(values) / len(values)


def tell(name, figure, wanted, good):
    print(f"{'met   ' if good else 'MISSED'} {name}: {figure} (wanted: {wanted})")
    return good


def run(relay, file, *arguments):
    """ringpost-bench run around the relay; its result."""
    subprocess.run(bench(["run", "--relay", relay.address, "--sink",
                          f"{relay.sink_host}:{relay.sink_port}", "--relay-pid", relay.root_pid(),
                          "--connections", 50, "--json", file, *arguments]), check=True)
    return read(file)


def disk_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def steady(relay, out, seconds):
    result = run(relay, out / "steady.json", "--seconds", f"{seconds}s", "--baseline", "30s",
                 "--mode", "pipelined", "--label", "ringpostd", "--scenario", "steady")
    minute = MINUTE_S if seconds > 2 * MINUTE_S else seconds // 4
    series = result["series"]
    # The offering ends with `seconds`; what comes after it is the rest on its way.
    rates = [rate for t, rate in zip(series["t_s"], series["delivered"]) if t <= seconds]
    first, last = mean(rates[1:minute + 1]), mean(rates[-minute:])
    before = result["rate"]["without_relay_before_per_s"]
    after = result["rate"]["without_relay_after_per_s"]
    ratio = (last / after) / (first / before)
    memory = [pss for pss in series["relay_pss_bytes"] if pss]
    growth = mean(memory[-minute:]) / mean(memory[minute:2 * minute])
    offered = result["totals"]["bytes_offered"]
    used = disk_bytes(relay.folder / "spool")
    print(f"first minute {first:.0f}/s of {before:.0f}, last minute {last:.0f}/s of {after:.0f} "
          f"without relay; {result['totals']['recipients_delivered']} delivered")
    return all([
        tell("last minute against the first", f"{ratio:.3f}", "0.95 to 1.05 or better",
             ratio >= 0.95),
        tell("memory, last minute against the second", f"{growth:.3f}", "at most 1.05",
             growth <= 1.05),
        tell("disk", f"{used >> 20} MiB for {offered >> 20} MiB that passed", "at most 1 GiB",
             used <= 1 << 30),
        tell("lost", result["totals"]["lost"], "0", result["totals"]["lost"] == 0),
    ])


STALL_ROUTE = """
  - {{ domain: stall.test, to: "smtp://{stalled}", connections: 50 }}
"""


BUDGET_MIB = 512


class StalledRingpost(Ringpost):
    """The same with a second destination, and a budget that is worth keeping."""

    def set_up(self):
        super().set_up()
        file = self.folder / "ringpost.yaml"
        route = STALL_ROUTE.format(stalled=self.stalled)
        file.write_text(file.read_text().replace("routes:\n", "routes:" + route) +
                        f"memory: {{ budget: {BUDGET_MIB}MiB }}\n")


def good_load(relay, file, seconds, warm_up_s=0):
    if warm_up_s:
        run(relay, file, "--seconds", f"{warm_up_s}s", "--baseline", "0s", "--rate", 1000)
    return run(relay, file, "--seconds", f"{seconds}s", "--baseline", "0s", "--rate", 1000,
               "--label", "ringpostd", "--scenario", "stall")


def stall(relay, out, seconds):
    alone = good_load(relay, out / "alone.json", max(seconds // 4, 5), warm_up_s=3)
    sink = subprocess.Popen(bench(["sink", "--sink", relay.stalled, "--fault", "100%:stall=rcpt"]))
    source = subprocess.Popen(bench(["source", "--relay", relay.address, "--connections", 50,
                                     "--seconds", f"{seconds + 10}s", "--rate", 2000,
                                     "--domain", "stall.test", "--json", out / "stalled.json"]))
    try:
        time.sleep(5)  # part of the load: the stalled mails pile up first
        beside = good_load(relay, out / "beside.json", seconds)
        source.wait()
    finally:
        for process in (source, sink):
            process.terminate()
            process.wait()
    stalled = read(out / "stalled.json")
    rates = [r["rate"]["delivered_per_s"] for r in (alone, beside)]
    p99 = [r["latency_us"]["end_to_end"]["p99"] / 1000 for r in (alone, beside)]
    peak = beside["relay"]["pss_peak_bytes"]
    print(f"stalled mails accepted: {stalled['totals']['mails_accepted']} at "
          f"{stalled['rate']['accepted_per_s']:.0f}/s")
    return all([
        tell("rate of the good ones", f"{rates[1]:.0f}/s, alone {rates[0]:.0f}/s",
             "at least 95 %", rates[1] >= 0.95 * rates[0]),
        tell("p99 of the good ones", f"{p99[1]:.1f} ms, alone {p99[0]:.1f} ms", "at most 3 x",
             p99[1] <= 3 * p99[0]),
        tell("memory", f"{peak >> 20} MiB", f"within the budget, {BUDGET_MIB} MiB",
             peak <= BUDGET_MIB << 20),
        tell("lost", beside["totals"]["lost"], "0", beside["totals"]["lost"] == 0),
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["steady", "stall"])
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--out", default=None, help="folder for the results")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out or tempfile.mkdtemp(prefix="ringpost-endure."))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringpost-endure.", dir="/var/tmp") as folder:
        kind = StalledRingpost if arguments.what == "stall" else Ringpost
        address = harness.address()
        relay = kind(pathlib.Path(folder) / "ringpostd", (address, harness.free_port()))
        relay.stalled = f"{address}:{harness.free_port()}"
        with relay.running():
            good = steady(relay, out, arguments.seconds or 600) if arguments.what == "steady" \
                else stall(relay, out, arguments.seconds or 120)
    print(f"results in {out}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
