# SPDX-License-Identifier: Apache-2.0
"""Relays that share a queue, looked at and acted upon through any of them: who is there, draining
one, and mails that another has."""
import contextlib
import os
import random
import signal
import time

import pytest

import redis_server
from daemon import Client
from redis_groups import Cluster, Sentinels
from redis_server import Redis
from sink import STALL, Sink
from test_admin import EX_REFUSED, EX_USAGE, Relay

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

LEASE_S = 3


@pytest.fixture
def redis(folder):
    with Redis(folder / "redis") as running:
        yield running


def node(folder, name, redis, sink, changes=None):
    relay = Relay(folder / name, {
        "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
        "queue": {"store": "redis", "redis": {"server": redis.server, "lease": f"{LEASE_S}s"}},
    }, [{"domain": "*", "to": sink.url}])
    relay.change(changes or {})
    return relay


@pytest.fixture
def three(folder, redis, sink):
    """Three relays; what is deferred waits in Redis."""
    with contextlib.ExitStack() as all:
        yield [all.enter_context(node(folder, name, redis, sink, {"retry": {"schedule": ["1h"]}}))
               for name in ("one", "two", "three")]


@pytest.fixture
def keeping(folder, redis, sink):
    """Two relays of which the one that takes a mail keeps it: it is tried again within seconds."""
    changes = {"retry": {"schedule": ["9s"]}}
    sink.faults["rcpt"] = "450 4.2.0 later"
    with node(folder, "one", redis, sink, changes) as one, \
            node(folder, "two", redis, sink, changes) as two:
        yield one, two


def nodes(relay):
    return {row["name"]: row for row in relay.ctl("node", "list")["rows"]}


def wait_nodes(relay, wanted, what, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while True:
        rows = nodes(relay)
        if wanted(rows):
            return rows
        assert time.monotonic() < deadline, f"{what}: {rows}"


def deferred(relay, count, sender="a@client.test"):
    """Ids of mails that were tried once."""
    relay.send("u@there.test", count=count, sender=sender)
    return [relay.log.wait("delivery", result="deferred")["id"] for _ in range(count)]


def test_all_are_shown_on_each_with_what_they_have(three, redis):
    for relay in three:
        rows = wait_nodes(relay, lambda r: len(r) == 3, "three nodes")
        assert {row["state"] for row in rows.values()} == {"up"}
        assert [name for name in rows if rows[name]["here"]] == [relay.config["hostname"]]
    one = rows["one.test"]
    assert one["listeners"] == f"{three[0].host}:{three[0].port}" and one["version"]
    assert one["mails"] == 0 and one["since"] <= one["seen"]
    three[2].stop()
    assert set(nodes(three[0])) == {"one.test", "two.test"}


def test_who_died_is_shown_as_dead_and_then_as_the_new_run(folder, redis, sink):
    sink.faults["rcpt"] = "450 4.2.0 later"
    changes = {"retry": {"schedule": ["9s"]}}
    with node(folder, "two", redis, sink, changes) as other:
        with node(folder, "one", redis, sink, changes) as relay:
            deferred(relay, 3)
            assert nodes(other)["one.test"]["mails"] == 3
            relay.kill()
            rows = wait_nodes(other, lambda r: r["one.test"]["state"] == "dead", "dead")
            rows = wait_nodes(other, lambda r: r["two.test"]["mails"] == 3, "taken over")
            assert rows["one.test"]["mails"] == 0
            said = other.ctl_text("node", "drain", "one.test", "--reason", "x", status=EX_REFUSED)
            assert "dead" in said.stderr
            relay.start()
            rows = wait_nodes(other, lambda r: r["one.test"]["state"] == "up", "up again")
            assert len(other.ctl("node", "list")["rows"]) == 2
        assert other.ctl("queue", "remove", "--all", "--yes", "--reason", "x")["done"] == 3


def test_an_idle_cluster_says_little(three, redis):
    """At the default lease; the bar is ten commands a second of all three together."""
    for relay in three:
        relay.stop()
        relay.change({"queue": {"redis": {"lease": "30s"}}})
        relay.start()
    wait_nodes(three[0], lambda r: len(r) == 3, "three nodes")

    def commands():
        return sum(relay.metrics().sum("ringpost_redis_commands_total") for relay in three)
    before, began = commands(), time.monotonic()
    for _ in range(2):  # a whole lease
        redis.ask("BLPOP", "nothing", 16)
    rate = (commands() - before) / (time.monotonic() - began)
    print(f"{rate:.2f} commands a second")
    assert 0 < rate < 10


@pytest.mark.parametrize("asked", [0, 1])
def test_a_node_is_drained_by_any_and_goes_on(three, sink, asked):
    """Itself is asked, or another: it refuses mail, gives back what it has, and is undone."""
    one, asks = three[0], three[asked]
    sink.faults["rcpt"] = "450 4.2.0 later"
    one.send("u@there.test", count=5)
    row = asks.ctl("node", "drain", "one.test", "--reason", "a new kernel")
    assert (row["name"], row["state"], row["mails"]) == ("one.test", "drained", 0)
    event = asks.log.wait("node_ordered")
    assert event["drains"] and event["why"] == "a new kernel" and "uid" in event["who"]
    assert one.log.wait("node_drains")["state"] == "draining"
    assert one.log.wait("node_drains")["state"] == "drained"
    one.wait_ready(status=503)
    assert "drained" in one.http("/readyz")[1]
    assert one.ctl("status")["state"] == "drained"
    with one.connect() as client:
        code, text = client.reply()
        assert code == 421 and "drained" in text
    with Client(three[2].host, three[2].port) as client:
        client.greet()
        assert client.mail(recipients=["u@there.test"])[0] == 250
    row = asks.ctl("node", "drain", "one.test", "--undo", "--reason", "it is there")
    assert row["state"] == "up"
    one.wait_ready()
    del sink.faults["rcpt"]
    one.send("u@there.test")
    sink.wait(1)
    asks.wait_rows(6)
    assert asks.ctl("queue", "remove", "--all", "--yes", "--reason", "x")["done"] == 6


def test_a_session_that_is_open_ends_with_its_next_mail(three):
    with Client(three[0].host, three[0].port) as client:
        client.greet()
        three[1].ctl("node", "drain", "one.test", "--reason", "x")
        code, text = client.command("MAIL FROM:<a@client.test>")
        assert code == 421 and "drained" in text
        assert client.reply() is None


def test_a_drain_waits_for_deliveries_and_others_do_the_rest(folder, redis):
    """What is under way is finished; what waits behind it in the node's memory is delivered by
    another at once, although it is due and that looks only now and then."""
    slow = Sink(faults={"final": STALL}).start()
    with Sink() as quick:
        changes = {"queue": {"redis": {"lease": "60s"}}}
        one = node(folder, "one", redis, slow, {**changes, "routes": [
            {"domain": "slow.test", "to": slow.url, "connections": 1},
            {"domain": "*", "to": quick.url}]})
        two = node(folder, "two", redis, quick, changes)
        with one, two:
            one.send("u@slow.test", count=10)
            slow.wait_for(lambda s: s.stalled)
            row = two.ctl("node", "drain", "one.test", "--no-wait", "--reason", "x")
            assert row["state"] == "draining"
            quick.wait(8)
            assert nodes(two)["one.test"]["state"] == "draining"
            left = nodes(two)["one.test"]["mails"]
            assert 1 <= left <= 2  # on the connection, and one ahead
            slow.close()  # the delivery ends
            assert two.ctl("node", "drain", "one.test", "--reason", "x")["state"] == "drained"
            assert one.metrics().sum("ringpost_redis_taken_over_mails_total") == 0


def test_an_order_is_followed_although_nobody_heard_it(three, redis):
    """Its message was lost; the lease's next renewal brings it."""
    three[0].process.send_signal(signal.SIGSTOP)
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    row = three[1].ctl("node", "drain", "one.test", "--no-wait", "--reason", "x")
    assert row["state"] == "draining"
    three[0].process.send_signal(signal.SIGCONT)
    wait_nodes(three[1], lambda r: r["one.test"]["state"] == "drained", "drained")


def test_names_that_mean_no_single_node(folder, redis, sink):
    same = {"hostname": "mx.test"}
    with node(folder, "one", redis, sink, same) as one, \
            node(folder, "two", redis, sink, same), \
            node(folder, "three", redis, sink, {**same, "queue": {"redis": {"node": "c"}}}):
        wait = time.monotonic() + 30
        while len(rows := one.ctl("node", "list")["rows"]) < 3:
            assert time.monotonic() < wait, rows
        assert sorted(row["name"] for row in rows) == ["c", "mx.test", "mx.test"]
        said = one.ctl_text("node", "drain", "mx.test", "--reason", "x", status=EX_REFUSED)
        assert "several" in said.stderr
        said = one.ctl_text("node", "drain", "nobody", "--reason", "x", status=EX_REFUSED)
        assert "no such node" in said.stderr
        assert "reason" in one.ctl_text("node", "drain", "c", status=EX_USAGE).stderr
        other = next(row for row in rows if row["name"] == "mx.test" and not row["here"])
        row = one.ctl("node", "drain", other["incarnation"][:8], "--reason", "x")
        assert (row["incarnation"], row["state"]) == (other["incarnation"], "drained")


# ---- mails of another ----


def test_acts_on_a_mail_that_another_has(keeping, sink):
    one, two = keeping
    ids = deferred(one, 4)
    assert two.ctl("queue", "show", ids[0])["rows"][0]["state"] == "active"
    done = two.ctl("queue", "hold", ids[0], "--reason", "to look at it")
    assert (done["matched"], done["done"]) == (1, 1), done
    assert two.ctl("queue", "show", ids[0])["held"]
    event = one.log.wait("mail_acted", id=ids[0])
    assert (event["action"], event["why"]) == ("held", "to look at it")
    assert f"(uid {os.geteuid()})" in event["who"]
    assert two.ctl("queue", "remove", ids[1], "--reason", "spam")["done"] == 1
    gone = one.log.wait("recipient_removed")
    assert (gone["id"], gone["recipient"], gone["why"]) == (ids[1], "u@there.test", "spam")
    # Each act is told once, by whoever did it.
    assert two.log.events("mail_acted") == two.log.events("recipient_removed") == []
    assert two.ctl("queue", "show", ids[1], status=EX_REFUSED)
    del sink.faults["rcpt"]
    began = time.monotonic()
    assert two.ctl("queue", "retry", ids[2], "--reason", "now")["done"] == 1
    sink.wait(1)
    assert time.monotonic() - began < 5
    sink.wait(2)  # by its schedule
    assert two.ctl("queue", "release", ids[0], "--reason", "go on")["done"] == 1
    sink.wait(3)
    assert len(sink.mails) == 3


def test_acts_by_filter_reach_the_mails_of_all(keeping, sink):
    one, two = keeping
    mine, other = deferred(two, 3), deferred(one, 5)
    dry = two.ctl("queue", "hold", "--sender", "a@client.test", "--dry-run")
    assert (dry["matched"], dry["recipients"], dry["done"]) == (8, 8, 0)
    assert 0 < len(dry["examples"]) <= 5
    assert {row["id"] for row in dry["examples"]} <= set(mine + other)
    done = two.ctl("queue", "hold", "--sender", "a@client.test", "--yes", "--reason", "x")
    assert (done["matched"], done["done"]) == (8, 8), done
    for relay in keeping:
        assert len(relay.rows("--state", "held")) == 8
    told = [e["id"] for e in one.log.wait_events(5, "mail_acted") +
            two.log.wait_events(3, "mail_acted")]
    assert sorted(told) == sorted(mine + other)
    assert one.ctl("queue", "remove", "--all", "--yes", "--reason", "x")["done"] == 8
    assert one.rows() == two.rows() == []


def test_what_another_has_not_tried_yet_is_in_lists_and_counts(folder, redis):
    """A line before a slow next hop: more than a page, in pages of any size."""
    with Sink(faults={"final": STALL}) as sink, \
            node(folder, "one", redis, sink, {"routes": [
                {"domain": "*", "to": sink.url, "connections": 1}]}) as one, \
            node(folder, "two", redis, sink) as two:
        one.send("u@there.test", count=300)
        sink.wait_for(lambda s: s.stalled)
        ids = sorted(row["id"] for row in one.rows())
        assert len(ids) == 300
        assert sorted(row["id"] for row in two.rows()) == ids
        assert two.ctl("queue", "count", "state")["count"] == 300
        found, cursor = [], []
        while cursor is not None:
            page = two.ctl("queue", "list", "--limit", "7", *cursor)
            found += [row["id"] for row in page["rows"]]
            cursor = ["--cursor", page["cursor"]] if "cursor" in page else None
        assert sorted(found) == ids
        dry = two.ctl("queue", "hold", "--domain", "there.test", "--dry-run")
        assert (dry["matched"], dry["recipients"]) == (300, 300)


def test_a_mail_that_another_delivers_is_left_alone(folder, redis):
    with Sink(faults={"final": STALL}) as sink, \
            node(folder, "one", redis, sink) as one, node(folder, "two", redis, sink) as two:
        one.send("u@there.test")
        sink.wait_for(lambda s: s.stalled)
        mail = one.rows()[0]["id"]
        done = two.ctl("queue", "remove", mail, "--reason", "x", status=EX_REFUSED)
        assert (done["done"], done["busy"]) == (0, 1)
        assert "delivered" in done["refused"][0]["why"]


def test_who_hears_nothing_is_asked_again(keeping, redis):
    """The connections that listen are cut, again and again; the answer is true all the same."""
    one, two = keeping
    ids = deferred(one, 3)
    one.process.send_signal(signal.SIGSTOP)
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    with two.admin() as client:
        client.write(b'{"version":1,"command":"queue hold","reason":"x","ids":["%s"]}\n' %
                     ids[0].encode())
        redis.ask("BLPOP", "nothing", 1)
        one.process.send_signal(signal.SIGCONT)
        answer = client.answer()
    assert answer["ok"] and answer["result"]["done"] == 1, answer
    assert two.ctl("queue", "show", ids[0])["held"]


def test_the_owner_dies_while_it_is_asked(keeping):
    """Whoever takes the mail over does it: here the one that asks."""
    one, two = keeping
    ids = deferred(one, 3)
    one.kill()
    began = time.monotonic()
    done = two.ctl("queue", "hold", *ids, "--reason", "x")
    assert done["done"] == 3, done
    print(f"done {time.monotonic() - began:.1f} s after the death, the lease is {LEASE_S} s")
    assert len(two.rows("--state", "held")) == 3


def test_an_owner_that_does_not_answer_is_told(keeping):
    """Stopped for longer than anybody waits, but not for longer than its lease."""
    one, two = keeping
    for relay in keeping:
        relay.stop()
        relay.change({"queue": {"redis": {"lease": "60s"}}})
        relay.start()
    mail = deferred(one, 1)[0]
    one.process.send_signal(signal.SIGSTOP)
    done = two.ctl("queue", "remove", mail, "--reason", "x", status=EX_REFUSED)
    assert done["failed"] == 1 and "did not answer" in done["refused"][0]["why"]
    one.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("kind", [Sentinels, Cluster])
def test_over_a_group_of_servers_that_fails_over(folder, sink, kind):
    """The shards, and what is said to all, are on several servers, one of which dies."""
    sink.faults["rcpt"] = "450 4.2.0 later"
    with kind(folder / "redis") as group, contextlib.ExitStack() as all:
        place = {"server": "", "lease": "9s", **group.options()}
        one, two = (all.enter_context(Relay(folder / name, {
            "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
            "retry": {"schedule": ["9s"]}, "queue": {"store": "redis", "redis": place},
        }, [{"domain": "*", "to": sink.url}])) for name in ("one", "two"))
        ids = deferred(one, 20)
        assert two.ctl("queue", "hold", "--all", "--yes", "--reason", "x")["done"] == 20
        assert {row["id"] for row in one.rows("--state", "held")} == set(ids)
        kept = deferred(one, 5, sender="b@client.test")
        assert two.ctl("node", "drain", "one.test", "--reason", "x")["mails"] == 0
        dead = group.kill_master(random.Random(1))
        two.log.wait("redis_down")
        group.bring_back(dead)  # without a replica the new one would refuse to write
        two.wait_ready(timeout_s=60)
        rows = wait_nodes(two, lambda r: len(r) == 2 and r["one.test"]["state"] == "drained",
                          "drained, also after it", 60)
        assert rows["one.test"]["mails"] == 0
        assert two.ctl("node", "drain", "one.test", "--undo", "--reason", "x")["state"] == "up"
        one.wait_ready(timeout_s=60)
        del sink.faults["rcpt"]
        done = one.ctl("queue", "release", "--state", "held", "--yes", "--reason", "x")
        assert done["done"] == 20
        sink.wait(25)
        assert len(sink.mails) == 25 and len(kept) == 5


def test_redis_away_is_said(keeping, redis):
    one, _ = keeping
    mail = deferred(one, 1)[0]
    redis.kill()
    one.wait_ready(status=503)
    for command in (("queue", "hold", mail, "--reason", "x"), ("queue", "list"),
                    ("queue", "count", "domain"), ("node", "list")):
        said = one.ctl_text(*command, status=EX_REFUSED)
        assert "queue server cannot be reached" in said.stderr
    redis.start()
    one.wait_ready()


def test_failed_recipients_are_counted_for_the_whole_queue(keeping, sink):
    one, two = keeping
    sink.faults["rcpt"] = lambda session, argument: {
        "b": "550 5.1.1 nobody", "l": "450 4.2.0 later"}.get(argument[len("TO:<"):][:1])
    one.send("bad@there.test", "later@there.test")
    sink.wait(1)  # the bounce

    def failed(relay, count):
        relay.wait_metric(lambda m: m.sum("ringpost_queue_recipients", state="failed") == count,
                          f"{count} failed")
    failed(one, 1)
    assert two.ctl("queue", "remove", "--all", "--yes", "--reason", "x")["done"] == 1
    failed(one, 0)
