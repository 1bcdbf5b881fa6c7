# SPDX-License-Identifier: Apache-2.0
"""Three relays that share one queue, each under a ringpost-bench of its own, while things break.

Every bench follows its mails from the offer to its sink, whoever delivers them. chaos_plan.py draws
the kind of Redis, the faults and their order. Afterwards nothing with a 250 is lost, and the sinks
saw no more duplicates than the relays' counters of possible duplicates allow (what was counted by a
relay that was killed is read from it right before).

Each relay has a network namespace of its own, in which it is cut off; where none can be made, the
single Redis is reached over a wire (cut.py), which is cut or frozen.
"""
import collections
import contextlib
import datetime
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import netns
import ports
from cut import Wire
from daemon import Lines, Ringpost
from loopdisk import LoopDisk
from redis_groups import KINDS
from redis_server import wait_until
from sink import Sink

NODES = 3
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
HOUR_S = 3600
DISK_MIB = 128  # for the data of the Redis whose disk becomes full


class Relay(Ringpost):
    """One that may be in a namespace, and may be told a false time by faketime."""

    def __init__(self, folder, config, routes, host, enter):
        self.enter = enter
        self.faketime_s = 0
        super().__init__(folder, None, routes)
        self.host = host or self.host
        self.change({"listeners": self.base()["listeners"], "metrics": self.base()["metrics"],
                     "relay": {"networks": ["127.0.0.0/8", "198.18.0.0/15"]}, **config})

    def command(self, *arguments):
        program, *rest = super().command(*arguments)
        if self.faketime_s:
            # libfaketime cannot live with jemalloc, which this one is without.
            program = os.environ["RINGPOSTD_PLANTED"]
            return [*self.enter, "env", f"LD_PRELOAD={FAKETIME}", "DONT_FAKE_MONOTONIC=1",
                    f"FAKETIME={self.faketime_s:+}s", program, *rest]
        return [*self.enter, program, *rest]


class Node:
    """A relay, its way to Redis, and the load on it."""

    def __init__(self, chaos, number):
        self.chaos, self.number = chaos, number
        self.sink = f"{chaos.sink_host}:{ports.free_port(chaos.sink_host)}"
        self.wire = None
        self.relay = self.bench = None
        self.counted = collections.Counter()  # by relays of before

    def make(self, stack):
        chaos = self.chaos
        redis = chaos.redis.options()
        if chaos.spaces is None and "server" in redis:
            self.wire = stack.enter_context(Wire(*redis["server"].split(":")))
            redis = {"server": self.wire.server}
        self.relay = Relay(chaos.folder / f"node{self.number}", {
            "hostname": f"node{self.number}.test",
            "timeouts": {"drain": "1s"},
            "queue": {"store": "redis",
                      "redis": {**redis, "lease": f"{chaos.lease_s}s", "deadline": "1s"}},
        }, [{"domain": f"n{node.number}.test", "to": f"smtp://{node.sink}"}
            for node in chaos.nodes] + [{"domain": "*", "to": "discard"}],
            chaos.spaces and chaos.spaces.inside(self.number),
            chaos.spaces.enter(self.number) if chaos.spaces else [])

    def load(self, seconds, rate):
        lease_s = self.chaos.lease_s
        self.result = self.chaos.folder / f"bench{self.number}.json"
        self.bench = subprocess.Popen(
            [self.chaos.bench, "run", "--json", str(self.result), "--relay",
             f"{self.relay.host}:{self.relay.port}", "--sink", self.sink, "--connections", "8",
             "--seconds", f"{seconds}s", "--rate", str(rate), "--domain", f"n{self.number}.test",
             "--baseline", "0s", "--drain", f"{30 + 3 * lease_s}s", "--settle", f"{lease_s}s",
             "--timeout", "10s", "--size", "1KiB:90,20KiB:10", "--fault", "10%:defer"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = Lines(self.bench.stdout)

    def note_counters(self):
        """Before it is killed: what it has counted goes with it."""
        with contextlib.suppress(OSError):
            for sample in self.relay.metrics().samples:
                if sample.name == "ringpost_duplicates_possible_total" and sample.value > 0:
                    self.counted[sample.labels["cause"]] += int(sample.value)

    def cut(self):
        chaos = self.chaos
        if self.wire is None:
            chaos.spaces.cut(self.number, chaos.redis_host)
            return "by its namespace"
        way = chaos.lot.choice(("cut", "freeze"))
        getattr(self.wire, way)()
        return f"no namespaces here: wire, {way}"

    def mend(self):
        if self.wire is None:
            self.chaos.spaces.mend(self.number, self.chaos.redis_host)
        else:
            self.wire.mend()


class Chaos:
    def __init__(self, folder, bench, plan):
        self.folder, self.bench, self.plan = pathlib.Path(folder), bench, plan
        self.lot, self.lease_s = plan.lot, plan.lease_s
        self.nodes = []
        self.story, self.breaks = [], []

    def say(self, what):
        self.story.append(f"{time.monotonic() - self.began:6.2f} s {what}")

    def wait(self, seconds):
        """A moment that is part of the story, not a wait for something."""
        threading.Event().wait(seconds)

    def pause(self, most_s):
        self.wait(self.lot.uniform(0.2, most_s))

    # ---- faults ----

    def fault_kill(self, node):
        node.note_counters()
        node.relay.kill()
        self.pause(1.5 * self.lease_s)
        node.relay.start()

    def fault_stop(self, node):
        """Longer than its lease: others take over what it believes to have."""
        node.relay.process.send_signal(signal.SIGSTOP)
        self.wait(1.5 * self.lease_s)
        node.relay.process.send_signal(signal.SIGCONT)

    def fault_restart(self, node):
        node.note_counters()
        node.relay.stop()
        node.relay.start()

    def fault_cut(self, node):
        self.say(node.cut())
        self.pause(2 * self.lease_s)
        node.mend()

    def fault_clock(self, node):
        """From one start of it to the next its clock is off."""
        off_s = self.lot.choice((HOUR_S, -HOUR_S))
        self.say(f"clock of node {node.number}: {off_s:+} s")
        node.note_counters()
        node.relay.stop()
        node.relay.faketime_s = off_s
        node.relay.start()
        self.wait(2 * self.lease_s)
        node.note_counters()
        node.relay.stop()
        node.relay.faketime_s = 0
        node.relay.start()

    def fault_redis_killed(self, _):
        (redis,) = self.redis.masters()
        redis.kill()
        self.pause(self.lease_s)
        redis.start()

    def fault_master_killed(self, _):
        redis = self.redis.kill_master(self.lot)
        self.say("another is the master")
        self.pause(self.lease_s)
        self.redis.bring_back(redis)

    fault_sentinel_master_killed = fault_cluster_master_killed = fault_master_killed

    def fault_redis_full(self, _):
        masters = self.redis.masters()
        for redis in masters:
            redis.ask("CONFIG", "SET", "maxmemory", "1mb")
        self.pause(self.lease_s)
        for redis in masters:
            redis.ask("CONFIG", "SET", "maxmemory", "0")

    def fault_disk_full(self, _):
        """Redis ends itself where it cannot write what it has to sync (appendfsync always)."""
        (redis,) = self.redis.masters()
        filler = self.disk / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1))
        redis.process.wait(30)
        self.say(f"redis-server has ended itself: {redis.process.returncode}")
        self.pause(self.lease_s)
        filler.unlink()
        redis.start()

    # ---- the run ----

    def make_redis(self, stack):
        """Where it listens, and where its data are."""
        more = {}
        self.redis_host, self.sink_host = ports.address(), ports.address(1)
        self.spaces = None
        if netns.can_be_made():
            self.spaces = stack.enter_context(netns.Namespaces(NODES))
            self.redis_host, self.sink_host = self.spaces.outside(0), self.spaces.outside(1)
        if "disk_full" in self.plan.faults:
            self.disk = stack.enter_context(LoopDisk(self.folder, DISK_MIB)).path
            more["data"] = self.disk / "redis"
        self.redis = stack.enter_context(
            KINDS[self.plan.kind](self.folder, self.redis_host, **more))

    def make_relays(self, stack):
        self.nodes = [Node(self, number) for number in range(NODES)]
        for node in self.nodes:
            node.make(stack)
            stack.enter_context(node.relay)

    def run(self, seconds, rate):
        """Returns the account."""
        self.began = time.monotonic()
        with contextlib.ExitStack() as stack:
            self.make_redis(stack)
            self.make_relays(stack)
            for node in self.nodes:
                node.load(seconds, rate)
                stack.callback(node.bench.wait)
                stack.callback(node.bench.kill)
            for name in self.plan.faults:
                self.pause(seconds / len(self.plan.faults) / 2)
                node = self.lot.choice(self.nodes)
                self.say(f"{name} (node {node.number})")
                self.breaks.append(time.time())
                getattr(self, f"fault_{name}")(node)
                self.say(f"{name} is over")
            return self.account()

    def account(self):
        sums = dict.fromkeys(("mails_offered", "mails_accepted", "recipients_delivered", "lost",
                              "duplicated", "unacknowledged_delivered"), 0)
        for node in self.nodes:
            node.bench.wait()
            result = json.loads(node.result.read_text())
            for key in sums:
                sums[key] += result["totals"][key]
        sums["late"], sums["left"] = self.wait_empty()
        for node in self.nodes:
            node.note_counters()
        if sums["lost"] + sums["left"] > 0:
            self.show_left()
        possible = sum((node.counted for node in self.nodes), collections.Counter())
        sums["possible_duplicates"] = dict(possible)
        sums["possible_duplicates_sum"] = sum(possible.values())
        return {**sums, **self.takeovers()}

    def left(self):
        """Mails that are in Redis."""
        return sum(":m:" in key for redis in self.redis.masters()
                   for key in redis.ask("KEYS", "*"))

    def wait_empty(self):
        """Nothing stays behind: a mail whose outcome was lost is delivered again, to sinks of ours.

        Returns what these got, all of it for another time, and what is in Redis still.
        """
        with contextlib.ExitStack() as stack:
            sinks = [stack.enter_context(Sink(host=host, port=int(port))) for host, port in
                     (node.sink.split(":") for node in self.nodes)]
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self.left() == 0, self.redis.masters()[0], "nothing is left",
                           10 + 3 * self.lease_s)
            return sum(len(sink.mails) for sink in sinks), self.left()

    def show_left(self):
        """Mails that are in Redis still, and what the nodes have said of them."""
        events = [(node.number, event) for node in self.nodes for event in node.relay.log.events()]
        for redis in self.redis.masters():
            for key in [key for key in redis.ask("KEYS", "*") if ":m:" in key][:20]:
                fields = redis.ask("HGETALL", key)
                fields = {k: repr(v) for k, v in zip(fields[::2], fields[1::2]) if k != "e"}
                self.story.append(f"left: {key} {fields}")
        ids = {event["id"] for _, event in events if event.get("event") == "received"} - {
            event["id"] for _, event in events
            if event.get("event") == "delivery" and event["result"] == "delivered"}
        self.story += [f"node {n}: {event}" for n, event in events if event.get("id") in ids][:60]

    def takeovers(self):
        """How many mails were taken over, and how long after a fault the last one of it was.

        Lines of a relay whose clock was off say nothing of when.
        """
        times = [datetime.datetime.fromisoformat(event["time"]).timestamp()
                 for node in self.nodes for event in node.relay.log.events("mail_taken_over")]
        waits = [at - max(b for b in self.breaks if b <= at) for at in times
                 if self.breaks[0] <= at < time.time()]
        return {"taken_over": len(times), "slowest_takeover_s": round(max(waits, default=0), 1)}
