# SPDX-License-Identifier: Apache-2.0
"""What each level of durability keeps and loses: the table of docs/durability.md, by real servers.

In each test mails get their 250 and have to wait, and their relay is killed: what is left of them
is what Redis has. Then Redis fails, and another relay delivers what it finds.
"""
import contextlib
import shutil
import subprocess

import pytest

import redis_server
from daemon import Client, Ringpost
from loopdisk import LoopDisk, run
from redis_groups import Sentinels, online_replicas
from redis_server import Redis, wait_until

pytestmark = pytest.mark.skipif(not redis_server.is_installed(), reason="redis-server is missing")

MAILS = 5
LEASE_S = 1
DISK_MIB = 32


def relay(folder, name, where, sink, **redis):
    return Ringpost(folder / name, {
        "hostname": f"{name}.test", "timeouts": {"drain": "1s"},
        "queue": {"store": "redis",
                  "redis": {**where, "lease": f"{LEASE_S}s", "deadline": "500ms", **redis}},
    }, [{"domain": "*", "to": sink.url}])


def offer(node, count=MAILS, recipient="u@there.test"):
    """The final replies to so many mails."""
    with Client(node.host, node.port) as client:
        client.greet()
        return [client.mail(recipients=[recipient]) for _ in range(count)]


def codes(replies):
    return {code for code, _ in replies}


def kept(redis):
    """How many mails are in Redis."""
    return sum(":m:" in key for key in redis.ask("KEYS", "*"))


@contextlib.contextmanager
def waiting_mails(folder, where, sink, **redis):
    """With a 250, and without a relay: it was killed."""
    sink.faults["rcpt"] = "450 4.2.0 later"
    with relay(folder, "one", where, sink, **redis) as node:
        assert codes(offer(node)) == {250}
        node.kill()
        yield
    del sink.faults["rcpt"]


def delivered(folder, where, sink, **redis):
    """How many mails another relay finds and delivers; one more shows when it has done so."""
    before = len(sink.mails)
    with relay(folder, "two", where, sink, **redis) as node:
        node.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0 and
                         m.sum("ringpost_redis_links_ready") > 0, "nothing waits")
        assert codes(offer(node, 1, "last@there.test")) == {250}
        sink.wait(before + 1)
    return sum(mail.recipients == ["u@there.test"] for mail in sink.mails[before:])


def deliver_all(folder, where, sink, **redis):
    with relay(folder, "two", where, sink, **redis):
        sink.wait(MAILS)
    assert len({mail.content for mail in sink.mails}) == MAILS


# ---- power ----

def disk_then(folder):
    (folder / "then").mkdir()
    return LoopDisk(folder / "then", DISK_MIB)


def sync(then):
    subprocess.run(["sync", "--file-system", str(then.path)], check=True)


def lose_power(folder, then):
    """What is in the file of the loop device was on the disk; the rest is in memory still."""
    shutil.copyfile(then.image, folder / "image")


@contextlib.contextmanager
def disk_now(folder):
    (folder / "now").mkdir()
    run("mount", "-o", "loop", str(folder / "image"), str(folder / "now"))
    try:
        yield folder / "now"
    finally:
        run("umount", str(folder / "now"))


# ---- one server ----

SAFE = {"durability": "disk"}
UNSAFE = {"durability": "memory"}


@pytest.mark.parametrize("level, options", ((SAFE, {}), (UNSAFE, {"appendonly": "no"})))
def test_a_relay_that_is_killed_loses_nothing(folder, sink, level, options):
    with Redis(folder / "redis", options) as redis:
        where = {"server": redis.server}
        with waiting_mails(folder, where, sink, **level):
            assert kept(redis) == MAILS
        deliver_all(folder, where, sink, **level)


@pytest.mark.parametrize("level, options, left", (
    (SAFE, {}, MAILS), (UNSAFE, {"appendonly": "no"}, 0)))
def test_a_redis_that_is_killed_and_comes_back(folder, sink, level, options, left):
    with Redis(folder / "redis", options) as redis:
        where = {"server": redis.server}
        with waiting_mails(folder, where, sink, **level):
            redis.kill()
            redis.start()
            assert kept(redis) == left
        if left:
            deliver_all(folder, where, sink, **level)


@pytest.mark.parametrize("level, options, left", (
    (SAFE, {}, MAILS), (UNSAFE, {"appendonly": "yes", "appendfsync": "no"}, 0)))
def test_the_machine_of_redis_loses_its_power(folder, sink, loops, level, options, left):
    with disk_then(folder) as then:
        with Redis(then.path / "redis", options) as redis:
            sync(then)
            where = {"server": redis.server}
            with waiting_mails(folder, where, sink, **level):
                redis.kill()
                lose_power(folder, then)
    with disk_now(folder) as now, \
            Redis(now / "redis", options, redis.host, redis.port) as again:
        assert kept(again) == left
        if left:
            deliver_all(folder, where, sink, **level)


@pytest.mark.parametrize("level", (SAFE, UNSAFE))
def test_its_disk_is_lost(folder, sink, level):
    with Redis(folder / "redis") as redis:
        with waiting_mails(folder, {"server": redis.server}, sink, **level):
            redis.kill()
            shutil.rmtree(redis.folder)
            redis.folder.mkdir()
            redis.start()
            assert kept(redis) == 0


# ---- fail-over ----

LOSES_AT_FAILOVER = {"durability": "disk-no-failover"}
REPLICA = {"durability": "replica", "replicas": 1}
REPLICAS = {"durability": "replica", "replicas": 2}


def fail_over(group):
    """The master and its disk are gone. Returns the new one."""
    (old,) = group.masters()
    old.kill()
    shutil.rmtree(old.folder)
    return group.wait_master_but(old)


@pytest.mark.parametrize("level", (LOSES_AT_FAILOVER, REPLICA))
def test_a_fail_over_to_a_replica_that_has_it_all(folder, sink, level):
    with Sentinels(folder, replicas=2, sentinels=1) as group:
        with waiting_mails(folder, group.options(), sink, **level):
            for replica in group.servers[1:]:
                wait_until(lambda r=replica: kept(r) == MAILS, replica, "it has all")
            assert kept(fail_over(group)) == MAILS
        deliver_all(folder, group.options(), sink, **level)


def test_disk_no_failover_loses_what_the_replica_had_not(folder, sink):
    with Sentinels(folder, replicas=1, sentinels=1,
                   options={"min-replicas-to-write": 0}) as group:
        group.cut_replica(group.servers[1])
        with waiting_mails(folder, group.options(), sink, **LOSES_AT_FAILOVER):
            assert kept(group.servers[0]) == MAILS
            assert kept(fail_over(group)) == 0
        assert delivered(folder, group.options(), sink, **LOSES_AT_FAILOVER) == 0


def test_replica_takes_nothing_while_too_few_replicas_are_there(folder, sink):
    """Gone: the server itself refuses. Stopped: nobody acknowledges, and the put is taken back."""
    with Sentinels(folder, replicas=1, sentinels=1) as group, \
            relay(folder, "one", group.options(), sink, **REPLICA) as node:
        master, replica = group.servers
        assert codes(offer(node)) == {250}
        sink.wait(MAILS)
        replica.pause()
        assert codes(offer(node, 2)) == {451}
        replica.resume()
        replica.kill()
        wait_until(lambda: online_replicas(master) == 0, master, "no replica")
        node.wait_metric(lambda m: codes(offer(node, 1)) == {451}, "refused")
        replica.start()
        wait_until(lambda: online_replicas(master) == 1, master, "a replica")
        node.wait_metric(lambda m: codes(offer(node, 1, "last@there.test")) == {250}, "taken")
        sink.wait(MAILS + 1)
        node.wait_metric(lambda m: kept(master) == 0, "nothing is left")
    assert [m.recipients for m in sink.mails] == MAILS * [["u@there.test"]] + [["last@there.test"]]


def test_replica_loses_where_another_is_elected_than_has_acknowledged(folder, sink):
    """The window of WAIT: one of two has it, and the other becomes the master."""
    with Sentinels(folder, replicas=2, sentinels=1, elected=2) as group:
        _, has_it, elected = group.servers
        group.cut_replica(elected)
        with waiting_mails(folder, group.options(), sink, **REPLICA):
            assert kept(has_it) == MAILS
            new = fail_over(group)
            assert new is elected
            assert kept(new) == 0
        wait_until(lambda: online_replicas(new) == 1, new, "the other follows")
        assert delivered(folder, group.options(), sink, **REPLICA) == 0


def test_as_many_replicas_as_there_are_leave_no_window(folder, sink):
    with Sentinels(folder, replicas=2, sentinels=1,
                   options={"min-replicas-to-write": 2}, elected=2) as group:
        _, _, elected = group.servers
        with relay(folder, "one", group.options(), sink, **REPLICAS) as node:
            assert codes(offer(node)) == {250}
            sink.wait(MAILS)
            group.cut_replica(elected)
            node.wait_metric(lambda m: codes(offer(node, 1)) == {451}, "refused")
    assert len(sink.mails) == MAILS


def test_all_lose_their_power_and_the_replica_had_not_synced(folder, sink, loops):
    """WAIT is about memory. (The master, which has synced, would have all of it.)"""
    with disk_then(folder) as then:
        with Sentinels(folder, replicas=1, sentinels=1) as group:
            master, replica = group.servers
            replica.kill()
            replica.options["appendfsync"] = "no"
            shutil.rmtree(replica.folder)
            replica.folder = then.path / "redis"
            replica.folder.mkdir()
            replica.start()
            wait_until(lambda: online_replicas(master) == 1, master, "a replica")
            sync(then)
            with waiting_mails(folder, group.options(), sink, **REPLICA):
                assert kept(replica) == MAILS
                replica.kill()
                lose_power(folder, then)
    with disk_now(folder) as now:
        replica.folder = now / "redis"
        del replica.options["replicaof"]
        with replica, master:
            assert (kept(replica), kept(master)) == (0, MAILS)


# ---- relays that live through it ----

@pytest.mark.parametrize("lease", ("30s", "1s"))
def test_a_relay_that_lives_delivers_what_a_fail_over_lost(folder, sink, lease):
    """It has what comes next in its memory. (What it cannot deliver then is lost.) A lease that
    ran out meanwhile makes it ask first, since another one may have delivered it: then it is told
    that the mail is gone."""
    with Sentinels(folder, replicas=1, sentinels=1,
                   options={"min-replicas-to-write": 0}) as group:
        group.cut_replica(group.servers[1])
        sink.faults["rcpt"] = "450 4.2.0 later"
        node = relay(folder, "one", group.options(), sink, **LOSES_AT_FAILOVER, lease=lease)
        node.change({"retry": {"schedule": ["8s"]}})  # not given back before
        with node:
            assert codes(offer(node)) == {250}
            for _ in range(MAILS):
                node.log.wait("delivery", result="deferred")
            del sink.faults["rcpt"]
            assert kept(fail_over(group)) == 0
            if lease == "30s":
                sink.wait(MAILS)
            else:
                gone = node.log.wait_events(MAILS, "mail_gone", pending=1)
                assert len({event["id"] for event in gone}) == MAILS
    assert len(sink.mails) == (MAILS if lease == "30s" else 0)
