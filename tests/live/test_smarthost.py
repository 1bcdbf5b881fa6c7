# SPDX-License-Identifier: Apache-2.0
"""Next hops that die, stall, defer and refuse, and the mail that must survive all of it."""
import pytest

import ports
from daemon import Ringpost
from sink import CLOSE, EXTENSIONS, STALL, Sink

BODY = b"Subject: hi\r\n\r\nhello\r\n"


def route(*targets):
    return [{"domain": "*", "to": list(targets) if len(targets) > 1 else targets[0]}]


def send(relay, count=1, recipients=("one@example.test",)):
    with relay.connect() as client:
        client.greet()
        for _ in range(count):
            reply = client.mail(recipients=recipients, body=BODY)
            assert reply[0] == 250, reply


def faulty(phase, fault, **more):
    """A sink with a fault. To have one in DATA it must not offer BDAT."""
    offered = tuple(e for e in EXTENSIONS if e != "CHUNKING" or phase != "data")
    return Sink(extensions=offered, faults={phase: fault}, **more)


def once(what):
    """A fault that happens the first time only."""
    left = [what]
    return lambda session, argument: left.pop() if left else None


def arrived(sink):
    """The recipients of each mail that came, but for reports to senders."""
    return [mail.recipients for mail in sink.mails if mail.sender]


def wait_empty(relay):
    relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")


def test_a_host_that_is_away_gets_its_mail_when_it_is_back(folder):
    port = ports.free_port()
    with Ringpost(folder / "relay", routes=route(f"smtp://{ports.address()}:{port}")) as relay:
        send(relay, 5)
        outcome = relay.log.wait("delivery")
        assert outcome["result"] == "deferred" and "retry_at" in outcome, outcome
        with Sink(port=port) as sink:
            sink.wait(5)
            relay.log.wait("delivery", result="delivered")
            wait_empty(relay)
            assert len(sink.mails) == 5


@pytest.mark.parametrize("phase", ["connect", "ehlo", "mail", "rcpt", "data", "final"])
@pytest.mark.parametrize("fault", ["450 4.2.0 later", "421 4.3.2 going down", CLOSE],
                         ids=["450", "421", "close"])
def test_a_temporary_failure_is_tried_again(folder, phase, fault):
    with faulty(phase, once(fault)) as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        send(relay)
        sink.wait(1)
        outcome = relay.log.wait("delivery", result="delivered")
        assert outcome["attempts"] == 2
        wait_empty(relay)
        assert len(sink.mails) == 1


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "final"])
def test_a_refused_recipient_has_failed_and_is_over(folder, phase):
    with faulty(phase, "550 5.1.1 nobody here") as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        send(relay)
        outcome = relay.log.wait("delivery")
        assert (outcome["result"], outcome["code"], outcome["enhanced"]) == ("failed", 550, "5.1.1")
        assert "nobody here" in outcome["reply"]
        wait_empty(relay)
        relay.stop()
        relay.start()
        wait_empty(relay)
        assert len(sink.mails) == 0


@pytest.mark.parametrize("phase, option", [
    ("connect", "greeting"), ("ehlo", "hello"), ("mail", "mail"), ("rcpt", "recipient"),
    ("data", "data"), ("final", "end")])
def test_a_stalled_host_is_left_after_its_timeout(folder, phase, option):
    changes = {"timeouts": {"send": {option: "1s"}}}
    with faulty(phase, once(STALL)) as sink, \
            Ringpost(folder / "relay", changes, route(sink.url)) as relay:
        send(relay)
        sink.wait_for(lambda s: s.stalled)
        outcome = relay.log.wait("delivery")
        assert outcome["result"] == "deferred", outcome
        sink.wait(1)
        relay.log.wait("delivery", result="delivered")


def test_a_stalled_destination_holds_nothing_of_another(folder):
    with Sink(faults={"final": STALL}) as stalled, Sink() as healthy:
        routes = [{"domain": "stalled.test", "to": stalled.url, "connections": 2},
                  {"domain": "*", "to": healthy.url}]
        with Ringpost(folder / "relay", {"timeouts": {"drain": "1s"}}, routes) as relay:
            send(relay, 50, recipients=("one@stalled.test",))
            stalled.wait_for(lambda s: len(s.stalled) == 2)
            send(relay, 50, recipients=("one@example.test",))
            healthy.wait(50)
            assert len(stalled.sessions) == 2, "the limit of connections was not kept"


@pytest.mark.parametrize("workers", [2, 4, 64])
@pytest.mark.parametrize("limit", [1, 6])
def test_the_limit_of_a_destination_holds_over_workers(folder, workers, limit):
    """Small limits are kept by handing mail over to one worker, larger ones by slots."""
    with Sink(faults={"final": STALL}) as stalled, Sink() as healthy:
        routes = [{"domain": "stalled.test", "to": stalled.url, "connections": limit},
                  {"domain": "*", "to": healthy.url, "connections": limit}]
        changes = {"workers": workers, "timeouts": {"drain": "1s"}}
        with Ringpost(folder / "relay", changes, routes) as relay:
            for _ in range(20):
                send(relay, 5, recipients=("one@stalled.test",))
            stalled.wait_for(lambda s: len(s.stalled) == limit)
            for _ in range(20):
                send(relay, 5)
            healthy.wait(100)
            assert len(stalled.sessions) == limit


def test_a_reload_changes_the_limit_of_a_destination(folder):
    with Sink(faults={"final": STALL}) as sink:
        routes = [{"domain": "*", "to": sink.url, "connections": 2}]
        with Ringpost(folder / "relay", {"timeouts": {"drain": "1s"}}, routes) as relay:
            send(relay, 20)
            sink.wait_for(lambda s: len(s.stalled) == 2)
            relay.change({"routes": [{**routes[0], "connections": 12}]})
            relay.reload()
            sink.wait_for(lambda s: len(s.stalled) == 12)
            assert len(sink.sessions) == 12


@pytest.mark.parametrize("first", ["refused", "close", "421"])
def test_the_next_host_is_tried_at_once(folder, first):
    faults = {"connect": {"close": CLOSE, "421": "421 4.3.2 no", "refused": None}[first]}
    with Sink(faults=faults) as bad, Sink() as good:
        target = bad.url if first != "refused" else f"smtp://{ports.address()}:{ports.free_port()}"
        changes = {"retry": {"schedule": ["1h"]}}  # a deferral would show as a test that never ends
        with Ringpost(folder / "relay", changes, route(target, good.url)) as relay:
            send(relay, 10)
            good.wait(10)
            wait_empty(relay)


def test_each_recipient_has_an_outcome_of_its_own(folder):
    answers = {"gone": "550 5.1.1 gone", "later": "450 4.2.1 full"}

    def rcpt(session, argument):
        user = argument.split("<")[1].split("@")[0]
        return answers.pop(user, None) if user == "later" else answers.get(user)
    recipients = ("ok@example.test", "gone@example.test", "later@example.test")
    with Sink(faults={"rcpt": rcpt}) as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        send(relay, recipients=recipients)
        relay.log.wait("delivery", result="delivered", recipient="later@example.test")
        assert arrived(sink) == [["ok@example.test"], ["later@example.test"]]
        events = [e for e in relay.log.events("delivery") if e["sender"]]
        results = [(e["recipient"].split("@")[0], e["result"]) for e in events]
        assert sorted(results) == [("gone", "failed"), ("later", "deferred"),
                                   ("later", "delivered"), ("ok", "delivered")]


def test_lmtp_answers_for_each_recipient(folder):
    final = once("250 2.0.0 ok\r\n550 5.2.2 full\r\n451 4.3.0 later")
    with Sink(lmtp=True, faults={"final": final}) as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        send(relay, recipients=tuple(f"r{n}@example.test" for n in range(3)))
        relay.log.wait("delivery", result="delivered", recipient="r2@example.test")
        assert arrived(sink) == [["r2@example.test"]]
        results = {(e["recipient"][:2], e["result"])
                   for e in relay.log.events("delivery") if e["sender"]}
        assert results == {("r0", "delivered"), ("r1", "failed"), ("r2", "deferred"),
                           ("r2", "delivered")}


def test_connections_are_reused(relay, sink):
    send(relay, 200)
    sink.wait(200)
    assert len(sink.sessions) <= 20
    metrics = relay.metrics()
    assert metrics.sum("ringpost_destination_connections_reused_total") >= 180


def test_an_old_peer_without_ehlo(folder):
    with Sink(faults={"ehlo": "502 5.5.1 what"}) as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        send(relay)
        sink.wait(1)
        verbs = [line.split()[0] for _, line in sink.sessions[0].commands]
        assert verbs[:2] == ["EHLO", "HELO"]


def test_a_mail_larger_than_the_peer_takes_fails(folder):
    with Sink(extensions=("SIZE 100",)) as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        with relay.connect() as client:
            client.greet()
            assert client.mail(body=b"\r\n" + b"x" * 500 + b"\r\n")[0] == 250
        outcome = relay.log.wait("delivery")
        assert (outcome["result"], outcome["enhanced"]) == ("failed", "5.3.4"), outcome


def test_discard_is_an_outcome(folder):
    with Ringpost(folder / "relay", routes=route("discard")) as relay:
        send(relay)
        assert relay.log.wait("delivery")["result"] == "discarded"
        wait_empty(relay)


@pytest.mark.smoke
def test_mail_survives_a_planned_stop(folder):
    port = ports.free_port()
    with Ringpost(folder / "relay", routes=route(f"smtp://{ports.address()}:{port}")) as relay:
        send(relay, 20)
    with Sink(port=port) as sink, relay:
        sink.wait(20)
        wait_empty(relay)
        assert len(sink.mails) == 20
