# SPDX-License-Identifier: Apache-2.0
"""Three relays that share one Redis, each under a ringpost-bench of its own, while things break.

Every bench follows its mails from the offer to its sink, whoever delivers them. A seed draws the
faults and their order. Afterwards nothing with a 250 is lost, and the sinks saw no more duplicates
than the relays' counters of possible duplicates allow (what was counted by a relay that was killed
is read from it right before).
"""
import contextlib
import json
import pathlib
import random
import signal
import subprocess
import threading
import time

import ports
from cut import Wire
from daemon import Lines, Ringpost
from redis_server import Redis

NODES = 3
FAULTS = ("kill", "stop", "restart", "redis_killed", "redis_full", "cut", "freeze")


class Node:
    """A relay, the wire between it and Redis, and the load on it."""

    def __init__(self, chaos, number):
        self.chaos, self.number = chaos, number
        self.wire = Wire(chaos.redis.host, chaos.redis.port)
        self.sink = f"{ports.address()}:{ports.free_port()}"
        self.relay = None
        self.bench = None
        self.counted = 0  # possible duplicates that a relay of before had counted

    def make(self):
        chaos = self.chaos
        self.relay = Ringpost(chaos.folder / f"node{self.number}", {
            "hostname": f"node{self.number}.test",
            "timeouts": {"drain": "1s"},
            "queue": {"store": "redis",
                      "redis": {"server": self.wire.server, "lease": f"{chaos.lease_s}s",
                                "deadline": "1s"}},
        }, [{"domain": f"n{node.number}.test", "to": f"smtp://{node.sink}"}
            for node in chaos.nodes] + [{"domain": "*", "to": "discard"}])

    def load(self, seconds, rate):
        self.result = self.chaos.folder / f"bench{self.number}.json"
        self.bench = subprocess.Popen(
            [self.chaos.bench, "run", "--json", str(self.result), "--relay",
             f"{self.relay.host}:{self.relay.port}", "--sink", self.sink, "--connections", "8",
             "--seconds", f"{seconds}s", "--rate", str(rate), "--domain", f"n{self.number}.test",
             "--baseline", "0s", "--drain", f"{30 + 3 * self.chaos.lease_s}s", "--timeout", "10s",
             "--size", "1KiB:90,20KiB:10"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = Lines(self.bench.stdout)

    def note_counters(self):
        """Before it is killed: what it has counted goes with it."""
        with contextlib.suppress(OSError):
            self.counted += self.relay.metrics().sum("ringpost_duplicates_possible_total")

    def kill(self):
        self.note_counters()
        self.relay.kill()


class Chaos:
    def __init__(self, folder, bench, seed, lease_s, faults=4):
        self.folder, self.bench = pathlib.Path(folder), bench
        self.random = random.Random(seed)
        self.seed, self.lease_s = seed, lease_s
        self.redis = Redis(self.folder / "redis")
        self.drawn = self.random.sample(FAULTS, faults)
        self.nodes = []
        self.story = []

    def say(self, what):
        self.story.append(f"{time.monotonic() - self.began:6.2f} s {what}")

    def pause(self, most_s):
        """A moment drawn by lot, which is part of the story, not a wait for something."""
        threading.Event().wait(self.random.uniform(0.2, most_s))

    # ---- faults ----

    def fault_kill(self, node):
        node.kill()
        self.pause(1.5 * self.lease_s)
        node.relay.start()

    def fault_stop(self, node):
        """Longer than its lease: others take over what it believes to have."""
        node.relay.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(1.5 * self.lease_s)
        node.relay.process.send_signal(signal.SIGCONT)

    def fault_restart(self, node):
        node.note_counters()
        node.relay.stop()
        node.relay.start()

    def fault_redis_killed(self, _):
        self.redis.kill()
        self.pause(self.lease_s)
        self.redis.start()

    def fault_redis_full(self, _):
        self.redis.ask("CONFIG", "SET", "maxmemory", "1mb")
        self.pause(self.lease_s)
        self.redis.ask("CONFIG", "SET", "maxmemory", "0")

    def fault_cut(self, node):
        node.wire.cut()
        self.pause(2 * self.lease_s)
        node.wire.mend()

    def fault_freeze(self, node):
        node.wire.freeze()
        self.pause(2 * self.lease_s)
        node.wire.mend()

    # ---- the run ----

    def run(self, seconds, rate):
        """Returns the account."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.redis)
            self.nodes = [Node(self, number) for number in range(NODES)]
            for node in self.nodes:
                stack.enter_context(node.wire)
            for node in self.nodes:
                node.make()
                stack.enter_context(node.relay)
            self.began = time.monotonic()
            for node in self.nodes:
                node.load(seconds, rate)
                stack.callback(node.bench.wait)
                stack.callback(node.bench.kill)
            for name in self.drawn:
                self.pause(seconds / len(self.drawn) / 2)
                node = self.random.choice(self.nodes)
                self.say(f"{name} (node {node.number})")
                getattr(self, f"fault_{name}")(node)
                self.say(f"{name} is over")
            return self.account()

    def account(self):
        sums = {"mails_offered": 0, "mails_accepted": 0, "recipients_delivered": 0, "lost": 0,
                "duplicated": 0, "unacknowledged_delivered": 0}
        for node in self.nodes:
            node.bench.wait()
            result = json.loads(node.result.read_text())
            for key in sums:
                sums[key] += result["totals"][key]
        for node in self.nodes:
            node.note_counters()
        sums["possible_duplicates"] = sum(node.counted for node in self.nodes)
        sums["taken_over"] = sum(len(node.relay.log.events("mail_taken_over"))
                                 for node in self.nodes)
        return sums
