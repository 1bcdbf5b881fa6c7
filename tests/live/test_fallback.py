# SPDX-License-Identifier: Apache-2.0
"""`fallback: spool`: while Redis takes no mail the spool does, and delivers it; no mail is lost."""
import shutil
import tempfile

import pytest

import redis_server
from daemon import EXIT_CONFIG, Client, Ringpost
from redis_server import Redis
from test_admin import EX_REFUSED, Relay

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")


@pytest.fixture
def redis(folder):
    with Redis(folder / "redis") as running:
        yield running


@pytest.fixture
def tmpfs():
    path = tempfile.mkdtemp(prefix="ringpost-test-", dir="/dev/shm")
    yield path
    shutil.rmtree(path)


def node(folder, name, redis, sink, changes=None):
    """A relay of the cluster, which sends everything to `sink`."""
    relay = Relay(folder / name, {
        "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
        "queue": {"store": "redis", "fallback": "spool",
                  "redis": {"server": redis.server, "lease": "3s", "deadline": "1s"}},
    }, [{"domain": "*", "to": sink.url}])
    relay.change(changes or {})
    return relay


def send(relay, names, size=10):
    """A mail to each name; all are taken."""
    with Client(relay.host, relay.port) as client:
        client.greet()
        for name in names:
            reply = client.mail(recipients=[f"{name}@there.test"],
                                body=b"\r\n" + b"x" * 70 * size + b"\r\n")
            assert reply[0] == 250, reply


def names(word, count):
    return [f"{word}{number}" for number in range(count)]


def arrived(sink):
    return sorted(r.split("@")[0] for mail in sink.mails for r in mail.recipients)


def wait_here(relay, count):
    relay.wait_metric(lambda m: m.sum("ringpost_queue_mails_here") == count,
                      f"{count} mails on this host")


def wait_links(relay, count):
    """The first redis_up or redis_down is one worker's; the other one may see it later."""
    relay.wait_metric(lambda m: m.sum("ringpost_redis_links_ready") == count,
                      f"{count} connections to Redis")


def wait_all_up(relay):
    wait_links(relay, 4)  # each of two workers has one, and one that listens


def test_the_spool_takes_what_redis_does_not(folder, redis, sink):
    with node(folder, "one", redis, sink) as relay:
        wait_all_up(relay)
        send(relay, names("before", 3))
        sink.wait(3)
        assert relay.metrics().sum("ringpost_node_disposable") == 1
        assert relay.http("/readyz") == (200, "ready\n")
        redis.kill()
        relay.log.wait("redis_down")
        wait_links(relay, 0)
        sink.faults["rcpt"] = "450 4.2.0 later"
        send(relay, names("away", 5))
        event = relay.log.wait("fallback_used")
        assert "cannot be reached" in event["why"], event
        wait_here(relay, 5)
        assert relay.metrics().sum("ringpost_node_disposable") == 0
        assert relay.http("/readyz") == (
            200, "ready\nnot disposable: mails in the fallback spool: 5\n")
        del sink.faults["rcpt"]
        sink.wait(8)  # while Redis is away
        wait_here(relay, 0)
        sink.faults["rcpt"] = "450 4.2.0 later"
        send(relay, ["late"])
        wait_here(relay, 1)
        redis.start()
        relay.log.wait("redis_up")
        wait_all_up(relay)
        send(relay, names("back", 4))
        relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 5, "5 mails in the queue")
        wait_here(relay, 1)  # new mail is in Redis
        del sink.faults["rcpt"]
        sink.wait(13)
        assert relay.log.wait("fallback_empty")["mails"] == 0
        wait_here(relay, 0)
        assert relay.http("/readyz") == (200, "ready\n")
        assert relay.metrics().sum("ringpost_node_disposable") == 1
    assert arrived(sink) == sorted(names("before", 3) + names("away", 5) + ["late"] +
                                   names("back", 4))


def test_a_node_starts_without_redis(folder, redis, sink):
    redis.kill()
    with node(folder, "one", redis, sink) as relay:
        send(relay, names("u", 4))
        sink.wait(4)
        redis.start()
        relay.log.wait("redis_up")
        relay.log.wait("fallback_empty")
    assert arrived(sink) == names("u", 4)


def test_a_killed_node_finds_its_fallback_again(folder, redis, sink):
    """And delivers it although Redis is there again: nobody else could."""
    redis.kill()
    sink.faults["rcpt"] = "450 4.2.0 later"
    with node(folder, "one", redis, sink) as relay:
        send(relay, names("u", 10))
        send(relay, ["large"], size=20000)
        relay.kill()
        redis.start()
        del sink.faults["rcpt"]
        relay.start()
        sink.wait(11)
        relay.log.wait("fallback_empty")
    assert arrived(sink) == sorted(names("u", 10) + ["large"])
    assert max(len(mail.content) for mail in sink.mails) > 70 * 20000


def test_a_drain_leaves_what_is_in_the_fallback(folder, redis, sink):
    """It ends, and the relay says what is left there; that goes on when the drain is undone."""
    redis.kill()
    sink.faults["rcpt"] = "450 4.2.0 later"
    with node(folder, "one", redis, sink) as relay:
        send(relay, names("u", 3))
        wait_here(relay, 3)
        redis.start()
        wait_all_up(relay)
        row = relay.ctl("node", "drain", "one.test", "--reason", "x")
        assert (row["state"], row["mails"]) == ("drained", 0)
        del sink.faults["rcpt"]
        code, text = relay.http("/readyz")
        assert code == 503 and "not disposable: mails in the fallback spool: 3\n" in text, text
        assert relay.metrics().sum("ringpost_node_disposable") == 0
        moved = relay.ctl("queue", "move", "--to", "redis", "--all", "--yes", "--reason", "x",
                          status=EX_REFUSED)
        assert (moved["matched"], moved["done"], moved["failed"]) == (3, 0, 3), moved
        wait_here(relay, 3)
        assert sink.mails == []
        row = relay.ctl("node", "drain", "one.test", "--undo", "--reason", "x")
        assert row["state"] == "up"
        sink.wait(3)
        relay.log.wait("fallback_empty")
    assert arrived(sink) == names("u", 3)


def test_a_redis_that_goes_meanwhile_is_nobodys_trouble(folder, redis, sink):
    """Each mail gets 250, or 451 where nobody knows, and then comes a second time."""
    with node(folder, "one", redis, sink) as relay, Client(relay.host, relay.port) as client:
        wait_all_up(relay)  # until then a node that has just begun says 451 for a moment
        client.greet()
        taken, doubtful = [], []
        for number in range(300):
            if number in (60, 180):
                redis.kill()
            if number in (120, 240):
                redis.start()
                relay.log.wait("redis_up")
            name = f"u{number}"
            reply = client.mail(recipients=[f"{name}@there.test"])
            (taken if reply[0] == 250 else doubtful).append(name)
        sink.wait(len(taken))
        assert len(doubtful) <= 4, doubtful
        relay.log.wait("fallback_empty")
    assert set(taken) <= set(arrived(sink))
    assert len(arrived(sink)) == len(set(arrived(sink)))


def test_a_spool_that_a_restart_wipes_is_refused(folder, redis, sink, tmpfs):
    relay = node(folder, "one", redis, sink, {"queue": {"spool": {"path": tmpfs}}})
    ended = relay.run()
    assert ended.returncode == EXIT_CONFIG
    assert "does not survive a restart" in ended.stderr, ended.stderr
    assert "put queue.spool.path on a disk" in ended.stderr


def test_a_fallback_needs_a_redis_to_fall_from(folder):
    relay = Ringpost(folder / "one", {"queue": {"fallback": "spool"}})
    ended = relay.run("--check-config")
    assert ended.returncode == EXIT_CONFIG
    assert "fallback: is for store redis" in ended.stderr, ended.stderr
