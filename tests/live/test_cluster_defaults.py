# SPDX-License-Identifier: Apache-2.0
"""Three relays over one Redis with nothing set: what that costs, and how long things take."""
import contextlib
import threading
import time

import pytest

import redis_server
from daemon import Client, Ringpost
from redis_groups import info
from redis_server import Redis

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

NODES = 3
KILLS, MAILS = 3, 200
MOST_S = 45  # from SIGKILL to the next attempt
IDLE_S, IDLE_MOST = 90, 10  # commands a second, of all together
NOTICED_S = 60


def node(folder, name, redis, sink):
    return Ringpost(folder / name, {
        "hostname": f"{name}.test",
        "queue": {"store": "redis", "redis": {"server": redis.server}},
    }, [{"domain": "*", "to": sink.url}])


@contextlib.contextmanager
def cluster(folder, redis, sink):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(node(folder, f"node{n}", redis, sink)) for n in range(NODES)]


def send(relay, names):
    with Client(relay.host, relay.port) as client:
        client.greet()
        for name in names:
            assert client.mail(recipients=[name])[0] == 250


def test_the_next_attempt_comes_within_45_seconds(folder, sink):
    with Redis(folder / "redis") as redis, cluster(folder, redis, sink):
        for kill in range(KILLS):
            sink.faults["rcpt"] = "450 4.2.0 later"
            with node(folder, f"one{kill}", redis, sink) as one:
                send(one, [f"{kill}-{number}@there.test" for number in range(MAILS)])
                killed_ns = one.kill()
                del sink.faults["rcpt"]
                sink.wait((kill + 1) * MAILS, timeout_s=2 * MOST_S)
            waits = sorted((mail.replied_ns - killed_ns) / 1e9
                           for mail in sink.mails[kill * MAILS:])
            print(f"kill {kill + 1}: {MAILS} mails, the next attempt of the first after "
                  f"{waits[0]:.1f} s, of the last after {waits[-1]:.1f} s")
            assert waits[-1] <= MOST_S
    assert len(sink.mails) == KILLS * MAILS


def commands(relays):
    """That they have sent; Redis would count what its functions call, too."""
    return sum(relay.metrics().sum("ringpost_redis_commands_total") for relay in relays)


def by_command(redis):
    return {name[len("cmdstat_"):]: int(value.split("calls=")[1].split(",")[0])
            for name, value in info(redis, "commandstats").items() if "calls=" in value}


def test_an_idle_cluster_costs_little(folder, sink):
    """After some mails have gone through each."""
    with Redis(folder / "redis") as redis, cluster(folder, redis, sink) as relays:
        for number, relay in enumerate(relays):
            send(relay, [f"{number}-{n}@there.test" for n in range(20)])
        sink.wait(20 * NODES)
        threading.Event().wait(5)  # what they have to say of these mails
        began, before, calls = time.monotonic(), commands(relays), by_command(redis)
        threading.Event().wait(IDLE_S)
        rate = (commands(relays) - before) / (time.monotonic() - began)
        more = {name: count - calls.get(name, 0) for name, count in by_command(redis).items()}
        print(f"{rate:.2f} commands a second of {NODES} idle relays; calls in {IDLE_S} s: "
              f"{ {name: count for name, count in sorted(more.items()) if count} }")
        assert rate < IDLE_MOST


def test_a_promise_that_is_withdrawn_is_noticed(folder, sink):
    with Redis(folder / "redis") as redis, node(folder, "one", redis, sink) as relay:
        send(relay, ["u@there.test"])
        began = time.monotonic()
        redis.ask("CONFIG", "SET", "appendfsync", "no")
        relay.wait_ready(timeout_s=NOTICED_S, status=503)
        print(f"noticed after {time.monotonic() - began:.1f} s")
        assert "appendfsync is no" in relay.log.wait("redis_rejected")["problem"]
        with Client(relay.host, relay.port) as client:
            client.greet()
            assert client.command("MAIL FROM:<a@client.test>")[0] == 451
        redis.ask("CONFIG", "SET", "appendfsync", "always")
        relay.wait_ready()
        send(relay, ["u@there.test"])
        sink.wait(2)
