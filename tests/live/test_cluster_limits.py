# SPDX-License-Identifier: Apache-2.0
"""Limits that three relays over one Redis keep together: what users may send, what sites take, who
is locked out."""
import asyncio
import contextlib
import os
import smtplib
import threading
import time

import pytest

import redis_server
from daemon import Client, Ringpost
from redis_groups import KINDS, info
from redis_server import Redis, wait_until
from sink import Session, Sink
from test_mx import FIRST, tree  # noqa: F401 (a fixture)
from test_submission import ANN, BODY, PASSWORD, Submission, fail, send

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

LEASE_S = 3
NODES = ("one", "two", "three")


@pytest.fixture
def redis(folder):
    with Redis(folder / "redis") as running:
        yield running


@contextlib.contextmanager
def makes(folder, where, sink):
    """Gives a function that starts three relays, which are told `where` Redis is, with what differs
    in their configuration."""
    def node(name, config, lease_s):
        return Submission(folder / name, sink, {
            "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
            "queue": {"store": "redis", "redis": {**where, "lease": f"{lease_s}s"}}, **config})

    with contextlib.ExitStack() as running:
        yield lambda config=None, lease_s=LEASE_S: [
            running.enter_context(node(name, config or {}, lease_s)) for name in NODES]


@pytest.fixture
def make(folder, redis, sink):
    with makes(folder, {"server": redis.server}, sink) as make:
        yield make


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

# RSET behind each refusal is junk, and how often one node refuses while another has some left is as
# chance will have it.
FORTY = {"users": {"defaults": {"mails_per_hour": 40, "mails_per_day": 1000}},
         "limits": {"junk_max": 1000000}}


def send_forty(nodes):
    """All that the limit allows goes through, over whichever node, and not one more."""
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


def test_a_users_mails_in_an_hour_over_all_nodes(make, sink):
    send_forty(make(FORTY))
    assert len(sink.wait(40)) == 40


class TheOneThatCounts:
    """Chooses the master that has what users have sent, once its replicas have it, too."""

    def choice(self, masters):
        (chosen,) = [redis for redis in masters if redis.ask("KEYS", "*:limit:use:user:*")]
        wait_until(lambda: {info(chosen)["master_repl_offset"]} == {
            field.split("=")[1] for key, row in info(chosen).items() if key.startswith("slave")
            for field in row.split(",") if field.startswith("offset=")}, chosen, "replicas")
        return chosen


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_limits_hold_over_servers_that_fail_over(folder, sink, kind):
    """What was sent is known to the server that takes the master's place."""
    with KINDS[kind](folder) as group, makes(folder, group.options(), sink) as make, \
            contextlib.ExitStack() as running:
        nodes = make(FORTY)
        send_forty(nodes)
        assert len(sink.wait(40)) == 40
        lot = TheOneThatCounts()
        lot.choice(group.masters())
        clients = [running.enter_context(node.login()) for node in nodes]
        group.bring_back(group.kill_master(lot))
        for client in clients:
            answer, until = None, time.monotonic() + 60
            while answer != (450, "4.7.1"):
                assert time.monotonic() < until, answer
                answer = send(client)
                assert answer[0] != 250


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
    redis.ask("BLPOP", "nothing", 9)  # portions and connections are given back meanwhile
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


@pytest.mark.skipif(os.geteuid() != 0, reason="port 25 needs root")
def test_places_go_back_when_a_site_has_no_limit_of_its_own_any_more(folder, redis, tree):
    """Its connection stays open, idle, and is not counted with the other nodes' any more."""
    with Sink(host=FIRST, port=25) as sink, relays(folder, redis, sink, 20, {
            "dns": tree.options, "delivery": {"idle": "60s"},
            "sites": [{"mx": "mx1.good.test", "connections": 3, "idle": "60s"}]},
            to="mx") as nodes:
        submit(nodes[0], 1, "u@plain.good.test")
        sink.wait(1)
        assert redis.ask("KEYS", "*:limit:hold:*")
        nodes[0].config["sites"] = []
        nodes[0].write_config()
        nodes[0].reload()
        nodes[0].wait_metric(lambda m: not redis.ask("KEYS", "*:limit:hold:*"), "they are back")
        assert nodes[0].metrics().sum("ringpost_connections", side="send") == 1


# ---- lock-outs ----

def is_refused(node, source):
    """Is the address locked out there?"""
    try:
        node.session(source=source).close()
    except smtplib.SMTPConnectError as refused:
        assert refused.smtp_code == 421
        return True
    return False


def within_a_second(what):
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < 1
    print(f"{time.monotonic() - began:.3f} s")


def test_an_address_is_locked_out_by_failures_on_all_nodes(make):
    nodes = make({"lockout": {"address_failures": 6, "user_failures": 0}})
    for n in range(5):
        assert fail(nodes[n % 3], user=f"guess{n}", source="127.0.0.8") == 535
    assert not any(is_refused(node, "127.0.0.8") for node in nodes)
    assert fail(nodes[2], user="guess6", source="127.0.0.8") == 535
    for node in nodes:
        within_a_second(lambda: is_refused(node, "127.0.0.8"))
        assert not is_refused(node, "127.0.0.9")
    assert nodes[2].log.wait("login_locked")["failures"] == 6
    # It is listed by all, and let in again by any.
    for node in nodes:
        locks = node.ctl("lock", "list")
        assert [(lock["kind"], lock["login"]) for lock in locks["rows"]] == \
            [("address", "127.0.0.8")]
    assert nodes[1].ctl("lock", "lift", "127.0.0.8", "--reason", "he has called") == \
        {"login": "127.0.0.8"}
    for node in nodes:
        within_a_second(lambda: not is_refused(node, "127.0.0.8"))
        assert node.ctl("lock", "list")["rows"] == []
    nodes[0].ctl("lock", "lift", "127.0.0.8", "--reason", "again", status=1)
    locked = [len(node.log.events("login_locked")) for node in nodes]
    assert locked == [0, 0, 1], "one lock is one event"
    assert sum(node.metrics().sum("ringpost_login_locks_total") for node in nodes) == 1


def test_a_user_is_locked_out_but_where_he_has_logged_in_from(make, redis):
    nodes = make({"lockout": {"address_failures": 0, "user_failures": 3, "delay_max": "0s"}})
    with nodes[0].login(source="127.0.0.8"):
        pass
    for n in range(3):
        assert fail(nodes[n], password=f"guess {n}", source=f"127.0.1.{n + 1}") == 535
    assert nodes[2].log.wait("login_locked")["failures"] == 3
    for node in nodes:
        # With the password only then: from where that succeeds he is let in ever after.
        within_a_second(lambda: fail(node, password="guess", source="127.0.0.9") == 454)
        assert fail(node, password=PASSWORD, source="127.0.0.9") == 454
    # He has logged in from there, if on another node.
    for node in nodes:
        with node.login(source="127.0.0.8") as client:
            assert send(client)[0] == 250
    # A name that no user has is locked everywhere, too, and does not leave its node in plain text.
    for n in range(3):
        assert fail(nodes[n], user="my secret", password=f"guess {n}", source="127.0.0.9") == 535
    for node in nodes:
        within_a_second(
            lambda: fail(node, user="my secret", password=PASSWORD, source="127.0.0.9") == 454)
    for key in redis.ask("KEYS", "*:limit:*"):
        assert "secret" not in key
        if redis.ask("TYPE", key) == "zset":
            assert "secret" not in str(redis.ask("ZRANGE", key, 0, -1))
    assert [lock["login"] for lock in nodes[0].ctl("lock", "list")["rows"]].count(ANN) == 1
    nodes[2].ctl("lock", "lift", ANN, "--reason", "x")
    for node in nodes:
        within_a_second(lambda: fail(node, password=PASSWORD, source="127.0.0.9") != 454)


def test_a_success_anywhere_forgets_a_users_failures(make, redis):
    nodes = make({"lockout": {"address_failures": 0, "user_failures": 3}})
    for n in range(2):
        assert fail(nodes[0], password=f"guess {n}", source=f"127.0.1.{n + 1}") == 535
    with nodes[1].login(source="127.0.0.9"):
        pass
    # Who had counted them forgets them, too: what comes behind the news has been heard there.
    within_a_second(lambda: not redis.ask("KEYS", "*:limit:strike:user:*"))
    redis.ask("PUBLISH", "{ringpost}:wake",
              "limit lock 60000 9 {ringpost:0}:limit:strike:address:127.0.9.9 127.0.9.9")
    within_a_second(lambda: nodes[0].ctl("lock", "list")["count"] == 1)
    assert fail(nodes[0], password="guess 2", source="127.0.1.3") == 535
    with nodes[0].login(source="127.0.3.2"):
        pass
    for n in range(2):
        assert fail(nodes[2], password=f"other {n}", source=f"127.0.2.{n + 1}") == 535
    with nodes[2].login(source="127.0.3.1"):
        pass


def test_a_node_that_starts_knows_who_is_locked_out(make):
    nodes = make({"lockout": {"address_failures": 2, "user_failures": 0}})
    nodes[2].stop()
    for n in range(2):
        assert fail(nodes[n], user=f"guess{n}", source="127.0.0.8") == 535
    within_a_second(lambda: is_refused(nodes[0], "127.0.0.8"))
    nodes[2].start()
    began = time.monotonic()
    while not is_refused(nodes[2], "127.0.0.8"):
        assert time.monotonic() - began < 10
    assert nodes[2].ctl("lock", "list")["count"] == 1


def test_each_node_counts_alone_while_redis_is_away(make, redis):
    nodes = make({"lockout": {"address_failures": 2, "user_failures": 0}})
    redis.kill()
    nodes[0].wait_ready(status=503)
    for n in range(2):
        assert fail(nodes[0], user=f"guess{n}", source="127.0.0.8") == 535
    assert is_refused(nodes[0], "127.0.0.8")
    assert not is_refused(nodes[1], "127.0.0.8")
    nodes[1].ctl("lock", "lift", "127.0.0.8", "--reason", "x", status=75)
    redis.start()
