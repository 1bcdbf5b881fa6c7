# SPDX-License-Identifier: Apache-2.0
"""`ringpostctl queue move`: how a node's spool gets into Redis and back, also when it is killed
meanwhile: nothing is lost, nothing comes twice."""
import json
import os
import random
import subprocess

import pytest

import redis_server
from daemon import Client, Ringpost
from redis_server import Redis

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

MOVE = ["queue", "move", "--reason", "a test"]


@pytest.fixture
def redis(folder):
    with Redis(folder / "redis") as running:
        yield running


class Node(Ringpost):
    """A relay with an admin socket, which sends everything to `sink`. store: of its queue."""

    def __init__(self, folder, name, sink, store, redis=None):
        self.socket_path = folder / name / "admin.sock"
        queue = {"store": store}
        if redis is not None:
            queue.update({"fallback": "spool",
                          "redis": {"server": redis.server, "lease": "3s", "deadline": "1s"}})
        super().__init__(folder / name, {
            "hostname": f"{name}.test", "timeouts": {"drain": "2s"}, "queue": queue,
            "retry": {"schedule": ["1h"]}, "admin": {"socket": str(self.socket_path)},
        }, [{"domain": "*", "to": sink.url}])

    def join(self, redis):
        self.change({"queue": {
            "store": "redis", "fallback": "spool",
            "redis": {"server": redis.server, "lease": "3s", "deadline": "1s"}}})

    def begin(self, *arguments):
        return subprocess.Popen([os.environ["RINGPOSTCTL"], "--socket", str(self.socket_path),
                                 *arguments, "--json"], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ctl(self, *arguments, status=0):
        process = self.begin(*arguments)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == status, (arguments, output, errors)
        return (json.loads(output) if output else {}), errors

    def wait_redis(self):
        """Until each worker has its connection, and the other one that listens."""
        self.wait_metric(lambda m: m.sum("ringpost_redis_links_ready") == 4, "Redis can be used")

    def here(self):
        return self.metrics().sum("ringpost_queue_mails_here")

    def wait_here(self, count):
        self.wait_metric(lambda m: m.sum("ringpost_queue_mails_here") == count,
                         f"{count} mails on this host")


def send(relay, names):
    with Client(relay.host, relay.port) as client:
        client.greet()
        for number, name in enumerate(names):
            body = b"\r\n" + b"x" * 70 * (5000 if number % 20 == 7 else 10) + b"\r\n"
            assert client.mail(recipients=[f"{name}@there.test"], body=body)[0] == 250


def names(count):
    return [f"u{number}" for number in range(count)]


def arrived(sink):
    return sorted(r.split("@")[0] for mail in sink.mails for r in mail.recipients)


def mails_in(redis):
    return len([key for key in redis.ask("KEYS", "*") if ":m:" in key])


def deferred(relay, count):
    for _ in range(count):
        relay.log.wait("delivery", result="deferred")


def test_a_single_node_becomes_part_of_a_cluster(folder, redis, sink):
    """Its spool goes into Redis, where another node delivers it after its end."""
    sink.faults["rcpt"] = "450 4.2.0 later"
    with Node(folder, "one", sink, "spool") as one:
        send(one, names(40))
        deferred(one, 40)
        _, errors = one.ctl(*MOVE, "--to", "redis", "--all", status=1)
        assert "fallback" in errors, errors
    one.join(redis)
    with one:
        one.wait_here(40)
        one.wait_redis()
        dry, _ = one.ctl("queue", "move", "--to", "redis", "--all", "--dry-run")
        assert (dry["matched"], dry["done"]) == (40, 0)
        assert one.here() == 40
        done, progress = one.ctl(*MOVE, "--to", "redis", "--all")
        assert (done["matched"], done["done"], done["failed"]) == (40, 40, 0)
        assert "moved 40" in progress, progress
        moved = one.log.wait_events(40, "mail_moved", to="redis", why="a test")
        assert len({event["id"] for event in moved}) == 40
        one.wait_here(0)
        assert one.metrics().sum("ringpost_node_disposable") == 1
        assert mails_in(redis) == 40
        assert one.log.events("recipient_removed") == []
        one.kill()
    del sink.faults["rcpt"]
    with Node(folder, "two", sink, "redis", redis) as two:
        two.ctl("queue", "retry", "--all", "--yes", "--reason", "now")
        sink.wait(40)
        two.wait_metric(lambda m: mails_in(redis) == 0, "nothing is left in Redis")
        attempts = {e["attempts"] for e in two.log.wait_events(40, "delivery", result="delivered")}
        assert attempts == {2}
    assert arrived(sink) == sorted(names(40))


def test_a_node_leaves_a_cluster_with_its_mail(folder, redis, sink):
    sink.faults["rcpt"] = "450 4.2.0 later"
    with Node(folder, "one", sink, "redis", redis) as one:
        send(one, names(40))
        deferred(one, 40)
        one.wait_metric(lambda m: mails_in(redis) == 40, "all are in Redis")
        done, _ = one.ctl(*MOVE, "--to", "spool", "--all")
        assert (done["done"], done["failed"]) == (40, 0), done
        one.wait_here(40)
        assert mails_in(redis) == 0
        _, text = one.http("/readyz")
        assert "not disposable" in text
    one.change({"queue": {"store": "spool", "fallback": "none"}})
    del sink.faults["rcpt"]
    with one:
        one.ctl("queue", "retry", "--all", "--yes", "--reason", "now")
        sink.wait(40)
    assert arrived(sink) == sorted(names(40))


@pytest.mark.parametrize("way", ["redis", "spool"])
def test_a_kill_in_the_middle_of_a_move_loses_and_doubles_nothing(folder, redis, sink, way):
    """Killed again and again, each time a little into it; at last it is through."""
    count = 150
    dice = random.Random(20)
    sink.faults["rcpt"] = "450 4.2.0 later"
    with Node(folder, "one", sink, "redis", redis) as one:
        if way == "redis":
            redis.kill()
            one.log.wait("redis_down")
        send(one, names(count))
        deferred(one, count)
        one.wait_here(count if way == "redis" else 0)
        if way == "redis":
            redis.start()
        kills = 0
        for _ in range(12):
            one.wait_redis()
            move = one.begin(*MOVE, "--to", way, "--all", "--timeout", "20s")
            # It is meant to be hit anywhere: this is no wait for something.
            try:
                move.wait(dice.uniform(0.005, 0.15))
                break
            except subprocess.TimeoutExpired:
                one.kill()
                kills += 1
                move.wait(30)
                one.start()
        one.wait_redis()
        left = []

        def move_rest(_):
            """What was under way at the last kill is busy until it is settled."""
            output, errors = one.begin(*MOVE, "--to", way, "--all").communicate(timeout=60)
            left.append(json.loads(output))
            assert left[-1]["failed"] == 0, (output, errors)
            return left[-1]["busy"] == 0
        one.wait_metric(move_rest, "the rest is moved")
        print(f"{kills} kills; the moves behind them had {sum(r['done'] for r in left)} to do")
        one.wait_here(0 if way == "redis" else count)
        assert mails_in(redis) == (count if way == "redis" else 0)
        del sink.faults["rcpt"]

        def retry(_):
            """A copy that is not settled yet is busy, too."""
            begun = one.begin("queue", "retry", "--all", "--yes", "--reason", "now")
            output, _ = begun.communicate(timeout=60)
            return json.loads(output)["busy"] == 0 or len(sink.mails) == count
        one.wait_metric(retry, "all are due")
        sink.wait(count)
        one.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "nothing is left")
        assert mails_in(redis) == 0
    assert arrived(sink) == sorted(names(count))
