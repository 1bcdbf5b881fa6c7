# SPDX-License-Identifier: Apache-2.0
"""A million deferred mails: memory a mail, time of a cold start, disk, and speed of intake.

The spool is made by a tool, RINGPOST_MAKE_SPOOL, which is called as
    TOOL --spool FOLDER --mails N --size BYTES --due SECONDS --recipient ADDRESS
and writes what a daemon would have written that took these mails and deferred them that long.
RINGPOST_MILLION sets another number of mails."""
import collections
import os
import pathlib
import subprocess
import time

import pytest

from daemon import Ringpost
from test_admin import AdminClient
from test_idle import pss_bytes

MAILS = int(os.environ.get("RINGPOST_MILLION", "1000000"))
SIZE = 10 << 10
MEMORY_MAX = 256
START_MAX_S = 10
START_READ_MAX = 0.05  # of the bodies: a start reads footers, each once
ANSWER_MAX_S = 1
SLICE_S = 400e-6  # of 200 us, and what the kernel does in between
BODY = b"Subject: hi\r\n\r\n" + b"x" * 76 + b"\r\n"


def make_spool(folder):
    tool = os.environ.get("RINGPOST_MAKE_SPOOL", "")
    if not tool:
        pytest.skip("RINGPOST_MAKE_SPOOL does not name the tool that makes a spool")
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if free < 3 * MAILS * SIZE:
        pytest.skip(f"needs {3 * MAILS * SIZE >> 30} GiB of disk, there are {free >> 30}")
    subprocess.run([tool, "--spool", str(folder), "--mails", str(MAILS), "--size", str(SIZE),
                    "--due", "86400", "--recipient", "one@example.test"], check=True)


def disk_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in pathlib.Path(folder).rglob("*"))


def drop_caches():
    os.sync()  # what is dirty can not be dropped
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def read_bytes(pid):
    """That the disk had to give to the process."""
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def accept_rate(relay, count=1000):
    """Mails a second over one connection, one after the other."""
    with relay.connect() as client:
        client.greet()
        begin = time.monotonic()
        for _ in range(count):
            assert client.mail(body=BODY)[0] == 250
        return count / (time.monotonic() - begin)


def best_rates(*relays, rounds=10):
    """Of each relay, in turns, so that what else the machine does meets all of them."""
    rates = [[accept_rate(relay) for relay in relays] for _ in range(rounds)]
    return [max(of_one) for of_one in zip(*rates)]


FILTERS = [{}, {"state": "held"}, {"site": "smtp://x"}, {"older_than": "365d"},
           {"sender": "no@x.test"}, {"domain": "x.test"}, {"recipient": "x@example.test"},
           {"reply": "no such"}, {"attempts": 60000}]


def slices(relay):
    """How many there were so far: not longer than SLICE_S, and in all."""
    counts = collections.Counter()
    for sample in relay.metrics().samples:
        if sample.name == "ringpost_admin_slice_seconds_bucket":
            counts[float(sample.labels["le"])] += sample.value
    return max(value for le, value in counts.items() if le <= SLICE_S), counts[float("inf")]


def look(relay, client):
    """Everything that can be asked, once: the longest answer by command, and the part of the
    slices that were short."""
    slowest = collections.Counter()
    short, number = slices(relay)

    def ask(command, **arguments):
        begin = time.monotonic()
        answer = client.ask(command, **arguments)
        slowest[command] = max(slowest[command], time.monotonic() - begin)
        assert answer["ok"], answer
        return answer["result"]

    assert len(ask("queue list")["rows"]) == 100
    for by in ("domain", "sender", "reply", "site", "state", "age", "attempts"):
        assert ask("queue count", by=by)["count"] == MAILS
    for choice in FILTERS:
        ask("queue list", **choice)
        ask("queue count", by="state", **choice)
    short_then, number_then = slices(relay)
    return dict(slowest), (short_then - short) / (number_then - number)


def test_looking_into_a_million_mails(folder):
    """The first page and counts with any filter within a second, and no worker is held up. In one
    of three rounds at least: what else the machine does makes both longer, and nothing shorter."""
    socket_path = folder / "admin.sock"
    relay = Ringpost(folder / "full", {"admin": {"socket": str(socket_path)}})
    make_spool(relay.spool)
    with relay, AdminClient(socket_path) as client:
        for _ in range(3):
            slowest, short = look(relay, client)
            print(f"{MAILS} mails: slowest {slowest}, {100 * short:.2f} % of slices within "
                  f"{SLICE_S * 1e6:.0f} us")
            if max(slowest.values()) <= ANSWER_MAX_S and short >= 0.99:
                return
    raise AssertionError(f"slowest {slowest}, {100 * short:.2f} % of slices are short")


def test_a_million_deferred_mails(folder):
    empty = Ringpost(folder / "empty")
    with empty:
        fixed = pss_bytes(empty.process.pid)
    full = Ringpost(folder / "full")
    make_spool(full.spool)
    drop_caches()  # a cold start
    begin = time.monotonic()
    with full:
        ready_s = time.monotonic() - begin
        read = read_bytes(full.process.pid)
        assert full.metrics().sum("ringpost_queue_mails") == MAILS
        each = (pss_bytes(full.process.pid) - fixed) / MAILS
        with empty:
            rate_full, rate_empty = best_rates(full, empty)
        used = disk_bytes(full.spool)
        segment = 64 << 20
        written = full.metrics().sum("ringpost_spool_written_bytes_total")
        full.kill()
        drop_caches()
        full.start()
        read_killed = read_bytes(full.process.pid)
        print(f"{MAILS} mails: {each:.0f} bytes of memory each, ready after {ready_s:.1f} s "
              f"and {read / 1e6:.0f} MB read, {read_killed / 1e6:.0f} MB after a kill, "
              f"disk {used / (MAILS * SIZE):.2f} times the live bytes, "
              f"{rate_full:.0f} mails/s accepted against {rate_empty:.0f} when empty")
        assert each <= MEMORY_MAX
        assert ready_s <= START_MAX_S
        assert read <= START_READ_MAX * MAILS * SIZE
        # The segment that each log had open is read whole, and once more as far as it was used.
        assert read_killed - read <= 2 * segment + written + (8 << 20)
        assert used <= 2 * MAILS * SIZE + 4 * 2 * segment
        assert rate_full >= 0.8 * rate_empty  # the noise of two runs on a shared machine
