# SPDX-License-Identifier: Apache-2.0
"""Relays that share a queue in Redis: hand-over, take-over, Redis away; no mail is lost."""
import os
import pathlib
import signal
import socket

import pytest

import ports
import redis_server
from daemon import Client, Ringpost
from redis_server import Redis
from sink import Sink

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

LEASE_S = 3


@pytest.fixture
def redis(folder):
    with Redis(folder / "redis") as running:
        yield running


def node(folder, name, redis, sink, changes=None, routes=None):
    """A relay of the cluster, which sends everything to `sink`."""
    relay = Ringpost(folder / name, {
        "hostname": f"{name}.test", "timeouts": {"drain": "2s"},
        "queue": {"store": "redis", "redis": {"server": redis.server, "lease": f"{LEASE_S}s"}},
    }, routes or [{"domain": "*", "to": sink.url}])
    relay.change(changes or {})
    return relay


def send(relay, count, recipient="u@there.test", **keywords):
    with Client(relay.host, relay.port) as client:
        client.greet()
        for _ in range(count):
            assert client.mail(recipients=[recipient], **keywords)[0] == 250


def is_empty(redis):
    """Nothing of a mail is left, in any shard."""
    return [key for key in redis.ask("KEYS", "*") if ":m:" in key or ":b:" in key] == []


def wait_empty(relay, redis):
    relay.wait_metric(lambda m: is_empty(redis), "nothing is left in Redis")


def test_mail_goes_through_and_leaves_nothing(folder, redis, sink):
    with node(folder, "one", redis, sink) as relay:
        send(relay, 20)
        sink.wait(20)
        wait_empty(relay, redis)
        assert relay.metrics().sum("ringpost_redis_taken_over_mails_total") == 0
    assert len(sink.mails) == 20


def test_what_is_deferred_waits_in_redis_and_any_node_delivers_it(folder, redis, sink):
    changes = {"retry": {"schedule": ["12s"]}}
    sink.faults["rcpt"] = "450 4.2.0 later"
    with node(folder, "two", redis, sink, changes) as other:
        with node(folder, "one", redis, sink, changes) as relay:
            send(relay, 5)
            for _ in range(5):
                assert relay.log.wait("delivery")["result"] == "deferred"
        del sink.faults["rcpt"]
        sink.wait(5)
        for _ in range(5):
            assert other.log.wait("delivery", result="delivered")["attempts"] == 2
        wait_empty(other, redis)
        assert other.metrics().sum("ringpost_redis_taken_over_mails_total") == 0
        other.wait_metric(lambda m: m.sum("ringpost_redis_claimed_mails_total") == 5, "5 claims")
    assert len(sink.mails) == 5


def test_who_stops_hands_over_at_once(folder, redis, sink):
    """The lease is long: only a hand-over can bring the mails to the other node."""
    changes = {"queue": {"redis": {"lease": "60s"}}, "retry": {"schedule": ["1s"]}}
    sink.faults["rcpt"] = "450 4.2.0 later"
    with node(folder, "two", redis, sink, changes) as other:
        with node(folder, "one", redis, sink, changes) as relay:
            send(relay, 10)
            for _ in range(10):
                relay.log.wait("delivery", result="deferred")
        del sink.faults["rcpt"]
        sink.wait(10)
        wait_empty(other, redis)
        assert other.metrics().sum("ringpost_redis_taken_over_mails_total") == 0
    assert len(sink.mails) == 10


def test_the_mails_of_a_killed_node_are_taken_over(folder, redis, sink):
    changes = {"retry": {"schedule": ["1s"]}}
    sink.faults["rcpt"] = "450 4.2.0 later"
    with node(folder, "two", redis, sink, changes) as other:
        with node(folder, "one", redis, sink, changes) as relay:
            send(relay, 10)
            for _ in range(10):
                relay.log.wait("delivery", result="deferred")
            killed_ns = relay.kill()
            del sink.faults["rcpt"]
            sink.wait(10)
            took_s = (max(m.replied_ns for m in sink.mails) - killed_ns) / 1e9
            print(f"taken over and delivered within {took_s:.1f} s, the lease is {LEASE_S} s")
            assert took_s < 1.5 * LEASE_S + 2
            taken = [other.log.wait("mail_taken_over") for _ in range(10)]
            assert len({event["id"] for event in taken}) == 10
            wait_empty(other, redis)
            other.wait_metric(lambda m: m.sum("ringpost_redis_taken_over_mails_total") == 10,
                              "10 mails taken over")
    assert len(sink.mails) == 10


def test_redis_away_refuses_and_outcomes_wait_for_it(folder, redis, sink):
    """Deliveries in flight end; what became of them is written when Redis is back."""
    changes = {"retry": {"schedule": ["1s"]}}
    with node(folder, "one", redis, sink, changes) as relay:
        sink.faults["rcpt"] = "450 4.2.0 later"
        send(relay, 3)
        for _ in range(3):
            relay.log.wait("delivery", result="deferred")
        redis.kill()
        relay.wait_ready(status=503)
        with Client(relay.host, relay.port) as client:
            client.greet()
            code, text = client.command("MAIL FROM:<a@client.test>")
            assert code == 451 and "queue server cannot be reached" in text, text
        redis.start()
        relay.wait_ready()
        del sink.faults["rcpt"]
        sink.wait(3)
        wait_empty(relay, redis)
    assert len(sink.mails) == 3


def test_a_relay_stops_while_redis_is_away(folder, redis, sink):
    """It gives up what it cannot say, and what it had is another's when its lease has ended."""
    changes = {"retry": {"schedule": ["1s"]}}
    with node(folder, "one", redis, sink, changes) as relay:
        sink.faults["rcpt"] = "450 4.2.0 later"
        send(relay, 3)
        for _ in range(3):
            relay.log.wait("delivery", result="deferred")
        redis.kill()
        relay.wait_ready(status=503)
    redis.start()
    del sink.faults["rcpt"]
    with node(folder, "two", redis, sink, changes) as relay:
        sink.wait(3)
        wait_empty(relay, redis)
    assert len(sink.mails) == 3


def test_what_was_delivered_and_could_not_be_recorded_is_told(folder, redis, sink):
    """The next hop takes the mail while Redis is away, and the relay ends: the log knows."""
    def take(_session, _argument=""):
        redis.pause()

    sink.faults["final"] = take
    with node(folder, "one", redis, sink) as relay:
        send(relay, 1)
        sink.wait(1)
        relay.stop()
        told = relay.log.wait("outcome_unrecorded", recipient="u@there.test")
        assert told["result"] == "delivered" and told["sender"] and told["reply"].startswith("250 ")
        assert not relay.log.events("delivery")
    del sink.faults["final"]
    redis.resume()
    with node(folder, "two", redis, sink) as relay:
        wait_empty(relay, redis)
    # As the event says: it is known to Redis, which had only not answered, or comes again.
    assert len(sink.mails) in (1, 2)


class SlowHop:
    """A next hop with small buffers that takes the beginning of a body, and the rest when it is
    told to. It never says that it has it."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind((ports.address(), 0))
        self.socket.listen()
        host, port = self.socket.getsockname()
        self.url = f"smtp://{host}:{port}"

    def take_the_beginning(self):
        """From the greeting to the first bytes of the body."""
        self.connection, _ = self.socket.accept()
        self.connection.settimeout(60)
        self.lines = self.connection.makefile("rb", buffering=0)
        self.say("220 slow.test")
        for verb, reply in (("EHLO", "250 slow.test"), ("MAIL", "250 ok"), ("RCPT", "250 ok"),
                            ("DATA", "354 go on")):
            assert self.lines.readline().startswith(verb.encode())
            self.say(reply)
        return self.lines.read(1024)

    def say(self, line):
        self.connection.sendall(line.encode() + b"\r\n")

    def take_the_rest(self):
        """Until the relay ends the connection; or until the end of the data."""
        data = b""
        while part := self.connection.recv(262144):
            data = (data + part)[-262144:]
            if data.endswith(b"\r\n.\r\n"):
                break
        return data

    def close(self):
        self.connection.close()
        self.socket.close()


def test_a_former_owner_does_not_end_the_data(folder, redis, sink):
    """It sleeps for longer than its lease in the middle of a body that goes out in one piece."""
    hop = SlowHop()
    chunk = {"delivery": {"chunk_size": "64MiB"}}
    most = int(pathlib.Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    line = b"x" * 70 + b"\r\n"
    body = b"Subject: large\r\n\r\n" + line * ((most + (4 << 20)) // len(line))
    with node(folder, "one", redis, sink, chunk, [{"domain": "*", "to": hop.url}]) as one, \
            node(folder, "two", redis, sink) as two:
        send(one, 1, body=body)
        hop.take_the_beginning()
        one.process.send_signal(signal.SIGSTOP)
        sink.wait(1)
        assert two.log.wait("mail_taken_over")
        one.process.send_signal(signal.SIGCONT)
        assert not hop.take_the_rest().endswith(b"\r\n.\r\n")
        one.log.wait("taken_over")
        wait_empty(one, redis)
    hop.close()
    assert len(sink.mails) == 1


def test_a_large_body_comes_back_as_it_was(folder, redis, sink):
    body = os.urandom(300 * 1024).hex().encode()
    content = b"Subject: large\r\n\r\n" + b"\r\n".join(
        body[i:i + 76] for i in range(0, len(body), 76)) + b"\r\n"
    sink.faults["rcpt"] = "450 4.2.0 later"
    changes = {"retry": {"schedule": ["12s"]}}
    with node(folder, "one", redis, sink, changes) as relay:
        with Client(relay.host, relay.port) as client:
            client.greet()
            assert client.mail(recipients=["u@there.test"], body=content)[0] == 250
        relay.log.wait("delivery", result="deferred")
        del sink.faults["rcpt"]
        sink.wait(1)
        wait_empty(relay, redis)
    assert sink.mails[0].content.endswith(content)


def test_a_server_that_promises_less_is_refused_with_the_remedy(folder, sink):
    with Redis(folder / "redis", {"appendfsync": "everysec"}) as weak:
        relay = node(folder, "one", weak, sink)
        relay.launch()
        try:
            event = relay.log.wait("redis_rejected")
            assert "appendfsync" in event["problem"], event
            relay.wait_ready(status=503)
            weak.ask("CONFIG", "SET", "appendfsync", "always")
            relay.wait_ready()
            send(relay, 1)
            sink.wait(1)
        finally:
            relay.stop()
