# SPDX-License-Identifier: Apache-2.0
"""Limits that three relays over one Redis keep together: what users may send, what sites take."""
import asyncio
import contextlib
import os
import threading
import time

import pytest

import redis_server
from daemon import Client, Ringpost
from redis_server import Redis
from sink import Session, Sink
from test_mx import FIRST, tree  # noqa: F401 (a fixture)
from test_submission import ANN, BODY, Submission, send

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

LEASE_S = 3
NODES = ("one", "two", "three")


@pytest.fixture
def redis(folder):
    with Redis(folder / "redis") as running:
        yield running


@pytest.fixture
def make(folder, redis, sink):
    """Three running relays with what differs in their configuration."""
    def node(name, config, lease_s):
        return Submission(folder / name, sink, {
            "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
            "queue": {"store": "redis",
                      "redis": {"server": redis.server, "lease": f"{lease_s}s"}}, **config})

    with contextlib.ExitStack() as running:
        yield lambda config=None, lease_s=LEASE_S: [
            running.enter_context(node(name, config or {}, lease_s)) for name in NODES]


def at_once(count, run):
    """Runs run(0), run(1) ... each on a thread; what failed in one fails here."""
    failures = []

    def guarded(number):
        try:
            run(number)
        except BaseException as failure:  # an assertion of a thread is one of the test
            failures.append(failure)
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# ---- users ----

def test_a_users_mails_in_an_hour_over_all_nodes(make, sink):
    """All that the limit allows goes through, over whichever node, and not one more."""
    nodes = make({"users": {"defaults": {"mails_per_hour": 40, "mails_per_day": 1000}}})
    accepted = [[] for _ in range(9)]
    deadline = time.monotonic() + 60

    def run(number):
        with nodes[number % 3].login() as client:
            while sum(map(len, accepted)) < 40 and time.monotonic() < deadline:
                answer = send(client)
                assert answer in ((250, "2.0.0"), (450, "4.7.1")), answer
                if answer[0] == 250:
                    accepted[number].append(answer)

    at_once(9, run)
    assert sum(map(len, accepted)) == 40
    for first in range(3):
        assert any(accepted[first::3]), "a node had no part of it"
    for node in nodes:
        with node.login() as client:
            assert [send(client) for _ in range(3)] == [(450, "4.7.1")] * 3
        assert node.log.wait("user_limit")["limit"] == "mails_per_hour"
    assert len(sink.wait(40)) == 40


def test_recipients_count_over_all_nodes_and_what_was_not_sent_does_not(make):
    nodes = make({"users": {"defaults": {"recipients_per_hour": 12}}})
    with nodes[0].login() as one, nodes[1].login() as two:
        # Named, and not sent.
        assert one.mail(ANN)[0] == 250
        assert [one.rcpt(f"u{n}@else.test")[0] for n in range(8)] == [250] * 8
        one.rset()
        assert send(one, recipients=[f"u{n}@else.test" for n in range(6)])[0] == 250
        # What the first node does not use comes to the second.
        sent = 0
        deadline = time.monotonic() + 30
        while sent < 6 and time.monotonic() < deadline:
            with nodes[1].login() as other:
                sent += send(other)[0] == 250
        assert sent == 6
        assert send(one) == (450, "4.7.1")
        assert send(two) == (450, "4.7.1")


def test_pipelined_commands_wait_for_the_answer_in_order(make, sink):
    nodes = make({"users": {"defaults": {"mails_per_hour": 100, "recipients_per_hour": 5}}})
    with nodes[0].login() as client:
        lines = [f"MAIL FROM:<{ANN}>", *(f"RCPT TO:<u{n}@else.test>" for n in range(7)), "DATA"]
        client.send("".join(line + "\r\n" for line in lines).encode())
        codes = [client.getreply()[0] for _ in lines]
        assert codes == [250] + [250] * 5 + [450] * 2 + [354]
        client.send(BODY + b".\r\n")
        assert client.getreply()[0] == 250
    assert len(sink.wait(1)[0].recipients) == 5


def test_a_user_is_refused_for_now_while_redis_is_away(make, redis):
    nodes = make({"users": {"defaults": {"mails_per_hour": 100}}})
    with nodes[0].login() as client:
        assert send(client)[0] == 250
        redis.kill()
        nodes[0].wait_ready(status=503)
        code, text = client.mail(ANN)
        assert code == 451 and b"queue server cannot be reached" in text
        redis.start()
        for node in nodes:
            node.wait_ready()
        assert send(client)[0] == 250


def test_a_client_that_goes_away_while_it_waits_does_no_harm(make, redis):
    nodes = make({"users": {"defaults": {"mails_per_hour": 100}}})
    redis.pause()
    client = nodes[0].login()
    client.send(f"MAIL FROM:<{ANN}>\r\n".encode())
    client.close()
    nodes[0].wait_metric(lambda m: m.sum("ringpost_connections", side="receive") == 0,
                         "the session has ended")
    redis.resume()
    for node in nodes:
        node.wait_ready()
    with nodes[0].login() as client:
        assert send(client)[0] == 250


def test_an_idle_cluster_asks_little(make, redis):
    """Limits cost nothing while nobody uses them."""
    nodes = make({"users": {"defaults": {"mails_per_hour": 100}}}, lease_s=30)
    with nodes[0].login() as client:
        assert send(client)[0] == 250

    def commands(name):
        return sum(node.metrics().sum(f"ringpost_redis_{name}_total") for node in nodes)
    nodes[0].wait_metric(lambda m: commands("limit_commands") > 0, "the limit was asked for")
    redis.ask("BLPOP", "nothing", 5)  # portions are given back meanwhile
    before, began = commands("commands"), time.monotonic()
    limits = commands("limit_commands")
    redis.ask("BLPOP", "nothing", 5)
    rate = (commands("commands") - before) / (time.monotonic() - began)
    print(f"{rate:.1f} commands a second of an idle cluster")
    assert commands("limit_commands") == limits
    assert rate < 10


# ---- sites ----

class SlowSession(Session):
    async def take_time(self):
        """So long a mail takes here, but not longer than the sink is there."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.sink.closing.wait(), self.sink.takes_s)

    async def on_data(self, argument):
        await self.take_time()
        await super().on_data(argument)

    async def on_bdat(self, argument):
        await self.take_time()
        await super().on_bdat(argument)


class CountingSink(Sink):
    """Takes its time, and counts its connections."""

    def __init__(self, takes_s):
        super().__init__()
        self.takes_s = takes_s
        self.open = self.most_open = 0

    async def run_session(self, connection):
        session = SlowSession(self, self.loop, connection, len(self.sessions))
        self.sessions.append(session)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await session.run()
        except Exception:  # it ended, in whatever way
            pass
        finally:
            self.open -= 1
            connection.close()

    def senders(self, mails=None):
        """How many mails came from which node."""
        helos = [mail.helo for mail in (self.mails if mails is None else mails)]
        return {helo: helos.count(helo) for helo in helos}


@contextlib.contextmanager
def relays(folder, redis, sink, connections, config=None, to=None):
    """Three relays with one next hop that takes so many connections."""
    with contextlib.ExitStack() as running:
        yield [running.enter_context(Ringpost(folder / name, {
            "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
            "queue": {"store": "redis",
                      "redis": {"server": redis.server, "lease": f"{LEASE_S}s"}},
            **(config or {})},
            [{"domain": "*", "to": to or sink.url, "connections": connections}])) for name in NODES]


def submit(relay, count, recipient="u@there.test"):
    with Client(relay.host, relay.port) as client:
        client.greet()
        for _ in range(count):
            assert client.mail(recipients=[recipient])[0] == 250


@pytest.mark.parametrize("connections, each", [(1, 150), (2, 200), (7, 300)])
def test_a_sites_connections_over_all_nodes(folder, redis, connections, each):
    """Never more than the limit are open, and all nodes have their part, or their turn."""
    with CountingSink(0.02) as sink, relays(folder, redis, sink, connections) as nodes:
        at_once(3, lambda number: submit(nodes[number], each))
        mails = sink.wait(3 * each, timeout_s=120)
        assert sink.most_open <= connections
        assert set(sink.senders(mails).values()) == {each}
        early = sink.senders(mails[:3 * each * 3 // 4])
        print(f"{connections} connections: {sink.most_open} at most, "
              f"the first three quarters: {early}")
        assert len(early) == 3 and min(early.values()) >= each // 8


def test_who_is_killed_with_the_only_connection_does_not_keep_it(folder, redis):
    with CountingSink(0.02) as sink, relays(folder, redis, sink, 1) as nodes:
        at_once(3, lambda number: submit(nodes[number], 100))
        sink.wait(20)
        holder = NODES.index(sink.mails[-1].helo.split(".")[0])
        nodes[holder].kill()
        before, killed = len(sink.mails), time.monotonic()
        others = {f"{name}.test" for name in NODES} - {f"{NODES[holder]}.test"}
        sink.wait_for(lambda s: {mail.helo for mail in s.mails[before + 2:]} & others)
        took_s = time.monotonic() - killed
        print(f"{took_s:.1f} s from SIGKILL of the holder to the next mail, lease {LEASE_S} s")
        assert took_s < 1.5 * LEASE_S + 1
        # The other's mails are taken over; one may have been in delivery.
        sink.wait(300, timeout_s=120)
        assert sink.most_open == 1
        nodes[holder].start()


@pytest.mark.skipif(os.geteuid() != 0, reason="port 25 needs root")
def test_a_sites_mails_a_minute_over_all_nodes(folder, redis, tree):
    """300 a minute are 5 a second, of all together."""
    with Sink(host=FIRST, port=25) as sink, relays(folder, redis, sink, 20, {
            "dns": tree.options, "sites": [{"mx": "mx1.good.test", "rate": 300}]},
            to="mx") as nodes:
        at_once(3, lambda number: submit(nodes[number], 20, "u@plain.good.test"))
        mails = sink.wait(60, timeout_s=60)
        times = sorted(mail.replied_ns / 1e9 for mail in mails)
        most = max(sum(begin <= t < begin + 2 for t in times) for begin in times)
        print(f"60 mails in {times[-1] - times[0]:.1f} s, at most {most} in 2 s")
        assert times[-1] - times[0] > 59 / 5 - 0.5
        assert most <= 13
        first = [mail.helo for mail in mails[:40]]
        assert {first.count(f"{name}.test") >= 5 for name in NODES} == {True}, first
