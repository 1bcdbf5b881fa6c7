# SPDX-License-Identifier: Apache-2.0
"""Random sequences by several incarnations, compared after every step, key by key, with spec.py: on
a real server, and on the model that stands for one in tests/fault, which thereby does the same.
A seed reproduces a run; RINGPOST_SEEDS=first:last chooses others."""
import os
import random

import pytest
import spec
from server import RedisError

LEASE_MS = 1000
INCS = ["a" * 32, "b" * 32, "c" * 32]
LANES = ["example.org", "example.net", "a.example", "-"]
STEPS = 400

first, last = map(int, os.environ.get("RINGPOST_SEEDS", "1:12").split(":"))


def key_space(client):
    """The same shape as spec.Shard.keys()."""
    names = client.call("KEYS", "*")
    kinds = client.pipe([("TYPE", name) for name in names])
    ask = {b"hash": ("HGETALL",), b"string": ("GET",), b"set": ("SMEMBERS",),
           b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"list": ("LRANGE", 0, -1)}
    values = client.pipe([(ask[kind][0], name, *ask[kind][1:])
                          for name, kind in zip(names, kinds)])
    ttls = client.pipe([("PTTL", name) for name in names])
    out = {}
    for name, kind, value, ttl in zip(names, kinds, values, ttls):
        if kind == b"hash":
            value = dict(zip(value[::2], value[1::2]))
        elif kind == b"zset":
            value = {id: int(score) for id, score in zip(value[::2], value[1::2])}
        elif kind == b"set":
            value = set(value)
        out[name.decode()] = value, ttl
    return out


def as_dicts(rows):
    """Rows [id, [field, value, ...], ...] with the fields as a dict."""
    return [[row[0], dict(zip(row[1][::2], row[1][1::2])), *row[2:]] for row in rows]


class Walk:
    """One sequence. Each op_... draws arguments and returns what is to be asked, and what spec
    says to the reply; `twice`: asking again at once must change nothing more."""

    def __init__(self, seed, client, clock):
        self.random = random.Random(seed)
        self.client, self.clock = client, clock
        self.shard = spec.Shard("ring:post", 7, clock.now)
        self.ids = [f"{seed:08x}{i:024x}" for i in range(14)]
        self.recipients = {id: self.random.choice([1, 1, 2, 5]) for id in self.ids}

    def state(self, letter=None):
        r = self.random
        letter = letter or r.choice("PPPDDXFR")
        return letter.encode() + r.randbytes(15) + b"x" * r.randrange(9)

    def any_id(self):
        return self.random.choice(self.ids)

    def any_inc(self):
        return self.random.choice(INCS)

    def name(self, id):
        """Often without a giving; mostly with the last one, or with the one before."""
        given = self.shard.mails[id].given if id in self.shard.mails else 0
        return id + self.random.choice(["", "", f":{given}", f":{given}", f":{max(given - 1, 0)}"])

    def release_ms(self):
        return self.random.choice([0, 1, 50, 700, 5000])

    def values(self, id):
        count = self.recipients[id]
        chosen = self.random.sample(range(count), self.random.randint(0, count))
        return [(index, self.state()) for index in chosen]

    def new_body(self, id, pieces, missing=False):
        commands = []
        for number in range(pieces):
            if missing and number == pieces - 1:
                break
            value, seconds = b"0body%d" % number, self.random.choice([2, 3600])
            commands.append(("SET", f"{self.shard.tag}:b:{id}:{number}", value, "EX", seconds))
            self.shard.set_body(id, number, value, seconds)
        self.client.pipe(commands)

    def some_mail(self, id):
        """(id, pieces, pending, envelope), mostly with its body."""
        pieces = self.random.choice([1, 1, 1, 0, 3])
        if id in self.shard.mails:
            pieces = self.shard.mails[id].pieces
        if self.random.random() < 0.9:
            self.new_body(id, pieces, missing=self.random.random() < 0.1)
        return id, pieces, self.recipients[id], b"envelope of " + id.encode()

    def op_commit(self):
        inc, count = self.any_inc(), self.random.choice([1, 1, 2, 5])
        mails = [self.some_mail(id) for id in self.random.sample(self.ids, count)]
        return ("rp_commit", inc, LEASE_MS, *[x for mail in mails for x in mail]), \
            lambda reply: self.shard.commit(inc, LEASE_MS, mails), True

    def op_record(self):
        inc, id = self.any_inc(), self.any_id()
        if id in self.shard.mails and self.random.random() < 0.8:
            inc = self.shard.mails[id].owner or inc
        values = self.values(id)
        release = self.random.choice(["", self.release_ms()])
        lane = self.random.choice(LANES)
        notice = None
        if self.random.random() < 0.2:
            other = self.any_id()
            notice = None if other == id else (
                *self.some_mail(other), self.random.choice(["0", "1", "1"]))
        change = None
        if notice is None and self.random.random() < 0.5:
            change = str(self.random.randrange(3))
        flat = [x for pair in values for x in pair]
        more = notice or (() if change is None else (change,))
        name = self.name(id)
        return ("rp_record", inc, name, release, lane, len(values), *flat, *more), \
            lambda reply: self.shard.record(inc, name, release, lane, values, notice, change), True

    def op_records(self):
        """Several, a mail may be named twice."""
        inc, rows = self.any_inc(), []
        for _ in range(self.random.randint(1, 5)):
            id = self.any_id()
            rows.append((self.name(id), self.random.choice(["", self.release_ms()]),
                         self.random.choice(LANES), self.values(id), None,
                         self.random.choice([None, "0", "1"])))
        flat = [x for id, release, lane, values, _, change in rows for x in (
            id, release, lane, change or "", len(values), *[y for pair in values for y in pair])]
        return ("rp_records", inc, *flat), lambda reply: self.shard.records(inc, rows), True

    def op_release(self):
        inc = self.any_inc()
        rows = [(self.name(self.any_id()), self.release_ms(), self.random.choice(LANES))
                for _ in range(self.random.randrange(4))]
        return ("rp_release", inc, *[x for row in rows for x in row]), \
            lambda reply: self.shard.release(inc, rows), True

    def op_claim(self):
        inc, most = self.any_inc(), self.random.choice([0, 1, 3, 8, 64])
        return ("rp_claim", inc, LEASE_MS, most), lambda reply: self.shard.claim(
            inc, LEASE_MS, most), False

    def op_take(self):
        inc, most = self.any_inc(), self.random.choice([0, 1, 3, 64])
        return ("rp_take", inc, LEASE_MS, most), lambda reply: self.shard.take(
            inc, LEASE_MS, most,
            [(row[0].decode(), row[2].decode()) for row in reply[2:]]), False

    def op_again(self):
        """The answer of a claim or of a take was lost."""
        inc, what = self.any_inc(), self.random.choice(["rp_claim", "rp_take"])
        return (what, inc, LEASE_MS, 64, 1), lambda reply: self.shard.give_again(inc), True

    def op_recover(self):
        inc = self.any_inc()
        ids = self.random.sample(self.ids, self.random.randrange(6))
        return ("rp_recover", inc, LEASE_MS, *ids), lambda reply: self.shard.recover(
            inc, LEASE_MS, ids), True

    def op_renew(self):
        inc = self.any_inc()
        return ("rp_renew", inc, LEASE_MS), lambda reply: self.shard.renew(inc, LEASE_MS), True

    def op_look(self):
        return ("rp_look",), lambda reply: self.shard.look(), True

    def op_count(self):
        return ("rp_count",), lambda reply: self.shard.count(), True

    def op_scan(self):
        after = self.random.choice([self.any_id(), self.any_id()[:31], "", "0", "f"])
        most = self.random.choice([0, 1, 3, 64])
        return ("rp_scan", after, most), lambda reply: self.shard.scan(after, most), True

    def op_retire(self):
        inc, most = self.any_inc(), self.random.choice([0, 1, 2, 64])

        def check(reply):
            before = self.shard.own(inc)
            after = self.client.call("SMEMBERS", f"{self.shard.tag}:own:{inc}")
            return self.shard.retire(inc, most, before - {id.decode() for id in after})
        return ("rp_retire", inc, most), check, False

    def op_cancel(self):
        inc, id = self.any_inc(), self.any_id()
        return ("rp_cancel", inc, id), lambda reply: self.shard.cancel(inc, id), True

    def op_act(self):
        action = self.random.choice(["hold", "hold", "unhold", "requeue", "remove"])
        id = self.any_id()
        return ("rp_act", id, action), lambda reply: self.shard.act(id, action), True

    def op_ask(self):
        inc, id = self.any_inc(), self.any_id()
        action = self.random.choice(["hold", "unhold", "requeue", "remove"])
        return ("rp_ask", inc, "token", id, action, "who", "why"), \
            lambda reply: self.shard.ask(inc, id, action), False

    def op_owners(self):
        def check(reply):
            assert {tuple(row) for row in reply} == self.shard.owners()
            return reply
        return ("rp_owners",), check, True

    def move_clock(self):
        steps = {0: 40, 1: 20, 40: 20, 300: 15, 1100: 8, 5_000_000: 1, 700_000_000: 0.3}
        self.clock.move(self.random.choices(list(steps), list(steps.values()))[0])
        self.shard.now = self.clock.now

    def call(self, request):
        reply = self.client.pipe([("FCALL", request[0], 1, self.shard.tag, *request[1:])])[0]
        assert not isinstance(reply, RedisError), (request, reply)
        if request[0] == "rp_scan":
            return as_dicts(reply)
        if request[0] in ("rp_claim", "rp_take"):
            return reply[:2] + as_dicts(reply[2:])
        if request[0] == "rp_recover":
            return reply[:1] + as_dicts(reply[1:])
        return reply

    def step(self):
        ops = {self.op_commit: 8, self.op_record: 10, self.op_records: 8, self.op_release: 3,
               self.op_claim: 6, self.op_take: 4, self.op_again: 2, self.op_recover: 2,
               self.op_renew: 4,
               self.op_look: 1, self.op_count: 1, self.op_scan: 1, self.op_retire: 1,
               self.op_cancel: 2, self.op_act: 5, self.op_ask: 3, self.op_owners: 1}
        self.move_clock()
        op = self.random.choices(list(ops), list(ops.values()))[0]
        request, expected, is_idempotent = op()
        self.shard.expire()
        reply = self.call(request)
        assert reply == expected(reply), request
        keys = self.shard.keys()
        assert key_space(self.client) == keys, request
        if is_idempotent and self.random.random() < 0.5:
            self.call(request)
            assert key_space(self.client) == keys, ("again", request)

    def scan(self):
        """All mails that have waited, from page to page."""
        after, found = "", []
        while True:
            rows = self.call(("rp_scan", after, 3))
            found += rows
            if len(rows) < 3:
                break
            after = rows[-1][0].decode()
        assert found == self.shard.scan("", len(self.ids))
        assert {id for id, mail in self.shard.mails.items() if not mail.owner} <= {
            row[0].decode() for row in found}


@pytest.mark.parametrize("seed", range(first, last + 1))
def test_sequence(seed, clocked):
    client, clock, wakes_of = clocked
    wakes = wakes_of("{ring:post}:wake")
    walk = Walk(seed, client, clock)
    for step in range(STEPS):
        try:
            walk.step()
            if step % 50 == 49:
                walk.scan()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, step {step}: {error}") from error
    assert wakes.count(client, b"7", b"act ") == walk.shard.wakes + walk.shard.asked
