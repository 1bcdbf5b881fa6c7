#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What mails that wait in Redis cost: memory of a mail, the start of a node, an idle node.

    waiting.py [--mails 1000000] [--kib 10]

For each setting (bodies raw or compressed; small hashes as Redis packs them by default, or as
deploy/cluster/redis.conf has it) a relay takes in so many mails that its next hop defers, and
gives them back to Redis, which then holds nothing else: what it uses more than before, divided by
the mails, is what one costs. Nothing is synced: this does not change memory. Then the time from the
start of a node to the first MAIL that it takes, and what it asks Redis in ten seconds.

The mails are plain text in English (of /usr/share/common-licenses, each from another place on), so
that what compression saves is what it saves on text. --out keeps the results.
"""
import argparse
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import harness
from endure import bench, read
from relays.ringpost_redis import RingpostRedis

TEXTS = pathlib.Path("/usr/share/common-licenses")
LETTERS = 500
START_MAX_S = 2
IDLE_S = 10
PATIENCE_S = 30
IDLE_MAX = 10  # commands a second of a cluster of three nodes
HEAD = "Subject: about {number}\r\nFrom: <source@bench.test>\r\nTo: <one@sink.test>\r\n\r\n"


class Waiting(RingpostRedis):
    """Nothing is promised, so nothing is synced; what was tried once waits to the end."""
    compress, listpack = True, 64

    def set_up(self):
        super().set_up()
        file, redis = self.folder / "ringpost.yaml", self.folder / "redis.conf"
        text = file.read_text()
        old = f'redis: {{ server: "unix:{self.folder}/redis.sock" }}'
        assert old in text
        file.write_text(text.replace(
            old, f'redis: {{ server: "unix:{self.folder}/redis.sock", durability: memory, '
                 f'compress: {str(self.compress).lower()} }}') +
            "retry: { schedule: [12h] }\n")
        text = redis.read_text().replace("appendonly yes", "appendonly no")
        redis.write_text(text + f"hash-max-listpack-value {self.listpack}\n")

    def start_again(self):
        """When it has ended: seconds until it takes mail. Redis went on."""
        begin = time.monotonic()
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output, cwd=self.folder,
                                            start_new_session=True)
        harness.wait_connectable(self.host, self.port, self.process)
        self.wait_ready()
        return time.monotonic() - begin

    def waits(self):
        shards = range(16)
        answer = subprocess.run(
            ["redis-cli", "-s", self.folder / "redis.sock", "MGET",
             *(f"{{ringpost:{n}}}:waiting" for n in shards)],
            check=True, capture_output=True, text=True).stdout
        return sum(int(line) for line in answer.split())


def make_corpus(folder, size):
    text = "\n".join(path.read_text(errors="replace") for path in sorted(TEXTS.iterdir())
                     if path.is_file() and not path.is_symlink())
    text = text.encode("ascii", "replace").decode().replace("\n", "\r\n")
    if len(text) < 10 * size:
        raise harness.Failure(f"{TEXTS} has too little text")
    dice = random.Random(1)
    for number in range(LETTERS):
        at = text.index("\n", dice.randrange(len(text) - size - 200)) + 1
        head = HEAD.format(number=number)
        (folder / f"{number}").write_bytes(
            (head + text[at:at + size - len(head) - 60].rstrip("\r\n")).encode() + b"\r\n")


def fill(relay, corpus, count):
    """Until all that was accepted has been tried and waits; returns how many these are."""
    file = relay.folder / "fill.json"
    with subprocess.Popen(bench(["sink", "--sink", f"{relay.sink_host}:{relay.sink_port}",
                                 "--fault", "100%:defer"]), stdout=subprocess.DEVNULL) as sink:
        harness.wait_connectable(relay.sink_host, relay.sink_port, sink)
        subprocess.run(bench(["source", "--relay", relay.address, "--messages", count, "--corpus",
                              corpus, "--connections", 50, "--mode", "pipelined", "--json", file]),
                       check=True, stdout=subprocess.DEVNULL)
        count = read(file)["totals"]["mails_accepted"]
        deadline = time.monotonic() + PATIENCE_S
        while relay.waits() < count and time.monotonic() < deadline:
            time.sleep(0.2)  # Redis tells nobody
        sink.terminate()
    harness.terminate(relay.process)  # gives back what it still has
    if relay.waits() != count:
        raise harness.Failure(f"{relay.waits()} mails wait and not {count}\n{relay.log()}")
    return count


def measure(relay, corpus, count):
    empty = relay.ask("memory")
    count = fill(relay, corpus, count)
    full = relay.ask("memory")
    start_s = relay.start_again()
    before = int(relay.ask("stats")["total_commands_processed"])
    time.sleep(IDLE_S)  # it is the time that is measured
    commands = int(relay.ask("stats")["total_commands_processed"]) - before
    return {"compress": relay.compress, "listpack": relay.listpack, "mails": count,
            "bytes_a_mail": (int(full["used_memory"]) - int(empty["used_memory"])) / count,
            "rss_a_mail": (int(full["used_memory_rss"]) - int(empty["used_memory_rss"])) / count,
            "start_s": start_s, "commands_per_s": commands / IDLE_S}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mails", type=int, default=1_000_000)
    parser.add_argument("--kib", type=int, default=10)
    parser.add_argument("--only", help="one setting, such as zstd,1024")
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--out", default=None, help="file for the results")
    arguments = parser.parse_args()
    found, good = [], True
    with tempfile.TemporaryDirectory(prefix="ringpost-waiting.", dir=arguments.folder) as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        (folder / "corpus").mkdir()
        make_corpus(folder / "corpus", arguments.kib << 10)
        for packing, listpack in itertools.product(("raw", "zstd"), (64, 1024)):
            if arguments.only and arguments.only != f"{packing},{listpack}":
                continue
            relay = Waiting(folder / "relay", (harness.address(), harness.free_port()))
            relay.compress, relay.listpack = packing == "zstd", listpack
            with relay.running():
                one = measure(relay, folder / "corpus", arguments.mails)
            found.append(one)
            good &= one["start_s"] <= START_MAX_S and one["commands_per_s"] < IDLE_MAX
            print(f"{packing}, hash-max-listpack-value {listpack}: "
                  f"{one['bytes_a_mail']:.0f} bytes a mail of {one['mails']} "
                  f"({one['rss_a_mail']:.0f} of RSS); a node starts in {one['start_s']:.2f} s (at "
                  f"most {START_MAX_S}), then sends {one['commands_per_s']:.1f} commands/s, with "
                  "those of functions", flush=True)
    if arguments.out:
        pathlib.Path(arguments.out).write_text(json.dumps(found, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
