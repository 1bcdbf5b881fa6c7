# SPDX-License-Identifier: Apache-2.0
"""A fail-over of Redis that loses what it had answered: no mail is stranded, and what may have been
delivered twice is counted."""
import pytest

import redis_server
from daemon import Client, Ringpost
from redis_groups import Sentinels

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")


def keys_of_mails(redis):
    return [key for key in redis.ask("KEYS", "*") if ":m:" in key or ":b:" in key]


def node(folder, group, sink, **redis):
    return Ringpost(folder / "one", {
        "hostname": "one.test", "timeouts": {"drain": "2s"}, "retry": {"schedule": ["2s"]},
        "workers": 2,
        "queue": {"store": "redis", "redis": {**group.options(), **redis}},
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


def test_outcomes_that_a_fail_over_loses_are_made_good_by_the_same_relay(folder, sink):
    """Of two replicas one has all of it, and the other, which has not, becomes the master."""
    count = 20
    with Sentinels(folder, replicas=2, sentinels=1, elected=2) as group, \
            node(folder, group, sink) as relay:
        master, _, elected = group.servers
        defer(relay, sink, count)
        group.cut_replica(elected)
        assert keys_of_mails(elected) != []
        del sink.faults["rcpt"]
        sink.wait(count)
        relay.wait_metric(lambda m: keys_of_mails(master) == [], "all outcomes are there")
        left = keys_of_mails(elected)
        assert sum(":m:" in key for key in left) == count

        assert group.kill_master() is master
        (new,) = group.masters()
        assert new is elected
        sink.wait(2 * count)
        found = [relay.log.wait("mail_recovered") for _ in range(count)]
        assert len({event["id"] for event in found}) == count
        relay.wait_metric(lambda m: keys_of_mails(elected) == [], "nothing is stranded")
        metrics = relay.wait_metric(
            lambda m: m.sum("ringpost_redis_recovered_mails_total") == count, "all recovered")
        assert metrics.sum("ringpost_duplicates_possible_total", cause="fail_over") == count
        assert metrics.sum("ringpost_duplicates_possible_total") == count
        assert metrics.sum("ringpost_redis_gone_mails_total") == 0
    assert len(sink.mails) == 2 * count
