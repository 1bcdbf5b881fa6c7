# SPDX-License-Identifier: Apache-2.0
"""What the functions of the Redis store are to do, said a second time and as plainly as possible:
each takes the same arguments, changes a model of one shard and returns the reply. keys() is the
whole key space that must be there after it. Written from the rules, not from the Lua."""
import math

HOUR = 3600 * 1000
WEEK = 7 * 24 * HOUR


def u(text):
    return text.encode()


class Mail:
    def __init__(self, envelope, pending, pieces, owner):
        self.envelope, self.pending, self.pieces = envelope, pending, pieces
        self.owner, self.due, self.lane, self.hold = owner, None, None, 0
        self.states, self.change, self.failed, self.given = {}, None, 0, 0

    def is_held(self):
        return self.hold % 2 == 1

    def waits(self):
        return self.owner is None and not self.is_held()

    def is_of(self, inc, giving):
        return self.owner == inc and giving in ("", str(self.given))

    def fields(self):
        out = {b"e": self.envelope, b"n": u(str(self.pending)), b"b": u(str(self.pieces))}
        if self.owner:
            out[b"o"] = u(self.owner)
        if self.given:
            out[b"g"] = u(str(self.given))
        if self.due is not None:
            out[b"d"] = u(str(self.due))
        if self.lane is not None:
            out[b"k"] = u(self.lane)
        if self.change is not None:
            out[b"c"] = u(self.change)
        if self.hold:
            out[b"h"] = u(str(self.hold))
        if self.failed:
            out[b"f"] = u(str(self.failed))
        for index, state in self.states.items():
            out[u(f"r{index}")] = state
        return out


class Shard:
    def __init__(self, prefix, number, now):
        self.tag, self.number, self.prefix = f"{{{prefix}:{number}}}", number, prefix
        self.now = now
        self.mails, self.bodies, self.tombs, self.leases, self.index = {}, {}, {}, {}, set()
        self.last = {}  # incarnation -> ids that it was given, when they are forgotten
        self.has_counted = self.has_failed = False
        self.wakes = self.asked = 0

    # --- the key space ---------------------------------------------------------------------------

    def expire(self):
        self.bodies = {k: v for k, v in self.bodies.items() if not v[1] or v[1] >= self.now}
        self.tombs = {k: at for k, at in self.tombs.items() if at >= self.now}
        self.last = {k: v for k, v in self.last.items() if v[1] >= self.now}

    def lanes(self):
        lanes = {}
        for id, mail in self.mails.items():
            if mail.waits():
                lanes.setdefault(mail.lane, {})[id] = mail.due
        return lanes

    def own(self, inc):
        return {id for id, mail in self.mails.items() if mail.owner == inc}

    def failed(self):
        return sum(mail.failed for mail in self.mails.values())

    def held(self):
        return {id: m.due for id, m in self.mails.items() if m.owner is None and m.is_held()}

    def keys(self):
        """name -> (value, ms until it expires or -1)"""
        self.expire()
        out = {}
        for id, mail in self.mails.items():
            out[f"m:{id}"] = mail.fields(), -1
        for (id, number), (value, at) in self.bodies.items():
            out[f"b:{id}:{number}"] = value, at - self.now if at else -1
        for id, at in self.tombs.items():
            out[f"x:{id}"] = b"1", at - self.now
        for inc, (ids, at) in self.last.items():
            out[f"last:{inc}"] = [u(id) for id in ids], at - self.now
        lanes = self.lanes()
        for lane, members in lanes.items():
            out[f"due:{lane}"] = {u(id): due for id, due in members.items()}, -1
        heads = {u(lane): min(members.values()) for lane, members in lanes.items()}
        sets = {"heads": heads, "held": {u(id): due for id, due in self.held().items()},
                "leases": {u(inc): u(str(at)) for inc, at in self.leases.items()},
                "index": {u(id): 0 for id in self.index}}
        for inc in {mail.owner for mail in self.mails.values() if mail.owner}:
            sets[f"own:{inc}"] = {u(id) for id in self.own(inc)}
        out.update({name: (value, -1) for name, value in sets.items() if value})
        if self.has_counted:
            out["waiting"] = u(str(sum(len(members) for members in lanes.values()))), -1
        if self.has_failed:
            out["failed"] = u(str(self.failed())), -1
        return {f"{self.tag}:{name}": value for name, value in out.items()}

    # --- parts -----------------------------------------------------------------------------------

    def until(self, times):
        return max(0, min(times) - self.now) if times else -1

    def next_due(self):
        return self.until([m.due for m in self.mails.values() if m.waits()])

    def next_expiry(self, inc):
        return self.until([at for other, at in self.leases.items() if other != inc])

    def wake_if_news(self):
        if self.next_due() != 0:
            self.wakes += 1

    def ensure_lease(self, inc, lease_ms):
        """Five sixths of its length are certain."""
        if self.leases.get(inc, 0) - self.now < lease_ms - lease_ms // 6:
            self.leases[inc] = self.now + lease_ms

    def end_lease(self, inc):
        self.last.pop(inc, None)
        return self.leases.pop(inc, None) is not None

    def give(self, inc, lease_ms, ids):
        for id in ids:
            self.mails[id].owner = inc
        if ids:
            self.last[inc] = ids, self.now + WEEK
            self.ensure_lease(inc, lease_ms)

    def give_again(self, inc):
        """Nothing changes."""
        self.expire()
        ids = self.last.get(inc, ([], 0))[0]
        return [self.now, 0] + [[u(id), self.mails[id].fields()] for id in ids
                                if id in self.mails and self.mails[id].owner == inc]

    def forget(self, id):
        mail = self.mails.pop(id)
        self.has_counted = self.has_counted or mail.waits()
        for number in range(mail.pieces):
            self.bodies.pop((id, number), None)
        self.index.discard(id)

    def wait(self, id, due, lane):
        mail = self.mails[id]
        mail.owner, mail.due, mail.lane = None, due, lane
        self.index.add(id)
        self.has_counted = self.has_counted or mail.waits()

    def persist(self, id, pieces):
        for number in range(pieces):
            if (id, number) in self.bodies:
                self.bodies[id, number] = self.bodies[id, number][0], None

    def make(self, inc, id, pieces, pending, envelope):
        self.expire()
        if id in self.mails:
            self.persist(id, pieces)
            return "OK" if self.mails[id].owner == inc else "LOST"
        if id in self.tombs:
            return "GONE"
        if any((id, number) not in self.bodies for number in range(pieces)):
            return "NOBODY"
        self.persist(id, pieces)
        self.mails[id] = Mail(envelope, pending, pieces, inc)
        return "DONE"

    # --- what a node does besides ----------------------------------------------------------------

    def set_body(self, id, number, value, seconds):
        self.bodies[id, number] = value, self.now + seconds * 1000

    # --- the functions ---------------------------------------------------------------------------

    def commit(self, inc, lease_ms, mails):
        verdicts = [self.make(inc, *mail) for mail in mails]
        if "DONE" in verdicts:
            self.ensure_lease(inc, lease_ms)
        return [b"OK" if verdict == "DONE" else u(verdict) for verdict in verdicts]

    def record(self, inc, name, release_ms, lane, values, notice=None, change=None):
        id, _, giving = name.partition(":")
        mail = self.mails.get(id)
        if mail is None:
            return [b"GONE", 0]
        if change is not None and mail.change == change:
            return [b"OK", mail.pending]
        mine = mail.is_of(inc, giving)
        news = {}
        for index, value in values:
            old = mail.states.get(index, b"P")
            if old[:1] == b"P" and mail.states.get(index) != value and (mine or value[:1] == b"D"):
                news[index] = value
        if mine and notice:
            verdict = self.make(inc, *notice[:4])
            was_done = len(values) > 0 and not news
            if verdict in ("NOBODY", "GONE") and not was_done:
                return [b"NOBODY", mail.pending]
        told = bool(notice) and not mine and self.leave_notice(inc, notice, values, news)
        mail.states.update(news)
        mail.pending -= sum(value[:1] != b"P" for value in news.values())
        failed = sum(value[:1] == b"F" for value in news.values())
        left = mail.pending
        if left > 0 and failed:
            mail.failed += failed
            self.has_failed = True
        if left == 0:
            self.forget(id)
        elif mine and release_ms != "":
            self.wait(id, self.now + release_ms, lane)
            mail.change = mail.change if change is None else change
        elif mine and mail.lane is None and any(v[:1] == b"P" for v in news.values()):
            mail.lane = "-"
            self.index.add(id)
        return [b"OK" if mine else b"TOLD" if told else b"LOST", left]

    def leave_notice(self, inc, notice, values, news):
        """A former owner's: kept where it tells of deliveries alone, and all of them are news."""
        id, pieces, of_deliveries = notice[0], notice[1], notice[4]
        if id in self.mails:
            self.persist(id, pieces)
            return True
        delivered = {index for index, value in values if value[:1] == b"D"}
        if of_deliveries != "1" or not delivered or delivered != set(news) or \
                self.make(inc, *notice[:4]) != "DONE":
            return False
        self.wake_if_news()
        self.wait(id, self.now, "-")
        return True

    def records(self, inc, rows):
        return [x for row in rows for x in self.record(inc, *row)]

    def release(self, inc, rows):
        count = 0
        for name, release_ms, lane in rows:
            id, _, giving = name.partition(":")
            if id in self.mails and self.mails[id].is_of(inc, giving):
                self.wait(id, self.now + release_ms, lane)
                count += 1
        return count

    def claim(self, inc, lease_ms, most):
        out, given = [], []
        lanes = {lane: sorted((due, id) for id, due in members.items())
                 for lane, members in self.lanes().items()}
        due_lanes = sorted((rows[0][0], lane) for lane, rows in lanes.items()
                           if rows[0][0] <= self.now)
        for _, lane in due_lanes:
            room = min(math.floor(most / 8) + 1, most - len(out))
            for due, id in [row for row in lanes[lane] if row[0] <= self.now][:room]:
                self.mails[id].given += 1
                out.append([u(id), self.mails[id].fields()])
                given.append(id)
        self.give(inc, lease_ms, given)
        return [self.now, self.next_due()] + out

    def take(self, inc, lease_ms, most, chosen):
        """chosen: (id, former owner) as the server answered; any of those that may be taken."""
        over = {other for other, at in self.leases.items() if other != inc and at <= self.now}
        available = sum(len(self.own(other)) for other in over)
        assert len(chosen) == min(most, available), (len(chosen), most, available)
        assert len({id for id, _ in chosen}) == len(chosen)
        out = []
        for id, former in chosen:
            assert former in over and self.mails[id].owner == former
            self.mails[id].given += 1
            out.append([u(id), self.mails[id].fields(), u(former)])
        self.give(inc, lease_ms, [id for id, _ in chosen])
        for other in over:
            if not self.own(other):
                self.end_lease(other)
        return [self.now, self.next_expiry(inc)] + out

    def recover(self, inc, lease_ms, ids):
        ids = [id for id in ids if id in self.own(inc)]
        if ids:
            self.ensure_lease(inc, lease_ms)
        return [self.now] + [[u(id), self.mails[id].fields()] for id in ids]

    def renew(self, inc, lease_ms):
        owned = len(self.own(inc))
        if owned or inc in self.leases:
            self.leases[inc] = self.now + lease_ms
        return [self.now, owned, self.next_due(), self.next_expiry(inc)]

    def look(self):
        return [self.now, self.next_due(), self.next_expiry(None)]

    def retire(self, inc, most, chosen):
        own = self.own(inc)
        assert len(chosen) == min(most, len(own)) and chosen <= own
        if chosen:
            self.wake_if_news()
        for id in chosen:
            self.wait(id, self.now, self.mails[id].lane or "-")
        left = len(own) - len(chosen)
        if left == 0 and self.end_lease(inc) and not chosen:
            self.wakes += 1  # for what it released before
        return left

    def cancel(self, inc, id):
        self.tombs[id] = self.now + HOUR
        number = 0
        if id in self.mails:
            if self.mails[id].owner not in (None, inc):
                return b"OK"
            number = self.mails[id].pieces
            self.forget(id)
        while self.bodies.pop((id, number), None):
            number += 1
        return b"OK"

    def act(self, id, action):
        mail = self.mails.get(id)
        if mail is None:
            return b"NONE"
        if mail.owner:
            return b"OWNED"
        if action == "remove":
            self.forget(id)
        elif action == "hold" and not mail.is_held():
            mail.hold += 1
        elif action == "unhold" and mail.is_held():
            self.refresh(mail, True)
            self.wake_if_news()
            mail.hold += 1
            mail.due = self.now
            self.has_counted = True
        elif action == "requeue":
            self.refresh(mail, False)
            if mail.due > self.now:
                if mail.waits():
                    self.wake_if_news()
                mail.due = self.now
        return b"OK"

    def refresh(self, mail, forgiving):
        for index, state in mail.states.items():
            if state[:1] == b"P":
                closed = state[1:3] if forgiving else state[3:5]
                mail.states[index] = state[:3] + closed + state[5:8] + bytes(8) + state[16:]

    def count(self):
        owned = {inc: len(self.own(inc)) for inc in self.leases}
        return [self.now, sum(m.waits() for m in self.mails.values()), len(self.held()),
                sum(owned.values()),
                sum(owned[inc] for inc, at in self.leases.items() if at <= self.now),
                self.failed()]

    def scan(self, after, most):
        return [[u(id), self.mails[id].fields()] for id in sorted(self.index) if id > after][:most]

    def owners(self):
        return {(u(inc), len(self.own(inc))) for inc in self.leases}

    def ask(self, inc, id, action):
        """Of one that is another's its owner hears."""
        mail = self.mails.get(id)
        if mail is None or mail.owner is None:
            return self.act(id, action)
        self.asked += mail.owner != inc
        return b"MINE" if mail.owner == inc else b"ASKED"
