# SPDX-License-Identifier: Apache-2.0
"""SPF, the client's name, and Authentication-Results: clients of any address, by the PROXY
protocol, and records in a signed tree of zones."""
import contextlib
import email
import socket
import time

import pytest

import peers
import ports
from daemon import EXIT_CONFIG, Client, Ringpost
from dns_tree import SERVFAIL, SILENT, Front, Tree

GOOD, BAD, SIX = "192.0.2.1", "203.0.113.9", "2001:db8::7"
ZONE = """
@ TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all exp=why.good.test"
why TXT "%{i} is not ours; ask %{s}"
soft TXT "v=spf1 ~all"
neutral TXT "v=spf1 ?all"
broken TXT "v=spf1 bogus:x -all"
none A 192.0.2.99
mail TXT "v=spf1 a -all"
mail A 192.0.2.1
mail AAAA 2001:db8::7
other A 192.0.2.44
local TXT "v=spf1 exists:%{l}.yes.good.test -all"
joe.yes A 127.0.0.2
"""


@pytest.fixture(scope="module")
def tree():
    with Tree(peers.open_folder("spf") / "tree") as running:
        running.zone("good.test", ZONE)
        running.zone("plain.test", '@ TXT "v=spf1 ip4:192.0.2.1 -all"', signed=False)
        running.zone("bogus.test", '@ TXT "v=spf1 +all"',
                     damage=lambda text: text.replace("+all", "?all"))
        running.zone("fails.test", "", signed=False, fails=True)
        running.zone("slow.test", '@ TXT "v=spf1 include:a.slow.test -all"\na TXT "v=spf1 +all"')
        running.zone("2.0.192.in-addr.arpa", "1 PTR other.good.test.\n1 PTR mail.good.test.\n"
                     "2 PTR other.good.test.\n3 PTR x.fails.test.\n")
        running.zone("8.b.d.0.1.0.0.2.ip6.arpa",
                     "7" + ".0" * 23 + " PTR mail.good.test.", signed=False)
        running.zone("113.0.203.in-addr.arpa", "8 PTR x.slow.test.", signed=False)
        running.publish()
        yield running


@contextlib.contextmanager
def relay_of(folder, names, sink, *listeners, config=None, **spf):
    """A relay behind a proxy; each of `listeners` is the group spf of one more listener, which is
    found by relay.ports."""
    base = {"dns": names.options, "hostname": "mx.relay.test",
            "relay": {"networks": ["198.51.100.0/24"]}, **(config or {})}
    running = Ringpost(folder / "relay", base, routes=[{"domain": "*", "to": sink.url}])
    running.config["workers"] = 1  # what one client asked the DNS for another finds
    running.ports = [running.port] + [ports.free_port() for _ in listeners]
    running.config["listeners"] = [
        {"address": f"{running.host}:{port}", "role": "relay", "proxy_from": ["127.0.0.0/8"],
         "spf": options} for port, options in zip(running.ports, (spf, *listeners))]
    running.write_config()
    with running:
        yield running


def connect(relay, source=GOOD, helo="client.test", port=None, local=False):
    client = Client.__new__(Client)
    client.socket = socket.create_connection((relay.host, port or relay.port), 30)
    client.file = client.socket.makefile("rb")
    family = "TCP6" if ":" in source else "TCP4"
    target = "2001:db8::99" if ":" in source else "192.0.2.99"
    client.write("PROXY UNKNOWN\r\n" if local else
                 f"PROXY {family} {source} {target} 4000 25\r\n")
    client.greet(helo)
    return client


def send(relay, sender, source=GOOD, body=b"Subject: x\r\n\r\nhi\r\n", **how):
    with connect(relay, source, **how) as client:
        return client.mail(sender=sender, body=body)


class Header:
    """That of the last mail of a sink, which has `count`."""

    def __init__(self, sink, count):
        self.content = sink.wait(count)[-1].content
        self.message = email.message_from_bytes(self.content)
        self.names = [name for name, _ in self.message.items()]

    def all(self, name):
        return [" ".join(value.split()) for value in self.message.get_all(name, [])]

    @property
    def results(self):
        found = self.all("Authentication-Results")
        return found[0] if found else None


@pytest.mark.parametrize("sender, source, result, event", [
    ("joe@good.test", GOOD, "spf=pass (good.test: ip4:192.0.2.0/24) smtp.mailfrom=joe@good.test",
     {"result": "pass", "mechanism": "ip4:192.0.2.0/24", "dnssec": "secure", "lookups": 0}),
    ("joe@good.test", SIX, "spf=pass (good.test: ip6:2001:db8::/32) smtp.mailfrom=joe@good.test",
     {"result": "pass"}),
    ("joe@plain.test", GOOD, "spf=pass (plain.test: ip4:192.0.2.1) smtp.mailfrom=joe@plain.test",
     {"result": "pass", "dnssec": "insecure"}),
    ("joe@mail.good.test", GOOD,
     "spf=pass (mail.good.test: a) smtp.mailfrom=joe@mail.good.test",
     {"result": "pass", "lookups": 1, "record": "mail.good.test"}),
    ("joe@soft.good.test", BAD,
     "spf=softfail (soft.good.test: ~all) smtp.mailfrom=joe@soft.good.test",
     {"result": "softfail", "action": "mark"}),
    ("joe@neutral.good.test", BAD,
     "spf=neutral (neutral.good.test: ?all) smtp.mailfrom=joe@neutral.good.test",
     {"result": "neutral"}),
    ("joe@none.good.test", BAD, None, {"result": "none", "identity": "mailfrom"}),
    ("joe@broken.good.test", BAD, None, {"result": "permerror", "action": "mark"}),
    ("joe@local.good.test", BAD,
     "spf=pass (local.good.test: exists:%{l}.yes.good.test) smtp.mailfrom=joe@local.good.test",
     {"result": "pass"}),
])
def test_results_are_marked(folder, tree, sink, sender, source, result, event):
    with relay_of(folder, tree, sink, iprev=False) as relay:
        assert send(relay, sender, source)[0] == 250
        header = Header(sink, 1)
        if result:
            assert header.results == f"mx.relay.test; {result}"
        else:
            assert header.results.startswith(f"mx.relay.test; spf={event['result']} reason=\"")
            assert header.results.endswith(f"smtp.mailfrom={sender}")
        assert header.names[:2] == ["Authentication-Results", "Received"]
        told = relay.log.wait("spf", sender=sender)
        assert {key: told[key] for key in event} == event, told
        received = relay.log.wait("received", spf=event["result"])
        assert received["id"] == told["id"]
        assert relay.metrics().sum("ringpost_spf_results_total", result=event["result"]) == 1
        assert relay.metrics().sum("ringpost_spf_seconds_count") == 1


def test_fail_is_refused_in_the_words_of_the_domain(folder, tree, sink):
    with relay_of(folder, tree, sink) as relay:
        with connect(relay, BAD) as client:
            # The client need not wait; what is behind is answered in its turn.
            client.write("MAIL FROM:<joe@good.test>\r\nRCPT TO:<u@example.test>\r\nDATA\r\n")
            assert client.reply() == (550, (
                f"5.7.23 SPF fail: {BAD} may not send mail of good.test\n"
                f"5.7.23 good.test explains: {BAD} is not ours; ask joe@good.test"))
            assert client.reply()[0] == 503
            assert client.reply()[0] == 503
            assert client.mail(sender="joe@soft.good.test")[0] == 250
        refused = relay.log.wait("command_refused")
        assert refused["code"] == 550 and refused["command"] == "MAIL FROM:<joe@good.test>"
        told = relay.log.events("spf")[0]  # ahead of that
        assert told["action"] == "refuse" and told["mechanism"] == "-all"
        assert told["explanation"].startswith(BAD)
        assert len(sink.wait(1)) == 1


def test_temporary_errors_defer(folder, tree, sink):
    with relay_of(folder, tree, sink) as relay:
        for domain in ("fails.test", "bogus.test"):
            code, text = send(relay, f"joe@{domain}")
            assert code == 451 and text.startswith(f"4.7.24 SPF temperror of {domain}\n4.7.24 ")
            assert relay.log.wait("spf", domain=domain)["action"] == "defer"


def test_each_result_has_its_action(folder, tree, sink):
    names = {"pass": ("joe@good.test", GOOD), "fail": ("joe@good.test", BAD),
             "softfail": ("joe@soft.good.test", BAD), "neutral": ("joe@neutral.good.test", BAD),
             "none": ("joe@none.good.test", BAD), "permerror": ("joe@broken.good.test", BAD),
             "temperror": ("joe@fails.test", BAD)}
    replies = {"refuse": {"fail": (550, "5.7.23"), "softfail": (550, "5.7.23"),
                          "permerror": (550, "5.7.24"), "temperror": (550, "5.7.24")},
               "defer": {"fail": (451, "4.7.23"), "softfail": (451, "4.7.23"),
                         "permerror": (451, "4.7.24"), "temperror": (451, "4.7.24")}}
    default = {"refuse": (550, "5.7.1"), "defer": (451, "4.7.1")}
    actions = ["accept", "mark", "refuse", "defer"]
    listeners = [{**{result: action for result in names}, "iprev": False} for action in actions]
    with relay_of(folder, tree, sink, *listeners) as relay:
        taken = 0
        for action, port in zip(actions, relay.ports[1:]):
            for result, (sender, source) in names.items():
                code, text = send(relay, sender, source, port=port)
                event = relay.log.wait("spf")
                assert (event["result"], event["action"]) == (result, action)
                if action in default:
                    wanted = replies[action].get(result, default[action])
                    assert (code, text.split()[0]) == wanted, (action, result, text)
                    continue
                taken += 1
                results = Header(sink, taken).results
                assert code == 250
                assert (results is None) == (action == "accept"), results


def test_at_rcpt(folder, tree, sink):
    with relay_of(folder, tree, sink, at="rcpt") as relay:
        with connect(relay, BAD) as client:
            assert client.command("MAIL FROM:<joe@good.test>")[0] == 250
            assert client.command("RCPT TO:<u@elsewhere.test>")[1].startswith("5.7.1 relaying")
            assert not relay.log.events("spf")
            for _ in range(2):
                code, text = client.command("RCPT TO:<u@example.test>")
                assert code == 550 and text.startswith("5.7.23 SPF fail")
                assert text.endswith("ask joe@good.test")
            assert client.command("RCPT TO:<postmaster>")[0] == 550
            assert client.command("DATA")[0] == 554
            # Another mail of the session, pipelined.
            client.write("RSET\r\nMAIL FROM:<joe@soft.good.test>\r\nRCPT TO:<postmaster>\r\n"
                         "RCPT TO:<u@example.test>\r\nDATA\r\n")
            assert [client.reply()[0] for _ in range(5)] == [250, 250, 250, 250, 354]
            client.write("\r\nhi\r\n.\r\n")
            assert client.reply()[0] == 250
        assert "spf=softfail" in Header(sink, 1).results
        assert relay.log.wait("command_refused", code=550)["command"] == "RCPT TO:<u@example.test>"
        assert relay.log.wait("received", spf="softfail")
        assert len(relay.log.events("spf")) == 2


def test_null_senders_are_checked_by_their_helo(folder, tree, sink):
    with relay_of(folder, tree, sink, iprev=False) as relay:
        assert send(relay, "", helo="mail.good.test")[0] == 250
        assert Header(sink, 1).results == \
            "mx.relay.test; spf=pass (mail.good.test: a) smtp.helo=mail.good.test"
        code, text = send(relay, "", BAD, helo="mail.good.test")
        assert code == 550
        assert text.startswith(f"5.7.23 SPF fail: {BAD} may not call itself mail.good.test")
        # The same with a sender of its own.
        assert send(relay, "joe@soft.good.test", BAD, helo="mail.good.test")[0] == 250
        assert [relay.log.wait("spf")["identity"] for _ in range(3)] == \
            ["helo", "helo", "mailfrom"]


def test_helo_always(folder, tree, sink):
    with relay_of(folder, tree, sink, {"helo": "always", "iprev": False, "received_spf": True},
                  helo="always", fail="mark", iprev=False) as relay:
        assert send(relay, "joe@soft.good.test", BAD, helo="mail.good.test")[0] == 250
        assert Header(sink, 1).results == (
            "mx.relay.test; spf=fail (mail.good.test: -all) smtp.helo=mail.good.test; "
            "spf=softfail (soft.good.test: ~all) smtp.mailfrom=joe@soft.good.test")
        strict = relay.ports[1]
        code, text = send(relay, "joe@soft.good.test", BAD, helo="mail.good.test", port=strict)
        assert code == 550 and "may not call itself mail.good.test" in text
        # What is uncertain about the name alone is no reason.
        assert send(relay, "joe@good.test", helo="fails.test", port=strict)[0] == 250
        header = Header(sink, 2)
        assert "spf=temperror" in header.results and "spf=pass" in header.results
        fields = header.all("Received-SPF")
        assert fields[0].startswith("temperror receiver=mx.relay.test; client-ip=192.0.2.1; "
                                    'envelope-from="joe@good.test"; helo=fails.test; identity=helo')
        assert fields[1] == ('pass (good.test: ip4:192.0.2.0/24) receiver=mx.relay.test; '
                             'client-ip=192.0.2.1; envelope-from="joe@good.test"; '
                             'helo=fails.test; identity=mailfrom; mechanism="ip4:192.0.2.0/24"')
        assert header.names[:4] == ["Authentication-Results", "Received-SPF", "Received-SPF",
                                    "Received"]


@pytest.mark.parametrize("source, result, received", [
    (GOOD, "iprev=pass (mail.good.test) policy.iprev=192.0.2.1", "(mail.good.test [192.0.2.1])"),
    (SIX, 'iprev=pass (mail.good.test) policy.iprev="2001:db8::7"',
     "(mail.good.test [IPv6:2001:db8::7])"),
    ("192.0.2.2", "iprev=fail policy.iprev=192.0.2.2", "(unknown [192.0.2.2])"),
    ("192.0.2.3", "iprev=temperror policy.iprev=192.0.2.3", "(unknown [192.0.2.3])"),
    ("192.0.2.4", "iprev=permerror policy.iprev=192.0.2.4", "(unknown [192.0.2.4])"),
])
def test_names_of_clients(folder, tree, sink, source, result, received):
    with relay_of(folder, tree, sink) as relay:
        for n in (1, 2):  # asked for, and known
            assert send(relay, "joe@good.test", source)[0] == 250
            header = Header(sink, n)
            assert header.results.endswith(f"smtp.mailfrom=joe@good.test; {result}")
            assert received in header.all("Received")[0]
        label = result.split()[0].split("=")[1]
        assert relay.metrics().sum("ringpost_iprev_results_total", result=label) == 2
        assert relay.log.wait("received").get("client") == \
            ("mail.good.test" if label == "pass" else None)


FORGED = (b"Authentication-Results: mx.relay.test; spf=pass\r\n"
          b"Authentication-Results: other.test; spf=pass\r\n"
          b"authentication-results :\r\n\t(x (y) z) \"MX.relay.test\"\r\n 1; dkim=pass\r\n"
          b" header.d=x\r\n"
          b"Subject: x\r\n")


@pytest.mark.parametrize("source", [GOOD, "127.0.0.1", "198.51.100.7"])
def test_forged_results_are_taken_out(folder, tree, sink, source):
    with relay_of(folder, tree, sink) as relay:
        assert send(relay, "joe@good.test", source, FORGED + b"\r\n" + FORGED)[0] == 250
        header = Header(sink, 1)
        assert header.all("Authentication-Results")[-1] == "other.test; spf=pass"
        assert len(header.all("Authentication-Results")) == (2 if source == GOOD else 1)
        assert header.content.endswith(b"\r\n\r\n" + FORGED)
        assert b"header.d=x" not in header.content.split(b"\r\n\r\n")[0]
        assert relay.metrics().sum("ringpost_authentication_results_removed_total") == 2


def test_other_names_of_ours_and_those_who_share_it(folder, tree, sink):
    config = {"authserv_id": "example.test", "authserv_trusted": [SIX]}
    with relay_of(folder, tree, sink, config=config) as relay:
        field = b"Authentication-Results: example.test; spf=pass\r\n\r\n"
        assert send(relay, "joe@good.test", GOOD, field)[0] == 250
        assert len(Header(sink, 1).all("Authentication-Results")) == 1
        assert Header(sink, 1).results.startswith("example.test; spf=pass (good.test")
        assert send(relay, "joe@good.test", SIX, field)[0] == 250
        assert Header(sink, 2).all("Authentication-Results")[1] == "example.test; spf=pass"


def test_who_is_not_asked_about(folder, tree, sink):
    with relay_of(folder, tree, sink, {"except": ["203.0.113.0/28"]}, {"enabled": False}) as relay:
        for source, port, local in (("127.0.0.1", 0, False), ("::1", 0, False),
                                    (GOOD, 0, True), ("198.51.100.7", 0, False),
                                    (BAD, 1, False), (BAD, 2, False)):
            code, _ = send(relay, "joe@good.test", source, port=relay.ports[port], local=local)
            assert code == 250
        assert [header for n in range(1, 7) if (header := Header(sink, n).results)] == []
        assert not relay.log.events("spf")
        assert relay.metrics().sum("ringpost_iprev_results_total") == 0
        assert send(relay, "joe@good.test", BAD)[0] == 550


def test_options_are_for_the_role_relay(folder, tree, sink):
    relay = Ringpost(folder / "relay")
    relay.config["listeners"][0].update(role="submission", spf={"fail": "refuse"})
    relay.write_config()
    done = relay.run("--check-config")
    assert done.returncode == EXIT_CONFIG
    assert "listeners[0].spf: SPF is for listeners with the role relay; remove it" in done.stderr


def test_a_reload_applies_options(folder, tree, sink):
    with relay_of(folder, tree, sink) as relay:
        assert send(relay, "joe@good.test", BAD)[0] == 550
        relay.config["listeners"][0]["spf"] = {"fail": "mark"}
        relay.write_config()
        relay.reload()
        relay.log.wait("config_loaded")
        assert send(relay, "joe@good.test", BAD)[0] == 250


ODD = [
    # HELO, MAIL FROM, the result's beginning
    ("OEMCOMPUTER", "", "spf=none"),
    ("A2345678", "", "spf=none"),
    ("[192.0.2.1]", "", 'spf=none'),
    ("A2345678901234567890123456789012345678901234567890123456789012.good.test", "", "spf=none"),
    ("A12345678901234567890123456789012345678901234567890123456789012.good.test", "", "spf=none"),
    ("A123456789012345678901234567890123456789012345678901234567890123.good.test", "", "spf=none"),
    ("A...good.test", "", "spf=none"),
    (".good.test", "", "spf=none"),
    ("a%good.test", "", "spf=none"),
    ("JUMPIN' JUPITER", "", "spf=none"),
    ("JUMPIN' JUPITER", "joe@good.test", "spf=pass"),
    ("under_score.good.test", "", "spf=none"),
    ("OEMCOMPUTER", "foo@[192.0.2.1]", "spf=none"),
    ("OEMCOMPUTER", "foo@[IPv6:2001:db8::1]", "spf=none"),
    ("x", "foo@A12345678901234567890123456789012345678901234567890123456789012.good.test",
     "spf=none"),
    ("x", '"joe\\"s \\\\ house"@good.test', "spf=pass"),
    ("x", "jack&jill=up@good.test", "spf=pass"),
    ("x", "o'brien/{}|~%x@good.test", "spf=pass"),
    ("x", "u@under_score.good.test", "spf=none"),
]


@pytest.mark.parametrize("helo, sender, result", ODD)
def test_odd_names_are_no_reason_to_refuse(folder, tree, sink, helo, sender, result):
    with relay_of(folder, tree, sink) as relay:
        assert send(relay, sender, helo=helo)[0] == 250
        assert Header(sink, 1).results.startswith(f"mx.relay.test; {result}"), helo


def test_domains_in_unicode_are_asked_for_as_a_labels(folder, tree, sink):
    tree.zones["good.test"].add('xn--bcher-kva TXT "v=spf1 ip4:192.0.2.1 -all"')
    tree.publish()
    with relay_of(folder, tree, sink) as relay, connect(relay, GOOD) as client:
        assert client.command("MAIL FROM:<jö@bücher.good.test> SMTPUTF8")[0] == 250
        assert client.command("RCPT TO:<u@example.test>")[0] == 250
        assert client.command("DATA")[0] == 354
        client.write("\r\nhi\r\n.\r\n")
        assert client.reply()[0] == 250
        assert "smtp.mailfrom=jö@bücher.good.test".encode() in sink.wait(1)[0].content
        assert relay.log.wait("spf", result="pass")["domain"] == "xn--bcher-kva.good.test"


# ---- servers that are slow or silent ----

@pytest.fixture
def front(tree):
    with Front(tree) as front:
        yield front


def test_silence_holds_up_only_who_waits_for_it(folder, front, sink):
    front.faults["a.slow.test", "TXT"] = SILENT
    with relay_of(folder, front, sink, deadline="2s") as relay:
        with connect(relay, GOOD) as waits:
            waits.write("MAIL FROM:<joe@slow.test>\r\nRCPT TO:<u@example.test>\r\n")
            begun = time.monotonic()
            # Others go on, in the meantime.
            for _ in range(20):
                assert send(relay, "joe@good.test")[0] == 250
            assert not [event for event in relay.log.events("spf")
                        if event["domain"] == "slow.test"]
            code, text = waits.reply()
            assert code == 451 and text.startswith("4.7.24 SPF temperror of slow.test\n")
            assert text.endswith("\n4.7.24 the DNS has not answered in time")
            assert 1.9 < time.monotonic() - begun < 15
            assert waits.reply()[0] == 503
            assert waits.mail(sender="joe@good.test")[0] == 250


def test_a_client_that_leaves_ends_the_check(folder, front, sink):
    front.faults["a.slow.test", "TXT"] = SILENT
    with relay_of(folder, front, sink) as relay:
        with connect(relay, GOOD) as client:
            client.write("MAIL FROM:<joe@slow.test>\r\n")
            front.wait("a.slow.test", "TXT")
        relay.wait_metric(lambda m: m.sum("ringpost_connections", side="receive") == 0,
                          "the session ends", timeout_s=10)
        assert not relay.log.events("spf")


def test_the_name_of_a_client_is_not_waited_for(folder, front, sink):
    front.faults["x.slow.test", "A"] = SILENT
    with relay_of(folder, front, sink) as relay:
        begun = time.monotonic()
        assert send(relay, "joe@soft.good.test", "203.0.113.8")[0] == 250
        assert time.monotonic() - begun < 10
        assert "iprev=temperror policy.iprev=203.0.113.8" in Header(sink, 1).results


def test_a_drain_does_not_wait_for_the_dns(folder, front, sink):
    front.faults["a.slow.test", "TXT"] = SILENT
    config = {"timeouts": {"drain": "1s"}}
    with relay_of(folder, front, sink, config=config) as relay:
        with connect(relay, GOOD) as client:
            client.write("MAIL FROM:<joe@slow.test>\r\n")
            front.wait("a.slow.test", "TXT")
            relay.process.terminate()
            assert client.reply()[0] == 421
        relay.stop(timeout_s=15)


def test_failures_of_servers_are_temporary(folder, front, sink):
    front.faults["a.slow.test", "TXT"] = SERVFAIL
    with relay_of(folder, front, sink) as relay:
        assert send(relay, "joe@slow.test")[0] == 451
