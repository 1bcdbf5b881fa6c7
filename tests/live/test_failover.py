# SPDX-License-Identifier: Apache-2.0
"""A fail-over of Redis that loses what it had answered: no mail is stranded, and what may have been
delivered twice is counted."""
import os
import select
import time

import pytest

import redis_server
from cut import Wire
from daemon import Client, Ringpost
from redis_server import Redis
from sentinel import Sentinel

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

SERVER = {"min-replicas-to-write": "1", "min-replicas-max-lag": "60",
          "repl-diskless-sync-delay": "0"}


def wait_linked(replica):
    """Until it has its master's data. INFO has no event; the process's end is one."""
    deadline = time.monotonic() + 30
    watch = select.poll()
    pidfd = os.pidfd_open(replica.process.pid)
    watch.register(pidfd, select.POLLIN)
    try:
        while "master_link_status:up" not in replica.ask("INFO", "replication"):
            assert time.monotonic() < deadline, "it does not follow its master"
            assert not watch.poll(20), "it has ended"
    finally:
        os.close(pidfd)


class Servers:
    """A master, a replica that follows it over a wire, and a replica of that one, so that it has
    one when it is the master itself."""

    def __init__(self, folder):
        self.master = Redis(folder / "master", SERVER)
        self.wire = Wire(self.master.host, self.master.port)
        self.second = Redis(folder / "second", {
            **SERVER, "replicaof": f"{self.wire.host} {self.wire.port}"})
        self.third = Redis(folder / "third", {
            **SERVER, "replicaof": f"{self.second.host} {self.second.port}"})
        self.sentinel = Sentinel("ringpost", self.master)

    def __enter__(self):
        self.master.start()
        self.wire.__enter__()
        self.second.start()
        self.third.start()
        wait_linked(self.second)
        wait_linked(self.third)
        self.sentinel.__enter__()
        return self

    def __exit__(self, *_):
        self.sentinel.__exit__()
        self.third.stop()
        self.second.stop()
        self.wire.__exit__()
        self.master.stop()

    def fail_over(self):
        """To where the replica was when the wire was frozen."""
        self.master.kill()
        self.wire.cut()
        self.second.ask("REPLICAOF", "NO", "ONE")
        self.sentinel.switch(self.second)


@pytest.fixture
def servers(folder):
    with Servers(folder) as running:
        yield running


def keys_of_mails(redis):
    return [key for key in redis.ask("KEYS", "*") if ":m:" in key or ":b:" in key]


def node(folder, servers, sink, **redis):
    return Ringpost(folder / "one", {
        "hostname": "one.test", "timeouts": {"drain": "2s"}, "retry": {"schedule": ["2s"]},
        "workers": 2,
        "queue": {"store": "redis", "redis": {"sentinels": [servers.sentinel.server],
                                              "master": "ringpost", **redis}},
    }, [{"domain": "*", "to": sink.url}])


def defer(relay, sink, count):
    """So many mails, each of which the sink has put off once."""
    sink.faults["rcpt"] = "450 4.2.0 later"
    with Client(relay.host, relay.port) as client:
        client.greet()
        for _ in range(count):
            assert client.mail(recipients=["u@there.test"])[0] == 250
    for _ in range(count):
        relay.log.wait("delivery", result="deferred")


def test_outcomes_that_a_fail_over_loses_are_made_good_by_the_same_relay(folder, servers, sink):
    count = 20
    with node(folder, servers, sink) as relay:
        defer(relay, sink, count)
        servers.wire.freeze()
        del sink.faults["rcpt"]
        sink.wait(count)
        relay.wait_metric(lambda m: keys_of_mails(servers.master) == [], "all outcomes are there")
        assert keys_of_mails(servers.second) != []

        servers.fail_over()
        sink.wait(2 * count)
        found = [relay.log.wait("mail_recovered") for _ in range(count)]
        assert len({event["id"] for event in found}) == count
        relay.wait_metric(lambda m: keys_of_mails(servers.second) == [], "nothing is stranded")
        metrics = relay.wait_metric(
            lambda m: m.sum("ringpost_redis_recovered_mails_total") == count, "all recovered")
        assert metrics.sum("ringpost_duplicates_possible_total", cause="fail_over") == count
        assert metrics.sum("ringpost_duplicates_possible_total") == count
        assert metrics.sum("ringpost_redis_gone_mails_total") == 0
    assert len(sink.mails) == 2 * count
