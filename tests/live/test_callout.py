# SPDX-License-Identifier: Apache-2.0
"""Recipients of our own domains are known before 250: by asking the next hop."""
import collections

import pytest

import peers
import ports
from daemon import Ringpost
from sink import CLOSE, EXTENSIONS, STALL, Sink

BODY = b"Subject: hi\r\n\r\nhello\r\n"
PHASES = ("connect", "ehlo", "mail", "rcpt")


def answers(session, argument):
    """By the local part, what a mailbox server might say."""
    local = argument.partition("<")[2].partition("@")[0]
    return {"unknown": "550 5.1.1 who is that?", "full": "452 4.2.2 mailbox full",
            "later": "451 4.7.1 greylisted", "stall": STALL, "close": CLOSE}.get(
                local.rstrip("0123456789"))


def relay_to(folder, target, workers=1, **callout):
    config = {"workers": workers, "limits": {"errors_max": 1000},
              "relay": {"networks": ["10.0.0.0/8"], "callout": {"deadline": "2s", **callout},
                        "domains": [{"name": "example.test", "recipients": "callout"}]}}
    return Ringpost(folder / "relay", config, [{"domain": "*", "to": target}])


def begin(client):
    client.greet()
    assert client.command("MAIL FROM:<a@client.test>")[0] == 250


def ask(client, local):
    code, text = client.command(f"RCPT TO:<{local}@example.test>")
    return code, text


def verbs(session):
    return [line for _, line in session.commands]


@pytest.mark.smoke
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_the_next_hop_is_asked(folder, lmtp):
    with Sink(lmtp=lmtp, faults={"rcpt": answers}) as sink, relay_to(folder, sink.url) as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann") == (250, "2.1.5 recipient ok")
            assert ask(client, "unknown") == (
                550, "5.1.1 no such recipient; the next hop says: 550 5.1.1 who is that?")
            code, text = ask(client, "later")
            assert (code, text[:5]) == (451, "4.4.3"), text
            assert "greylisted" in text
            # Known by now; postmaster is never asked for.
            assert ask(client, "ann")[0] == 250
            assert ask(client, "unknown")[0] == 550
            assert ask(client, "postmaster")[0] == 250
            assert client.command("DATA")[0] == 354
            client.write(BODY + b".\r\n")
            assert client.reply()[0] == 250
        mail = sink.wait(1)[0]
        assert sorted(mail.recipients) == ["ann@example.test"] * 2 + ["postmaster@example.test"]
        asked = verbs(sink.sessions[0])
        assert asked[:3] == [("LHLO" if lmtp else "EHLO") + " relay.test",
                             "MAIL FROM:<> SMTPUTF8", "RCPT TO:<ann@example.test>"], asked
        assert not any(line.startswith("DATA") for line in asked)
        assert collections.Counter(asked)["RCPT TO:<ann@example.test>"] == 1
        refused = relay.log.wait("command_refused")
        assert (refused["code"], "who is that?" in refused["reply"]) == (550, True), refused
        metrics = relay.metrics()
        for answer in ("known", "unknown", "failed"):
            assert metrics.sum("ringpost_callouts_total", answer=answer) == 1, answer
        assert metrics.sum("ringpost_callout_cache_hits_total") == 2
        assert metrics.sum("ringpost_callout_connections_total") == 1
        assert metrics.sum("ringpost_callouts_open") == 0


def test_questions_are_pipelined_and_joined(folder):
    """Many sessions ask at once: one connection, one question for each recipient."""
    with Sink(faults={"rcpt": answers}) as sink, relay_to(folder, sink.url) as relay:
        clients = [relay.connect() for _ in range(60)]
        for client in clients:
            begin(client)
        for number, client in enumerate(clients):
            client.write(f"RCPT TO:<u{number % 20}@example.test>\r\n")
        for client in clients:
            assert client.reply()[0] == 250
            client.close()
        asked = [line for line in verbs(sink.sessions[0]) if line.startswith("RCPT")]
        assert len(sink.sessions) == 1 and len(asked) == len(set(asked)) == 20, asked
        metrics = relay.metrics()
        assert metrics.sum("ringpost_callouts_total", answer="known") == 20
        assert (metrics.sum("ringpost_callouts_joined_total")
                + metrics.sum("ringpost_callout_cache_hits_total")) == 40


def test_many_unknown_do_not_annoy_the_next_hop(folder):
    """Postfix slows down after ten errors: a connection asks for nine unknown recipients."""
    with Sink(faults={"rcpt": answers}) as sink, relay_to(folder, sink.url) as relay:
        with relay.connect() as client:
            begin(client)
            client.write("".join(f"RCPT TO:<unknown{n}@example.test>\r\n" for n in range(15)))
            for _ in range(15):
                assert client.reply()[0] == 550
        refusals = [sum(line.startswith("RCPT") for line in verbs(s)) for s in sink.sessions]
        assert refusals == [9, 6], refusals


def test_a_connection_is_kept_and_comes_back(folder):
    with Sink(faults={"rcpt": answers}) as sink, relay_to(folder, sink.url, idle="1s") as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "a")[0] == ask(client, "b")[0] == 250
            assert len(sink.sessions) == 1
            relay.wait_metric(lambda m: m.sum("ringpost_connections_closed_total",
                                              reason="idle") == 1, "the end of the idle one")
            assert ask(client, "c")[0] == 250
        assert len(sink.sessions) == 2


def test_an_idle_connection_that_the_next_hop_closed_is_no_failure(folder):
    """It says 421 or nothing and is gone; the question goes over a new one."""
    def second_mail_closes(session, argument):
        mails = sum(line.startswith("MAIL") for line in verbs(session))
        return CLOSE if mails == 2 else None

    with Sink(faults={"mail": second_mail_closes}) as sink, relay_to(folder, sink.url) as relay:
        with relay.connect() as client:
            begin(client)
            assert [ask(client, local)[0] for local in "abcd"] == [250] * 4
        assert len(sink.sessions) == 4
        assert relay.metrics().sum("ringpost_callouts_total", answer="failed") == 0


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", ["450 4.2.0 later", "421 4.3.2 going down", CLOSE, STALL],
                         ids=["450", "421", "close", "stall"])
@pytest.mark.parametrize("failure", ["defer", "accept"])
def test_what_cannot_be_asked_is_put_off(folder, phase, fault, failure):
    offered = ("PIPELINING",) if failure == "defer" else ()
    with Sink(faults={phase: fault}, extensions=offered) as sink, \
            relay_to(folder, sink.url, failure=failure) as relay:
        with relay.connect() as client:
            begin(client)
            code, text = ask(client, "ann")
            if failure == "accept":
                assert code == 250
            else:
                assert (code, text[:5]) == (451, "4.4.3"), text
            # It heals when the next hop does, at the latest after the pause.
            if failure == "defer" and fault == "450 4.2.0 later":
                sink.faults.clear()
                relay.wait_metric(lambda m: ask(client, "ann")[0] == 250, "the next hop's return")
        assert relay.metrics().sum("ringpost_callouts_total", answer="failed") >= 1
        if phase != "rcpt" or fault in (CLOSE, STALL):
            assert relay.log.wait("callout_failed")["destination"] == sink.url


def test_a_refused_mail_is_no_unknown_recipient(folder):
    with Sink(faults={"mail": "550 5.7.1 not from <>"}) as sink, \
            relay_to(folder, sink.url) as relay:
        with relay.connect() as client:
            begin(client)
            code, text = ask(client, "ann")
            assert (code, "not from <>" in text) == (451, True), text


def test_the_sender_of_the_question(folder):
    with Sink() as sink, relay_to(folder, sink.url, sender="verify@relay.test") as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann")[0] == 250
        assert verbs(sink.sessions[0])[1] == "MAIL FROM:<verify@relay.test> SMTPUTF8"


def test_a_host_that_is_away_is_left_for_the_next_one(folder):
    away = f"smtp://{ports.address()}:{ports.free_port()}"
    with Sink(faults={"rcpt": answers}) as sink, relay_to(folder, [away, sink.url]) as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann")[0] == 250
            assert ask(client, "unknown")[0] == 550
        event = relay.log.wait("callout_failed")
        assert event["error"] == "connection refused", event
    with relay_to(folder / "alone", away) as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann") == (
                451, "4.4.3 recipient cannot be verified now, try again later; connection refused")
            # For a while nobody waits for it.
            assert ask(client, "bob")[0] == 451
        assert relay.metrics().sum("ringpost_callout_connections_total") == 1


def test_bounds(folder):
    with Sink(faults={"rcpt": answers}) as sink, \
            relay_to(folder, sink.url, questions_max=2, answers_max=64) as relay:
        clients = [relay.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            begin(client)
            if number < 2:
                client.write(f"RCPT TO:<stall{number}@example.test>\r\n")
        relay.wait_metric(lambda m: m.sum("ringpost_callouts_open") == 2, "two open questions")
        code, text = ask(clients[2], "ann")
        assert (code, "too many questions" in text) == (451, True), text
        # Joining one that is open takes no room.
        clients[3].write("RCPT TO:<stall0@example.test>\r\n")
        assert [clients[n].reply()[0] for n in (0, 1, 3)] == [451] * 3
        metrics = relay.metrics()
        assert metrics.sum("ringpost_limit_hits_total", limit="callouts") == 1
        assert metrics.sum("ringpost_timeouts_total", phase="callout") >= 1
        for client in clients:
            client.close()
    with Sink(faults={"rcpt": answers}) as sink, \
            relay_to(folder / "many", sink.url, answers_max=64) as relay:
        with relay.connect() as client:
            begin(client)
            client.write("".join(f"RCPT TO:<u{n}@example.test>\r\n" for n in range(200)))
            assert all(client.reply()[0] == 250 for _ in range(200))
        assert relay.metrics().sum("ringpost_callout_answers") <= 64


def test_waiting_costs_nothing(folder):
    """More questions than a connection takes at a time, and no answer: no worker turns for that."""
    with Sink(faults={"rcpt": answers}) as sink, relay_to(folder, sink.url) as relay:
        clients = [relay.connect() for _ in range(60)]
        for number, client in enumerate(clients):
            begin(client)
            client.write(f"RCPT TO:<stall{number}@example.test>\r\n")
        sink.wait_for(lambda s: s.stalled)
        before = relay.metrics().sum("ringpost_worker_turns_total")
        for client in clients:
            assert client.reply()[0] == 451
            client.close()
        turns = relay.metrics().sum("ringpost_worker_turns_total") - before
        assert turns < 5000, turns


def test_clients_go_away_while_it_is_asked(folder):
    with Sink(faults={"rcpt": answers}) as sink, relay_to(folder, sink.url) as relay:
        for number in range(20):
            with relay.connect() as client:
                begin(client)
                client.write(f"RCPT TO:<stall{number % 3}@example.test>\r\nDATA\r\n")
        sink.wait_for(lambda s: s.stalled)
        relay.wait_metric(lambda m: m.sum("ringpost_callouts_open") == 0, "the deadline")
        with relay.connect() as client:
            begin(client)
        # And the relay ends while one is open.
        with relay.connect() as client:
            begin(client)
            client.write("RCPT TO:<stall9@example.test>\r\n")
            relay.process.terminate()
            assert client.reply()[0] in (451, 421)
        assert relay.process.wait(60) == 0


def test_a_drain_says_goodbye(folder):
    with Sink() as sink, relay_to(folder, sink.url) as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann")[0] == 250
        relay.stop()
        assert verbs(sink.sessions[0])[-2:] == ["RSET", "QUIT"]


def test_a_drain_does_not_wait_for_a_stalled_question(folder):
    config = {"timeouts": {"drain": "1s"}}
    with Sink(faults={"rcpt": answers}) as sink:
        relay = relay_to(folder, sink.url, deadline="4m")
        relay.change(config)
        with relay:
            with relay.connect() as client:
                begin(client)
                client.write("RCPT TO:<stall@example.test>\r\n")
                sink.wait_for(lambda s: s.stalled)
                relay.process.terminate()
                assert client.reply()[0] == 421
            assert relay.process.wait(60) == 0


def test_a_reload_changes_who_is_asked(folder):
    with Sink(faults={"rcpt": answers}) as first, \
            Sink(faults={"rcpt": "550 5.1.1 nobody"}) as second, \
            relay_to(folder, first.url, workers=2) as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann")[0] == 250
            relay.change({"routes": [{"domain": "*", "to": second.url}]})
            relay.reload()
            relay.log.wait("config_loaded", file=str(relay.config_path))
            # The answer of the one before does not count, not even in this session.
            assert ask(client, "ann")[0] == 550


def test_postfix_is_asked(folder):
    with peers.Postfix(users=["ann@example.test"]) as postfix, \
            relay_to(folder, postfix.url, deadline="20s") as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann")[0] == 250
            for number in range(25):
                code, text = ask(client, f"nobody{number}")
                assert (code, text[:5]) == (550, "5.1.1"), text


def test_dovecot_is_asked(folder):
    with peers.Dovecot(users=["ann@example.test"]) as dovecot, \
            relay_to(folder, dovecot.url, deadline="20s") as relay:
        with relay.connect() as client:
            begin(client)
            assert ask(client, "ann")[0] == 250
            code, text = ask(client, "nobody")
            assert (code, text[:5]) == (550, "5.1.1"), text


def test_a_next_hop_by_name_is_asked(folder):
    """Its addresses come from the hosts file; the first one is away."""
    with Sink(faults={"rcpt": answers}) as sink:
        hosts = folder / "hosts"
        hosts.write_text(f"127.77.77.77 mailbox.test\n{sink.host} mailbox.test\n")
        relay = relay_to(folder, f"smtp://mailbox.test:{sink.port}")
        relay.change({"dns": {"hosts_file": str(hosts), "forwarders": ["127.0.0.1@9"]}})
        with relay:
            with relay.connect() as client:
                begin(client)
                assert ask(client, "ann")[0] == 250
                assert ask(client, "unknown")[0] == 550
    with Sink(faults={"rcpt": answers}) as sink:
        relay = relay_to(folder / "nameless", f"smtp://nobody.invalid:{sink.port}")
        relay.change({"dns": {"hosts_file": str(hosts), "forwarders": ["127.0.0.1@9"]}})
        with relay:
            with relay.connect() as client:
                begin(client)
                code, text = ask(client, "ann")
                assert (code, text[:5]) == (451, "4.4.3"), text
