# SPDX-License-Identifier: Apache-2.0
"""Mail that finds its own way: MX records of a signed tree of zones, served by nsd on loopback.

MX hosts listen on port 25, so every host of these tests has an address of its own on loopback, and
binding that port needs root.
"""
import os

import pytest

import peers
from daemon import Client, Ringpost
from dns_tree import Silent, Tree
from sink import CLOSE, EXTENSIONS, STALL, Sink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="port 25 needs root")

FIRST, SECOND, DEAD, OURSELVES = (f"127.{90 + os.getpid() % 40}.{os.getpid() >> 8 & 255}.{n}"
                                  for n in (1, 2, 3, 4))
ZONE = f"""
mx1 A {FIRST}
mx2 A {SECOND}
again A {FIRST}
twin MX 10 mx1
twin MX 20 again
dead A {DEAD}
relay A {OURSELVES}
plain MX 10 mx1
same MX 10 mx1
two MX 10 mx1
two MX 20 mx2
equal MX 10 mx1
equal MX 10 mx2
fallback MX 10 dead
fallback MX 20 mx2
alldead MX 10 dead
implicit A {FIRST}
alias CNAME plain
nullmx MX 0 .
nohost MX 10 nothing
nothing TXT "here is no address"
empty TXT "neither MX nor address"
loop MX 10 relay
loop MX 20 mx1
behind MX 10 mx1
behind MX 20 relay
*.wild MX 10 mx1
"""


@pytest.fixture(scope="module")
def tree():
    with Tree(peers.open_folder("mx") / "tree") as running:
        running.zone("good.test", ZONE)
        running.zone("plain.test", f"@ MX 10 mx1\nmx1 A {FIRST}", signed=False)
        running.zone("bogus.test", f"@ MX 10 mx1\nmx1 A {FIRST}", damage=lambda text: text.replace(
            "MX\t10", "MX\t11").replace("MX 10", "MX 11"))
        running.zone("fails.test", "", signed=False, fails=True)
        running.publish()
        yield running


def relay_of(folder, tree, changes=None, routes=None):
    config = {"dns": tree.options, "hostname": "relay.good.test", "timeouts": {"drain": "1s"}}
    for key, value in (changes or {}).items():
        config[key] = {**config[key], **value} if key in config and isinstance(value, dict) \
            else value
    return Ringpost(folder / "relay", config, routes or [{"domain": "*", "to": "mx"}])


def send(relay, *recipients, sender="a@client.test", mails=1):
    with Client(relay.host, relay.port) as client:
        client.greet()
        for _ in range(mails):
            client.mail(sender=sender, recipients=recipients)


def test_shapes_that_lead_to_a_host(folder, tree):
    with Sink(host=FIRST, port=25) as first, Sink(host=SECOND, port=25) as second, \
            relay_of(folder, tree) as relay:
        for name in ("plain", "two", "twin", "implicit", "alias", "behind", "any.wild"):
            send(relay, f"u@{name}.good.test")
        send(relay, "u@plain.test")
        send(relay, f"u@[{FIRST}]")
        first.wait(9)
        send(relay, "u@fallback.good.test")
        second.wait(1)
        assert len(first.mails) == 9
        delivered = {event["recipient"]: event for event in relay.log.wait_events(10, "delivery")}
        assert len(delivered) == 10
        assert delivered["u@two.good.test"]["site"] == "mx1.good.test,mx2.good.test"
        assert delivered["u@two.good.test"]["host"] == "mx1.good.test"
        assert delivered["u@twin.good.test"]["host"] == "mx1.good.test"
        assert delivered["u@implicit.good.test"]["host"] == "implicit.good.test"
        assert delivered["u@fallback.good.test"]["host"] == "mx2.good.test"
        assert all(event["result"] == "delivered" for event in delivered.values()), delivered


@pytest.mark.parametrize("name, code, status", [
    ("nowhere.good.test", 550, "5.1.2"),
    ("nullmx.good.test", 556, "5.1.10"),
    ("nohost.good.test", 550, "5.4.4"),
    ("empty.good.test", 550, "5.4.4"),
    ("loop.good.test", 550, "5.4.6"),
])
def test_what_is_final_fails_at_once(folder, tree, name, code, status):
    with relay_of(folder, tree) as relay:
        send(relay, f"u@{name}", sender="")
        event = relay.log.wait("delivery", recipient=f"u@{name}")
        assert (event["result"], event["code"], event["enhanced"], event["phase"]) == \
            ("failed", code, status, "dns"), event
        assert name.split(".")[0] in event["reply"], event


@pytest.mark.parametrize("name, status, result", [
    ("bogus.test", "4.4.3", "bogus"),
    ("fails.test", "4.4.3", "failed"),
])
def test_what_may_pass_is_tried_again(folder, tree, name, status, result):
    with relay_of(folder, tree) as relay:
        send(relay, f"u@{name}")
        assert relay.log.wait("unresolved", destination=name)["result"] == result
        event = relay.log.wait("delivery", recipient=f"u@{name}")
        assert (event["result"], event["code"], event["enhanced"], event["phase"]) == \
            ("deferred", 451, status, "dns"), event
        again = relay.log.wait("delivery", recipient=f"u@{name}", attempts=2)
        assert again["result"] == "deferred"


def test_a_server_that_never_answers_is_given_up(folder, tree):
    with Silent() as silent:
        options = {**tree.options, "forwarders": [silent.forwarder], "deadline": "1s"}
        with relay_of(folder, tree, {"dns": options}) as relay:
            send(relay, "u@plain.good.test")
            event = relay.log.wait("delivery", recipient="u@plain.good.test")
            assert (event["result"], event["enhanced"]) == ("deferred", "4.4.3"), event


def test_domains_with_the_same_hosts_share_a_site(folder, tree):
    """Their connections together stay within the limit of one."""
    with Sink(host=FIRST, port=25, faults={"final": STALL}) as stalled:
        routes = [{"domain": "*", "to": "mx", "connections": 1}]
        with relay_of(folder, tree, routes=routes) as relay:
            for _ in range(5):
                send(relay, "u@plain.good.test")
                send(relay, "u@same.good.test")
                send(relay, "u@any.wild.good.test")
            stalled.wait_for(lambda s: len(s.stalled) == 1)
            assert len(stalled.sessions) == 1


def test_a_mail_for_several_sites_is_taken_once(folder, tree):
    with Sink(host=FIRST, port=25) as first, Sink(host=SECOND, port=25) as second, \
            relay_of(folder, tree) as relay:
        send(relay, "u@plain.good.test", "v@fallback.good.test", "w@plain.good.test",
             "x@nowhere.good.test", sender="")
        first.wait(1)
        second.wait(1)
        assert sorted(first.mails[0].recipients) == ["u@plain.good.test", "w@plain.good.test"]
        assert second.mails[0].recipients == ["v@fallback.good.test"]
        relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
        for _ in range(4):
            relay.log.wait("delivery")
        events = relay.log.events("delivery")
        assert len(events) == 4 and len({event["id"] for event in events}) == 1, events


def test_equals_share_the_mail(folder, tree):
    with Sink(host=FIRST, port=25) as first, Sink(host=SECOND, port=25) as second:
        changes = {"delivery": {"mails_per_connection": 1}}
        with relay_of(folder, tree, changes) as relay:
            send(relay, "u@equal.good.test", mails=40)
            first.wait_for(lambda s: len(first.mails) + len(second.mails) == 40)
            assert min(len(first.mails), len(second.mails)) >= 10


def test_a_rate_is_kept(folder, tree):
    """120 a minute: two a second, whatever the number of workers."""
    with Sink(host=FIRST, port=25) as first:
        changes = {"sites": [{"mx": "mx1.good.test", "rate": 120}]}
        with relay_of(folder, tree, changes) as relay:
            send(relay, "u@plain.good.test", mails=6)
            first.wait(6)
            times = [mail.replied_ns for mail in first.mails]
            assert times[-1] - times[0] >= 2.4e9, times


# With CHUNKING a small mail goes out whole with its envelope, so a loss in any phase leaves it in
# doubt; without, the data follows the reply to DATA.
NO_CHUNKING = tuple(word for word in EXTENSIONS if word != "CHUNKING")


# What a host may do in a phase that leads to the next one.
@pytest.mark.parametrize("fault", [
    {"connect": "421 4.3.2 closing"},
    {"connect": "554 5.3.2 no mail here"},
    {"connect": CLOSE},
    {"ehlo": "421 4.3.2 closing"},
    {"ehlo": CLOSE},
    {"mail": "421 4.3.2 closing"},
    {"mail": "451 4.3.0 later"},
    {"mail": CLOSE},
    {"rcpt": "450 4.2.0 later"},
    {"rcpt": "421 4.3.2 closing"},
    {"rcpt": CLOSE},
    {"data": "451 4.3.0 later"},
    {"data": CLOSE},
    {"final": "451 4.3.0 later"},
])
def test_what_one_host_does_wrong_another_may_do_right(folder, tree, fault):
    """docs/delivery.md, by phase. Never twice, never lost."""
    with Sink(host=FIRST, port=25, faults=dict(fault), extensions=NO_CHUNKING) as first, \
            Sink(host=SECOND, port=25) as second, relay_of(folder, tree) as relay:
        send(relay, "u@two.good.test")
        event = relay.log.wait("delivery", recipient="u@two.good.test")
        assert (event["result"], event["host"]) == ("delivered", "mx2.good.test"), event
        assert len(second.mails) == 1 and not first.mails


def test_where_all_hosts_put_it_off_it_is_tried_again_later(folder, tree):
    """The first attempt asks each host once; its event tells what the last one has said."""
    later = {"rcpt": "450 4.2.0 later"}
    with Sink(host=FIRST, port=25, faults=dict(later)) as first, \
            Sink(host=SECOND, port=25, faults={"rcpt": "450 4.2.0 much later"}) as second, \
            relay_of(folder, tree) as relay:
        send(relay, "u@two.good.test")
        event = relay.log.wait("delivery", recipient="u@two.good.test")
        assert (event["result"], event["attempts"]) == ("deferred", 1), event
        assert "much later" in event["reply"]
        first.faults.clear()
        second.faults.clear()
        relay.log.wait("delivery", recipient="u@two.good.test", result="delivered")
        assert len(first.mails) + len(second.mails) == 1
        replies = "ringpost_delivery_replies_total"
        metrics = relay.metrics()
        assert metrics.sum(replies, **{"class": "4xx"}) >= 2
        assert metrics.sum(replies, **{"class": "2xx"}) == 1


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "final"])
def test_a_refusal_is_final(folder, tree, phase):
    with Sink(host=FIRST, port=25, faults={phase: "550 5.7.1 no"},
              extensions=NO_CHUNKING) as first, \
            Sink(host=SECOND, port=25) as second, relay_of(folder, tree) as relay:
        send(relay, "u@two.good.test", sender="")
        event = relay.log.wait("delivery", recipient="u@two.good.test")
        assert (event["result"], event["code"], event["enhanced"]) == ("failed", 550, "5.7.1")
        relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
        assert not first.mails and not second.mails
        assert relay.metrics().sum("ringpost_delivery_replies_total", **{"class": "5xx"}) == 1


def test_a_dead_site_is_an_attempt(folder, tree):
    """Refused connections count, and the mail's time ends with the last reply."""
    changes = {"retry": {"lifetime": "1m"}}
    with relay_of(folder, tree, changes) as relay:
        send(relay, "u@alldead.good.test", sender="")
        event = relay.log.wait("delivery", recipient="u@alldead.good.test")
        assert (event["result"], event["enhanced"], event["attempts"]) == ("deferred", "4.4.1", 1)
        assert DEAD in event["reply"]
        relay.log.wait("delivery", recipient="u@alldead.good.test", attempts=3)


def test_one_senders_flood_does_not_hold_up_another(folder, tree):
    """A site that takes one mail at a time: the second sender's only mail is among the next."""
    with Sink(host=FIRST, port=25) as first:
        routes = [{"domain": "*", "to": "mx", "connections": 1}]
        changes = {"sites": [{"mx": "mx1.good.test", "connections": 1, "rate": 300}]}
        with relay_of(folder, tree, changes, routes) as relay:
            send(relay, "u@plain.good.test", sender="flood@client.test", mails=100)
            first.wait(5)
            send(relay, "u@plain.good.test", sender="single@client.test")
            first.wait_for(lambda s: any(m.sender == "single@client.test" for m in s.mails))
            assert len(first.mails) < 60
