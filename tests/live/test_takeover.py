# SPDX-License-Identifier: Apache-2.0
"""How long a mail waits whose relay is killed, with the default lease: 45 s at most."""
import pytest

import redis_server
from daemon import Client, Ringpost
from redis_server import Redis

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

KILLS, MAILS = 3, 200
MOST_S = 45


def node(folder, name, redis, sink):
    return Ringpost(folder / name, {
        "hostname": f"{name}.test",
        "queue": {"store": "redis", "redis": {"server": redis.server}},
    }, [{"domain": "*", "to": sink.url}])


def test_the_next_attempt_comes_within_45_seconds(folder, sink):
    with Redis(folder / "redis") as redis, node(folder, "two", redis, sink), \
            node(folder, "three", redis, sink):
        for kill in range(KILLS):
            sink.faults["rcpt"] = "450 4.2.0 later"
            one = node(folder, f"one{kill}", redis, sink)
            with one, Client(one.host, one.port) as client:
                client.greet()
                for number in range(MAILS):
                    name = f"{kill}-{number}@there.test"
                    assert client.mail(recipients=[name])[0] == 250
                killed_ns = one.kill()
                del sink.faults["rcpt"]
                sink.wait((kill + 1) * MAILS, timeout_s=2 * MOST_S)
            waits = sorted((mail.replied_ns - killed_ns) / 1e9
                           for mail in sink.mails[kill * MAILS:])
            print(f"kill {kill + 1}: {MAILS} mails, the next attempt of the first after "
                  f"{waits[0]:.1f} s, of the last after {waits[-1]:.1f} s")
            assert waits[-1] <= MOST_S
    assert len(sink.mails) == KILLS * MAILS
