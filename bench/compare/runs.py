# SPDX-License-Identifier: Apache-2.0
"""One run: a fresh relay in a fresh folder, a warm-up, and the measured load.

Relays run alone. The warm-up makes a relay start its processes; in the first round it also tells
how many mails fill the time that a run is to take, and later rounds offer the same number.
"""
import collections
import contextlib
import fcntl
import json
import pathlib
import subprocess

import durability
import harness
import matrix
import processes

# bench: the program; lock: a file to lock for each run, or None; seconds: length of a run; mails:
# their number instead, or None.
Plan = collections.namedtuple("Plan", "bench lock seconds mails")

WARM_UP_S = 2.0
CALIBRATE_FROM = 500
MAILS_MAX = 4_000_000
BASELINE = "3s"  # source to sink without the relay, before and after each measured run
BASELINE_QUICK = "1s"
# A connection without a reply is given up after it. OpenSMTPD lets only 5 connections wait to be
# accepted; of 50 that come at once, the kernel forgets some, and their clients wait for a greeting.
REPLY_TIMEOUT = "20s"
TIME_LIMIT_S = 600
LET_GO_S = 30  # more than any of them keeps an idle connection


@contextlib.contextmanager
def locked(path):
    """Alone among all who lock the file. Without one, at once."""
    if path is None:
        yield
        return
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Runner:
    def __init__(self, plan, folder, out):
        self.plan, self.folder, self.out = plan, pathlib.Path(folder), pathlib.Path(out)
        self.mails = {}  # of a measured run, by scenario and relay, from the first round on
        self.number = 0
        (self.out / "runs").mkdir(parents=True, exist_ok=True)
        for old in (self.out / "runs").glob("*.json"):
            old.unlink()  # of an earlier comparison

    def prove(self, kind):
        """Syncs between the end of a mail's data and its 250, or None where nobody could tell."""
        # Nothing listens at the sink: the mail stays in a queue that is thrown away.
        relay = kind(self.folder / kind.name, (harness.address(), harness.free_port()))
        with locked(self.plan.lock), relay.running():
            return durability.count_syncs(relay)

    def run(self, kind, scenario, round_number):
        """The result as ringpost-bench wrote it, with `compare`, which says what it is of."""
        self.number += 1
        relay = kind(self.folder / kind.name, (harness.address(), harness.free_port()))
        file = self.out / "runs" / f"{self.number:03}-{scenario.name}-{kind.name}.json"
        with locked(self.plan.lock), relay.running():
            mails = self.warm_up(relay, scenario)
            result = self.load(relay, scenario, mails, file,
                               BASELINE_QUICK if self.plan.mails else BASELINE)
        result["compare"].update(relay=kind.name, version=relay.version(),
                                 scenario=scenario.name, round=round_number)
        file.write_text(json.dumps(result, indent=1) + "\n")
        return result

    def warm_up(self, relay, scenario):
        """Returns how many mails the measured run is to have."""
        key = scenario.name, relay.name
        spare = self.out / "warm-up.json"
        if self.plan.mails:
            self.load(relay, scenario, max(self.plan.mails // 4, matrix.CONNECTIONS), spare)
            return self.plan.mails
        if key in self.mails:
            warm = int(self.mails[key] * WARM_UP_S / self.plan.seconds)
            self.load(relay, scenario, max(warm, matrix.CONNECTIONS), spare)
            return self.mails[key]
        mails, took_s = CALIBRATE_FROM, 0.0
        while True:
            took_s = self.load(relay, scenario, mails, spare)["time"]["total_s"]
            if took_s >= WARM_UP_S / 2 or mails * 4 > MAILS_MAX:
                break
            mails *= 4
        wanted = int(mails / took_s * self.plan.seconds)
        self.mails[key] = min(max(wanted, matrix.CONNECTIONS), MAILS_MAX)
        return self.mails[key]

    def load(self, relay, scenario, mails, file, baseline="0s"):
        """Runs ringpost-bench; a lost mail is a failure, of the relay and so of the comparison.

        Returns when the relay has let go of the sink, which ended: a connection that it keeps and
        takes for open would defer the next load's first mail.
        """
        command = [
            self.plan.bench, "run", "--relay", relay.address,
            "--sink", f"{relay.sink_host}:{relay.sink_port}",
            "--relay-pid", str(relay.root_pid()),
            "--connections", str(matrix.CONNECTIONS), "--mode", scenario.mode,
            "--size", scenario.size, "--messages", str(mails),
            "--timeout", REPLY_TIMEOUT, "--baseline", baseline,
            "--label", relay.title, "--scenario", scenario.title, "--json", str(file)]
        if scenario.per_connection:
            command += ["--per-connection", str(scenario.per_connection)]
        before_us, before = relay.cgroup.cpu_us(), relay.counters()
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        if done.returncode != 0:
            raise harness.Failure(f"{' '.join(command)}: exit status {done.returncode}\n"
                                  f"{done.stdout[-2000:]}{done.stderr[-2000:]}\n{relay.log()}")
        processes.wait_disconnected(relay.sink_host, relay.sink_port, LET_GO_S)
        result = json.loads(file.read_text())
        if not result["totals"]["mails_accepted"]:
            raise harness.Failure(f"{relay.title} accepted no mail\n{relay.log()}")
        mails = result["totals"]["mails_accepted"]
        result["compare"] = {"a_mail": {name: (value - before[name]) / mails
                                        for name, value in relay.counters().items()}}
        if before_us is not None:
            used_us = relay.cgroup.cpu_us() - before_us
            result["compare"]["cpu_us_per_mail"] = used_us / mails
        return result
