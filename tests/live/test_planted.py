# SPDX-License-Identifier: Apache-2.0
"""A mail that kills whoever delivers it goes from relay to relay, ends on hold, and no more.

The relays are built with a planted assertion (planted.c). What ends is started again at once, as a
service manager does.
"""
import collections
import contextlib
import os
import resource
import select
import signal
import time

import pytest

import redis_server
from daemon import Client, Ringpost
from redis_server import Redis

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

NODES = 3
HELD_S = 120  # more than four leases and starts take
DEATHS = 4  # the first attempt, then three whose start was noted before


class Planted(Ringpost):
    def command(self, *arguments):
        return [os.environ["RINGPOSTD_PLANTED"], *super().command(*arguments)[1:]]


def nodes_of(folder, redis, sink):
    return [Planted(folder / f"node{number}", {
        "hostname": f"node{number}.test", "timeouts": {"drain": "1s"},
        "queue": {"store": "redis",
                  "redis": {"server": redis.server, "lease": "1s", "deadline": "500ms"}},
    }, [{"domain": "*", "to": sink.url}]) for number in range(NODES)]


class Manager:
    """Starts again whatever dies."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.deaths = collections.Counter()

    def turn(self):
        """Waits for a death, but not for long; true where one was seen."""
        watch = select.poll()
        fds = {os.pidfd_open(node.process.pid): node for node in self.nodes}
        try:
            for fd in fds:
                watch.register(fd, select.POLLIN)
            dead = [fds[fd] for fd, _ in watch.poll(50)]
        finally:
            for fd in fds:
                os.close(fd)
        for node in dead:
            assert node.process.wait() == -signal.SIGABRT, node.output()
            node.kills += 1
            self.deaths[node] += 1
            node.start()
        return bool(dead)


def send(node, name):
    """True for a 250. Who dies before it has promised nothing: the connection breaks or ends."""
    with contextlib.suppress(OSError), Client(node.host, node.port) as client:
        if client.reply() is None or client.command("EHLO client.test") is None:
            return False
        reply = client.mail(recipients=[name])
        return reply is not None and reply[0] == 250
    return False


def test_a_mail_that_kills_its_relay_ends_on_hold(folder, sink):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    accepted = []

    def send_to_all(nodes):
        for node in nodes:
            name = f"u{len(accepted)}@there.test"
            if send(node, name):
                accepted.append(name)

    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis(folder / "redis"))
        nodes = [stack.enter_context(node) for node in nodes_of(folder, redis, sink)]
        manager = Manager(nodes)
        send_to_all(nodes)
        send(nodes[0], "planted-1@there.test")  # it may die before its 250 is sent, but has it
        deadline = time.monotonic() + HELD_S
        while not any(node.log.events("mail_held") for node in nodes):
            assert time.monotonic() < deadline, f"not held after {manager.deaths}"
            assert sum(manager.deaths.values()) <= DEATHS
            manager.turn()
            send_to_all(nodes)
        (held,) = [event for node in nodes for event in node.log.events("mail_held")]
        assert held["starts"] == 3
        # Nobody dies any more, though leases run out and relays are stopped and started.
        nodes[1].stop()
        nodes[1].start()
        for _ in range(20):
            assert not manager.turn()
            send_to_all(nodes)
        assert sum(redis.ask("ZCARD", key) for key in redis.ask("KEYS", "*:held")) == 1
        sink.wait(len(accepted))
        print(f"{dict((n.folder.name, c) for n, c in manager.deaths.items())} died; "
              f"{len(accepted)} other mails arrived")
        assert sum(manager.deaths.values()) == DEATHS
        for node in nodes:
            node.wait_ready()
    assert set(accepted) <= {name for mail in sink.mails for name in mail.recipients}
