# SPDX-License-Identifier: Apache-2.0
"""REQUIRETLS and TLS-Required: No (RFC 8689): two relays in a row, next hops that lack something,
and what the sender hears of it. Domains, policies and certificates are those of test_sts."""
import contextlib
import email
import smtplib
import ssl

import pytest

import ports
from daemon import Client, Ringpost
from sink import Sink
from test_admin import Relay
from test_dane import OTHER, tlsa
from test_sts import (  # noqa: F401 (ground is a fixture)
    FIRST, NOBODY, SECOND, ground, outcome, policy, pytestmark, seen)
from tls_host import TlsHost

SENDER = "a@client.test"
BODY = b"Subject: hi\r\nMessage-ID: <m1@client.test>\r\n\r\nthe words\r\n"
NO = b"TLS-Required: No\r\n" + BODY
OFFER = ("REQUIRETLS",)


def certificate(made):
    return {"chain": str(made.chain), "key": str(made.key)}


@pytest.fixture(scope="module", autouse=True)
def published_once(ground):  # noqa: F811
    """Also for those who need no domain: a relay reads the anchor of the tree."""
    ground.tree.publish()


class Site:
    """A relay that clients reach by STARTTLS."""

    def __init__(self, folder, ground, back=None, kind=Relay, changes=None, routes=()):
        self.relay = ground.relay(folder, changes={
            "admin": {"socket": str(folder / "relay" / "admin.sock"), "timeout": "2s"},
            **(changes or {})}, kind=kind)
        entry = certificate(ground.authority.issue("relay.test"))
        self.relay.config["tls"]["certificates"] = [entry]
        if back is not None:
            self.relay.config["routes"].insert(0, {"domain": "client.test", "to": back.url})
        self.relay.config["routes"][:0] = routes
        self.relay.write_config()
        self.context = ssl.create_default_context(cafile=ground.authority.file)

    def client(self):
        client = smtplib.SMTP(self.relay.host, self.relay.port, "client.test", timeout=30)
        client._host = "relay.test"
        client.starttls(context=self.context)
        client.ehlo("client.test")
        return client

    def send(self, recipient, body=BODY, options=("REQUIRETLS",), sender=SENDER):
        with self.client() as client:
            assert client.mail(sender, options)[0] == 250
            assert client.rcpt(recipient)[0] == 250
            code, text = client.data(body)
            assert code == 250, text
            return text.decode().split()[-1]

    def __enter__(self):
        self.relay.__enter__()
        return self

    def __exit__(self, *what):
        return self.relay.__exit__(*what)


def failed(relay, recipient, status, text):
    event = outcome(relay, recipient, result="failed")
    assert (event["enhanced"], event["require_tls"]) == (status, "yes"), event
    assert text in event["reply"], event
    return event


def report_of(mail):
    """The parts of a report: text, status, what was attached."""
    message = email.message_from_bytes(mail.content)
    assert message.get_content_type() == "multipart/report", mail.content
    return [part.as_string() for part in message.get_payload()]


@pytest.fixture
def back():
    """Takes the senders' mail on this machine, so that reports that require TLS may come, too."""
    with Sink(lmtp=True) as running:
        yield running


# ---- the server ----

def test_it_is_offered_under_tls_alone(folder, ground):
    with Site(folder, ground) as site:
        with Client(site.relay.host, site.relay.port) as plain:
            assert "REQUIRETLS" not in plain.greet()
            assert plain.command(f"MAIL FROM:<{SENDER}> REQUIRETLS") == \
                (530, "5.7.10 REQUIRETLS only under TLS, issue STARTTLS first")
        with site.client() as client:
            assert client.has_extn("requiretls")
            assert client.mail(SENDER, ["REQUIRETLS=1"])[0] == 501
            assert client.mail(SENDER, ["REQUIRETLS"])[0] == 250
            assert client.rcpt("u@example.test", ["REQUIRETLS"])[0] == 555


def test_it_can_be_left_out(folder, ground):
    changes = {"relay": {"networks": ["127.0.0.0/8"], "requiretls": False}}
    with Site(folder, ground, changes=changes) as site, site.client() as client:
        assert not client.has_extn("requiretls")
        assert client.mail(SENDER, ["REQUIRETLS"])[0] == 555


# ---- two relays in a row ----

class Second(Ringpost):
    """Takes mail on port 25 of an address, with a certificate; its own next hop is on this machine
    and has no TLS."""

    def __init__(self, folder, address, made, to):
        super().__init__(folder, {"hostname": "one.mx.test",
                                  "tls": {"certificates": [certificate(made)]},
                                  "relay": {"networks": ["127.0.0.0/8"]}},
                         [{"domain": "*", "to": to}])
        self.config["listeners"] = [{"address": f"{address}:25", "role": "relay"}]
        self.write_config()


WAYS = {
    "dnssec": ("ca", {"tls_verified": "ca", "tls_policy": "verify", "tls_source": "mail"}),
    "dane": ("self", {"tls_verified": "dane_ee", "tls_policy": "dane", "tls_source": "dane"}),
    "sts": ("ca", {"tls_verified": "ca", "tls_policy": "verify", "tls_source": "sts"}),
    "sts-testing": ("ca", {"tls_verified": "ca", "tls_policy": "verify", "tls_source": "sts"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_chain_of_two(folder, ground, way):
    """The name of the host is vouched for in each way that there is."""
    kind, how = WAYS[way]
    host = f"one.{way}.test"
    make = ground.authority.issue if kind == "ca" else ground.authority.self_signed
    made = make(host)
    signed = not way.startswith("sts")
    mode = {"sts": "enforce", "sts-testing": "testing"}.get(way)
    records = f"@ MX 10 one\none A {FIRST}\n"
    if way == "dane":
        records += f"_25._tcp.one TLSA {tlsa(3, 1, 1, made.certificate)}\n"
    if mode:
        records += f'_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A {ground.web.host}\n'
        ground.web.serve(f"mta-sts.{way}.test", policy(mode, host))
    ground.tree.zone(f"{way}.test", records, signed=signed)
    ground.tree.publish()
    with Sink(lmtp=True) as last, Second(folder / "second", FIRST, made, last.url) as second, \
            Site(folder, ground) as site:
        mail = site.send(f"u@{way}.test")
        event = outcome(site.relay, f"u@{way}.test")
        assert event["result"] == "delivered", event
        assert event["id"] == mail and event["require_tls"] == "yes"
        assert {key: event.get(key) for key in how} == how, event
        assert seen(site.relay, "received", id=mail)["require_tls"] == "yes"
        assert seen(second, "received")["require_tls"] == "yes"
        last.wait(1)
        assert b"the words" in last.mails[0].content
        # The last step stays on one machine, where nothing needs TLS, nor is it offered.
        assert outcome(second, f"u@{way}.test")["require_tls"] == "yes"
        assert not any("REQUIRETLS" in p for p in last.mails[0].parameters)
        assert site.relay.metrics().sum("ringpost_mails_tls_need_total", need="required") == 1
        # A mail without it takes a connection of its own, and does not say it.
        site.send(f"v@{way}.test", options=())
        assert "require_tls" not in outcome(site.relay, f"v@{way}.test")
        assert "require_tls" not in outcome(second, f"v@{way}.test")


# ---- hosts that will not do ----

def lacking(ground, what):
    """What the one host of a domain is like, and what is said of it."""
    good = ground.authority.issue("one.mx.test")
    return {
        "requiretls": (good, {}, "5.7.30", "does not offer REQUIRETLS"),
        "requiretls under TLS": (good, {"plain_offers": OFFER}, "5.7.30",
                                 "does not offer REQUIRETLS"),
        "starttls": (None, {"plain_offers": OFFER}, "5.7.10", "does not offer STARTTLS"),
        "an authority": (ground.authority.self_signed("one.mx.test"), {"secure_offers": OFFER},
                         "5.7.10", "self-signed certificate"),
        "its name": (ground.authority.issue("other.mx.test"), {"secure_offers": OFFER}, "5.7.10",
                     "hostname mismatch"),
        "time": (ground.authority.issue("one.mx.test", expired=True), {"secure_offers": OFFER},
                 "5.7.10", "certificate has expired"),
    }[what]


@pytest.mark.parametrize("what", ["requiretls", "requiretls under TLS", "starttls", "an authority",
                                  "its name", "time"])
def test_a_host_that_lacks(folder, ground, back, what):
    made, options, status, text = lacking(ground, what)
    name = ground.domain(hosts=("one",), record=None)
    with TlsHost(FIRST, made, **options) as host, Site(folder, ground, back) as site:
        mail = site.send(f"u@{name}", options=("REQUIRETLS", "RET=FULL"))
        failed(site.relay, f"u@{name}", status, text)
        # Other mail goes there all the same, and the next one that requires TLS hears at once.
        site.send(f"v@{name}", options=())
        assert outcome(site.relay, f"v@{name}")["result"] == "delivered"
        site.send(f"w@{name}")
        failed(site.relay, f"w@{name}", status, text)
        host.wait(1)
        assert [m.recipients for m in host.mails] == [[f"v@{name}"]]
        notice = seen(site.relay, "notice", original=mail)
        assert (notice["require_tls"], notice["attached"]) == ("yes", "header"), notice
        back.wait(2)
        texts = report_of(back.mails[0])
        assert status in texts[1] and "Action: failed" in texts[1], texts[1]
        assert "<m1@client.test>" in texts[2] and "the words" not in "".join(texts), texts
        assert site.relay.metrics().sum("ringpost_recipients_failed_requiretls_total") == 2


def test_nobody_vouches_for_the_host(folder, ground, back):
    """Whoever forges the MX record has a certificate for the name in it."""
    ground.tree.zone("forged.test", f"@ MX 10 one\none A {FIRST}", signed=False)
    ground.tree.publish()
    made = ground.authority.issue("one.forged.test")
    with TlsHost(FIRST, made, secure_offers=OFFER) as host, Site(folder, ground, back) as site:
        site.send("u@forged.test")
        failed(site.relay, "u@forged.test", "5.7.10", "neither DNSSEC nor MTA-STS")
        back.wait(1)
        assert host.connections == 0


def test_a_policy_that_could_not_be_had_may_come(folder, ground, back):
    """A lack of knowledge is no reason to give up."""
    ground.tree.zone("unknown.test", f'@ MX 10 one\none A {FIRST}\n'
                     f'_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A {NOBODY}', signed=False)
    ground.tree.publish()
    with Site(folder, ground, back) as site:
        site.send("u@unknown.test")
        event = outcome(site.relay, "u@unknown.test")
        assert (event["result"], event["enhanced"]) == ("deferred", "4.7.5"), event
        assert "neither DNSSEC nor MTA-STS" in event["reply"]


def test_another_host_may_do(folder, ground):
    first, second = (ground.authority.issue(f"{n}.mx.test") for n in ("one", "two"))
    name = ground.domain(record=None)
    with TlsHost(FIRST, first) as lacks, TlsHost(SECOND, second, secure_offers=OFFER) as has, \
            Site(folder, ground) as site:
        site.send(f"u@{name}")
        event = outcome(site.relay, f"u@{name}")
        assert (event["result"], event["host"]) == ("delivered", "two.mx.test"), event
        assert has.mails[0].command.endswith(" REQUIRETLS") and has.mails[0].tls
        assert lacks.connections == 1 and not lacks.mails


def test_a_host_that_is_down_may_do_later(folder, ground):
    """The one that is up lacks it; the one that would do is down: that is not for good."""
    first, second = (ground.authority.issue(f"{n}.mx.test") for n in ("one", "two"))
    name = ground.domain(record=None)
    with TlsHost(FIRST, first), Site(folder, ground) as site:
        site.send(f"u@{name}")
        assert outcome(site.relay, f"u@{name}")["result"] == "deferred"
        with TlsHost(SECOND, second, secure_offers=OFFER) as has:
            assert outcome(site.relay, f"u@{name}", result="delivered")["host"] == "two.mx.test"
            assert has.mails[0].command.endswith(" REQUIRETLS")


def test_a_route_without_tls(folder, ground, back):
    with TlsHost(FIRST, None) as host, Site(folder, ground, back, routes=[
            {"domain": "none.test", "to": f"smtp://{FIRST}:25", "tls": "none"}]) as site:
        site.send("u@none.test")
        failed(site.relay, "u@none.test", "5.7.10", "the route rules TLS out")
        site.send("v@none.test", options=())
        host.wait(1)
        assert [m.recipients for m in host.mails] == [["v@none.test"]]


def test_a_route_names_the_host(folder, ground):
    """Its name needs nobody else's word; that it offers less than it must does."""
    made = ground.authority.issue("one.mx.test")
    with TlsHost(FIRST, made, secure_offers=OFFER) as host, Site(folder, ground, routes=[
            {"domain": "smart.test", "to": "smtp://one.mx.test:25"}]) as site:
        site.send("u@smart.test")
        event = outcome(site.relay, "u@smart.test")
        assert (event["result"], event["tls_verified"]) == ("delivered", "ca"), event
        assert event["site"] == "smtp://one.mx.test:25 requiretls"
        assert host.mails[0].command.endswith(" REQUIRETLS")


# ---- reports ----

def test_a_report_that_cannot_be_protected_is_withheld(folder, ground):
    """The sender's own server lacks it, too."""
    name = ground.domain(hosts=("one",), record=None)
    with TlsHost(FIRST, ground.authority.issue("one.mx.test")), Sink() as home, \
            Site(folder, ground, home) as site:
        site.send(f"u@{name}")
        failed(site.relay, f"u@{name}", "5.7.30", "does not offer REQUIRETLS")
        home.wait(1)
        report = seen(site.relay, "notice", require_tls="yes")
        failed(site.relay, SENDER, "5.7.10", "STARTTLS")
        withheld = seen(site.relay, "notice", original=report["id"])
        assert (withheld["attached"], withheld.get("require_tls")) == ("nothing", None), withheld
        (mail,) = home.mails
        assert (mail.sender, mail.recipients) == ("", [SENDER])
        text = mail.content.decode()
        assert "A report to you is withheld" in text and report["id"] in text
        assert name not in text and "m1@client.test" not in text, text
        site.relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
        assert len(home.mails) == 1


# ---- it lasts ----

def test_it_survives_a_kill(folder, ground):
    name = ground.domain(hosts=("one",), record=None)
    with Site(folder, ground) as site:
        mail = site.send(f"u@{name}")
        outcome(site.relay, f"u@{name}", result="deferred")
        other = site.send(f"v@{name}", NO, options=())
        outcome(site.relay, f"v@{name}", result="deferred")
        site.relay.kill()
        site.relay.start()
        shown = site.relay.ctl("queue", "show", mail)
        assert shown["require_tls"] == "yes", shown
        assert site.relay.ctl("queue", "show", other)["require_tls"] == "no"
        assert "require tls      yes\n" in site.relay.ctl_text("queue", "show", mail).stdout
        with TlsHost(FIRST, ground.authority.issue("one.mx.test"), secure_offers=OFFER) as host:
            host.wait(2)
            commands = {m.recipients[0]: m.command for m in host.mails}
            assert commands[f"u@{name}"].endswith(" REQUIRETLS")
            assert "REQUIRETLS" not in commands[f"v@{name}"]


# ---- TLS-Required: No ----

def published(ground, what):
    """A domain whose one host is not as is published, and the certificate that it has."""
    if what == "dane":
        host = "one.optional.test"
        ground.tree.zone("optional.test", f"@ MX 10 one\none A {FIRST}\n"
                         f"_25._tcp.one TLSA 3 1 1 {OTHER}")
        ground.tree.publish()
        return "optional.test", ground.authority.self_signed(host)
    if what == "servfail":
        ground.tree.zone("broken.test", f"@ MX 10 one.inner.broken.test.\n")
        ground.tree.zone("inner.broken.test", f"one A {FIRST}\n_25._tcp.one TLSA 3 1 1 {OTHER}",
                         damage=lambda text: text.replace(OTHER, "0e" * 32))
        ground.tree.publish()
        return "broken.test", ground.authority.self_signed("one.inner.broken.test")
    hosts = ("one.mx.test",) if what == "sts" else ("elsewhere.mx.test",)
    return ground.domain(policy("enforce", *hosts), hosts=("one",)), \
        ground.authority.self_signed("one.mx.test")


@pytest.mark.parametrize("what", ["dane", "servfail", "sts", "sts hosts"])
def test_what_is_published_may_be_ignored(folder, ground, what):
    name, made = published(ground, what)
    with TlsHost(FIRST, made) as host, Site(folder, ground) as site:
        site.send(f"strict@{name}", options=())
        assert outcome(site.relay, f"strict@{name}")["result"] == "deferred"
        mail = site.send(f"u@{name}", NO, options=())
        event = outcome(site.relay, f"u@{name}")
        assert event["result"] == "delivered", event
        assert (event["require_tls"], event["tls_policy"], event["tls_source"]) == \
            ("no", "may", "mail"), event
        assert event["tls"].startswith("TLSv1.3"), event  # still where it is to be had
        assert seen(site.relay, "received", id=mail)["require_tls"] == "no"
        assert host.mails[0].recipients == [f"u@{name}"] and b"TLS-Required: No" in \
            host.mails[0].content
        assert site.relay.metrics().sum("ringpost_mails_tls_need_total", need="optional") == 1


FIELDS = {
    "one": (b"TLS-Required: No\r\n", "no"),
    "any case": (b"tls-required:  nO \r\n", "no"),
    "folded": (b"TLS-Required:\r\n No\r\n", "no"),
    "the last line of a message without a body": (None, "no"),
    "two": (b"TLS-Required: No\r\nTLS-Required: No\r\n", None),
    "two, one of them odd": (b"TLS-Required: Yes\r\nTLS-Required: No\r\n", None),
    "another word": (b"TLS-Required: Never\r\n", None),
    "nothing": (b"TLS-Required:\r\n", None),
    "more": (b"TLS-Required: No, please\r\n", None),
    "a long one": (b"TLS-Required: No" + b" " * 200 + b"x\r\n", None),
    "another name": (b"X-TLS-Required: No\r\n", None),
    "in the body": (b"\r\nTLS-Required: No\r\n", None),
}


def test_only_one_field_with_one_word_counts(folder, ground, sink):
    with Site(folder, ground, routes=[{"domain": "field.test", "to": sink.url}]) as site:
        for what, (field, wanted) in FIELDS.items():
            body = b"Subject: hi\r\n" + (b"TLS-Required: No\r\n" if field is None else
                                         field + BODY)
            mail = site.send("u@field.test", body, options=())
            assert seen(site.relay, "received", id=mail).get("require_tls") == wanted, what
        # REQUIRETLS goes before the header (RFC 8689 4.1).
        mail = site.send("u@field.test", NO)
        assert seen(site.relay, "received", id=mail)["require_tls"] == "yes"


def test_what_a_route_demands_holds(folder, ground):
    """It is this relay's own policy, not the recipient's."""
    port = ports.free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(TlsHost(FIRST, None, port=port))
        site = stack.enter_context(Site(folder, ground, routes=[
            {"domain": "own.test", "to": f"smtp://{FIRST}:{port}", "tls": "encrypt"}]))
        site.send("u@own.test", NO, options=())
        event = outcome(site.relay, "u@own.test")
        assert (event["result"], event["enhanced"], event["tls_source"]) == \
            ("deferred", "4.7.10", "route"), event
