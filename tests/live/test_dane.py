# SPDX-License-Identifier: Apache-2.0
"""DANE (RFC 7672) against a signed tree of zones and hosts with certificates of every kind.

MX hosts listen on port 25, so every host has an address of its own on loopback, and binding that
port needs root. A name server in front of the tree remembers what was asked for.
"""
import contextlib
import hashlib
import json
import os
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import peers
import ports
from authority import Authority
from daemon import Client, Ringpost
from dns_tree import SERVFAIL, SILENT, Front, Tree
from tls_host import TlsHost, chain_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="port 25 needs root")

DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
OTHER = "0f" * 32


def address(number):
    return f"127.{140 + os.getpid() % 40}.{os.getpid() >> 8 & 255}.{number}"


def tlsa(usage, selector, matching, certificate):
    """The RDATA of a record about this certificate (of the library cryptography)."""
    data = certificate.public_bytes(Encoding.DER) if selector == 0 else \
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if matching in DIGESTS:
        data = DIGESTS[matching](data).digest()
    return f"{usage} {selector} {matching} {data.hex()}"


class Case:
    """A domain CASE.dane.test, whose one MX host mx.CASE.dane.test has a certificate and records.
    Both are made by functions of the case."""

    def __init__(self, name, records, certificate="self", names=None, expired=False,
                 zone="dane.test"):
        self.name, self.zone = name, zone
        self.domain, self.host = f"{name}.{zone}", f"mx.{name}.{zone}"
        self.make_records, self.kind = records, certificate
        self.names, self.expired = names, expired
        self.server = None

    def make(self, authority, number):
        self.address = address(number)
        names = self.names(self) if self.names else [self.host]
        self.certificate = self.chain = None
        if self.kind == "self":
            self.certificate = authority.self_signed(*names)
        elif self.kind == "ca":
            self.certificate = authority.issue(*names, expired=self.expired)
            self.chain = chain_of(authority.folder, self.certificate, authority.file)
        self.authority = authority
        lines = [f"{self.name} MX 10 mx.{self.name}", f"mx.{self.name} A {self.address}"]
        lines += [f"_25._tcp.mx.{self.name} TLSA {record}" for record in self.make_records(self)]
        return "\n".join(lines)

    def own(self, *numbers):
        return tlsa(*numbers, self.certificate.certificate)

    def ca(self, *numbers):
        return tlsa(*numbers, self.authority.certificate)


def no_records(_):
    return []


def other_name(_):
    return ["elsewhere.test"]


# What is delivered, and how: by version, tls_verified, tls_policy, tls_source.
DELIVERED = [
    (Case("ee311", lambda c: [c.own(3, 1, 1)]), "dane_ee", "dane", "dane"),
    (Case("ee301", lambda c: [c.own(3, 0, 1)]), "dane_ee", "dane", "dane"),
    (Case("ee312", lambda c: [c.own(3, 1, 2)]), "dane_ee", "dane", "dane"),
    (Case("ee300", lambda c: [c.own(3, 0, 0)]), "dane_ee", "dane", "dane"),
    (Case("ee310", lambda c: [c.own(3, 1, 0)]), "dane_ee", "dane", "dane"),
    (Case("ta211", lambda c: [c.ca(2, 1, 1)], "ca"), "dane_ta", "dane", "dane"),
    (Case("ta201", lambda c: [c.ca(2, 0, 1)], "ca"), "dane_ta", "dane", "dane"),
    (Case("ta202", lambda c: [c.ca(2, 0, 2)], "ca"), "dane_ta", "dane", "dane"),
    (Case("several", lambda c: ["3 1 1 " + OTHER, c.own(3, 1, 1), "2 0 1 " + OTHER]),
     "dane_ee", "dane", "dane"),
    (Case("beside", lambda c: ["1 1 1 " + OTHER, "3 1 1 0102", c.own(3, 1, 1)]),
     "dane_ee", "dane", "dane"),
    # Names and dates do not count with DANE-EE (RFC 7672 3.1.1).
    (Case("eeold", lambda c: [c.own(3, 1, 1)], "ca", expired=True), "dane_ee", "dane", "dane"),
    (Case("eename", lambda c: [c.own(3, 1, 1)], names=other_name), "dane_ee", "dane", "dane"),
    # With DANE-TA the domain's name is as good as the host's (RFC 7672 3.2.2).
    (Case("tadomain", lambda c: [c.ca(2, 0, 1)], "ca", names=lambda c: [c.domain]),
     "dane_ta", "dane", "dane"),
    # Records that nobody can use demand TLS, and no more (RFC 7672 2.2).
    (Case("pkix", lambda c: ["0 0 1 " + OTHER, "1 1 1 " + OTHER]), "no", "encrypt", "dane"),
    (Case("future", lambda c: ["3 2 1 " + OTHER, "3 1 9 " + OTHER, "9 1 1 " + OTHER]),
     "no", "encrypt", "dane"),
    (Case("malformed", lambda c: ["3 1 1 0102", "3 0 0 " + OTHER]), "no", "encrypt", "dane"),
    # Without records TLS is used where it is offered.
    (Case("none", no_records), "no", "may", "default"),
    (Case("noneplain", no_records, None), None, "may", "default"),
]
# What waits, with its status; the host is reached, but not given mail.
REFUSED = [
    Case("wrong", lambda c: ["3 1 1 " + OTHER]),
    Case("wrongta", lambda c: ["2 0 1 " + OTHER], "ca"),
    Case("taname", lambda c: [c.ca(2, 0, 1)], "ca", names=other_name),
    Case("taold", lambda c: [c.ca(2, 0, 1)], "ca", expired=True),
    Case("agility", lambda c: [c.own(3, 1, 1), "3 1 2 " + 2 * OTHER]),
    Case("plain", lambda c: ["3 1 1 " + OTHER], None),
    Case("pkixplain", lambda c: ["1 1 1 " + OTHER], None),
]
# Hosts that are not reached at all: there is no answer about their records, or a bogus one.
UNANSWERED = [
    Case("servfail", lambda c: [c.own(3, 1, 1)]),
    Case("silent", lambda c: [c.own(3, 1, 1)]),
    Case("bogus", lambda c: ["3 1 1 " + "0e" * 32], zone="damaged.test"),
]
# Ways that are not secure: the records there say nothing.
UNASKED = [
    Case("unsigned", lambda c: ["3 1 1 " + OTHER], zone="plain.test"),
]
ALL = [row[0] for row in DELIVERED] + REFUSED + UNANSWERED + UNASKED


@pytest.fixture(scope="module")
def world():
    """The cases with their servers, the tree, and the name server in front of it."""
    folder = peers.open_folder("dane")
    authority = Authority(folder / "authority")
    zones = {}
    for number, case in enumerate(ALL, 1):
        zones.setdefault(case.zone, []).append(case.make(authority, number))
    by_name = {case.name: case for case in ALL}
    zones["dane.test"] += [
        # The way from a signed domain to a host in a zone that is not.
        "island MX 10 mx.unsigned.plain.test.",
        # The preferred host has wrong records, no answer about them, or others.
        "next MX 10 mx.wrong", "next MX 20 mx.ee311",
        "after MX 10 mx.servfail", "after MX 20 mx.ee311",
        # Aliases, with the records at their end, at their own name, at the name of one that leads
        # out of what is signed.
        "end MX 10 alias-end", "alias-end CNAME mx.ee311",
        "own MX 10 alias-own", "alias-own CNAME mx.none",
        f"_25._tcp.alias-own TLSA {by_name['none'].own(3, 1, 1)}",
        "out MX 10 alias-out", "alias-out CNAME mx.unsigned.plain.test.",
        f"_25._tcp.alias-out TLSA {by_name['unsigned'].own(3, 1, 1)}",
        "shared MX 10 mx.wrong", "sharedta MX 10 mx.tadomain",
    ]
    zones["plain.test"] += ["shared MX 10 mx.wrong.dane.test."]
    with contextlib.ExitStack() as stack:
        tree = stack.enter_context(Tree(folder / "tree"))
        tree.zone("dane.test", "\n".join(zones["dane.test"]))
        tree.zone("plain.test", "\n".join(zones["plain.test"]), signed=False)
        tree.zone("damaged.test", "\n".join(zones["damaged.test"]),
                  damage=lambda text: text.replace("0e" * 28, "0d" * 28))
        tree.publish()
        front = stack.enter_context(Front(tree))
        front.faults["_25._tcp.mx.servfail.dane.test", "TLSA"] = SERVFAIL
        front.faults["_25._tcp.mx.silent.dane.test", "TLSA"] = SILENT
        for case in ALL:
            case.server = stack.enter_context(
                TlsHost(case.address, case.certificate, case.chain))
        yield by_name, front


@pytest.fixture(scope="module")
def relay(world):
    folder = peers.open_folder("dane-relay")
    config = {"dns": {**world[1].options, "deadline": "3s"}, "hostname": "relay.test",
              "timeouts": {"drain": "1s"}, "retry": {"schedule": ["1h"]},
              "admin": {"socket": str(folder / "admin.sock")}}
    with Ringpost(folder / "relay", config,
                  [{"domain": "only.dane.test", "to": "smtp://mx.ee311.dane.test", "tls": "dane"},
                   {"domain": "name.dane.test", "to": "smtp://mx.ee311.dane.test"},
                   {"domain": "useless.dane.test", "to": "smtp://mx.none.dane.test",
                    "tls": "dane"},
                   {"domain": "maybe.dane.test", "to": "smtp://mx.wrong.dane.test", "tls": "may"},
                   {"domain": "*", "to": "mx"}]) as running:
        running.socket_path = str(folder / "admin.sock")
        yield running


def send(relay, recipient):
    """Sends a mail; the event of its first attempt."""
    with Client(relay.host, relay.port) as client:
        client.greet()
        client.mail(sender="a@client.test", recipients=(recipient,))
    return relay.log.wait("delivery", recipient=recipient)


def explain(relay, domain):
    done = subprocess.run([os.environ["RINGPOSTCTL"], "--socket", relay.socket_path, "--json",
                           "explain", f"u@{domain}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def counts(case):
    return len(case.server.mails), case.server.connections


@pytest.mark.parametrize("row", DELIVERED, ids=lambda row: row[0].name)
def test_what_is_delivered(relay, world, row):
    case, verified, policy, source = row
    event = send(relay, f"u@{case.domain}")
    assert event["result"] == "delivered", event
    assert (event.get("tls_verified"), event["tls_policy"], event["tls_source"]) == \
        (verified, policy, source), event
    mail = case.server.mails[-1]
    assert (mail.tls == "TLSv1.3") == (verified is not None), mail
    assert mail.server_name == (case.host if mail.tls else None)
    assert event.get("tls", "").startswith(mail.tls or ""), event


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_does_not_match_waits(relay, world, case):
    event = send(relay, f"u@{case.domain}")
    status = "4.7.5" if case.certificate else "4.7.10"  # it does not even offer TLS
    assert (event["result"], event["enhanced"]) == ("deferred", status), event
    assert (event["tls_policy"], event["tls_source"]) == \
        ("encrypt" if case.name == "pkixplain" else "dane", "dane"), event
    assert case.server.mails == [] and case.server.connections > 0


@pytest.mark.parametrize("case", UNANSWERED, ids=lambda case: case.name)
def test_without_an_answer_mail_waits(relay, world, case):
    event = send(relay, f"u@{case.domain}")
    assert (event["result"], event["code"], event["enhanced"], event["phase"]) == \
        ("deferred", 451, "4.7.5", "dns"), event
    assert f"{case.host}: its TLSA records could not be had: " in event["reply"], event
    assert counts(case) == (0, 0)
    relay.log.wait_events(1, "unresolved", destination=case.domain, result="unprotected")


@pytest.mark.parametrize("domain", ["unsigned.plain.test", "island.dane.test"])
def test_where_the_way_is_not_secure_nothing_is_asked(relay, world, domain):
    by_name, front = world
    before = len(by_name["unsigned"].server.mails)
    event = send(relay, f"u@{domain}")
    assert (event["result"], event["tls_policy"], event["tls_source"]) == \
        ("delivered", "may", "default"), event
    assert by_name["unsigned"].server.mails[before].tls
    assert not [name for name in front.questions("TLSA") if name.endswith("plain.test")]


@pytest.mark.parametrize("domain", ["next.dane.test", "after.dane.test"])
def test_the_next_host_is_tried(relay, world, domain):
    event = send(relay, f"u@{domain}")
    assert (event["result"], event["host"], event["tls_verified"]) == \
        ("delivered", "mx.ee311.dane.test", "dane_ee"), event


@pytest.mark.parametrize("domain, base", [
    ("end.dane.test", "mx.ee311.dane.test"),
    ("own.dane.test", "alias-own.dane.test"),
    ("out.dane.test", "alias-out.dane.test"),
])
def test_aliases(relay, world, domain, base):
    event = send(relay, f"u@{domain}")
    assert (event["result"], event["tls_verified"]) == ("delivered", "dane_ee"), event
    names = [mail.server_name for case in ALL for mail in case.server.mails
             if f"u@{domain}" in mail.recipients]
    assert names == [base]


def test_domains_with_the_same_hosts_have_policies_of_their_own(relay, world):
    """One comes to the host by a way that is secure, the other does not."""
    by_name, _ = world
    before = len(by_name["wrong"].server.mails)
    plain = send(relay, "u@shared.plain.test")
    signed = send(relay, "u@shared.dane.test")
    again = send(relay, "v@shared.plain.test")
    assert (plain["result"], again["result"], signed["result"]) == \
        ("delivered", "delivered", "deferred"), signed
    assert plain["site"] == "mx.wrong.dane.test" == again["site"]
    assert signed["site"] == "mx.wrong.dane.test tls=dane"
    assert len(by_name["wrong"].server.mails) == before + 2


def test_the_name_of_one_domain_does_not_serve_another(relay, world):
    """The certificate has the name of tadomain.dane.test, which is no name for this domain."""
    event = send(relay, "u@sharedta.dane.test")
    assert (event["result"], event["enhanced"]) == ("deferred", "4.7.5"), event
    assert event["site"] == "mx.tadomain.dane.test tls=dane for=sharedta.dane.test"


@pytest.mark.parametrize("domain, result, policy, source", [
    ("name.dane.test", "delivered", "dane", "dane"),
    ("only.dane.test", "delivered", "dane", "route"),
    ("maybe.dane.test", "delivered", "may", "route"),
])
def test_routes_by_name(relay, world, domain, result, policy, source):
    event = send(relay, f"u@{domain}")
    assert (event["result"], event["tls_policy"], event["tls_source"]) == \
        (result, policy, source), event


def test_a_route_that_demands_records_waits_without(relay, world):
    event = send(relay, "u@useless.dane.test")
    assert (event["result"], event["enhanced"], event["phase"]) == \
        ("deferred", "4.7.5", "dns"), event
    assert "mx.none.dane.test: it has no TLSA records" in event["reply"], event


def test_a_new_record_counts_after_its_time(world):
    """The host gets a new certificate, and a new record with it: mail waits for the records' time
    to live, and is delivered."""
    by_name, front = world
    authority, host = by_name["ta201"].authority, address(251)
    first, second = (authority.self_signed("mx.roll.test") for _ in range(2))

    def publish(certificate):
        front.tree.zone("roll.test", f"@ MX 10 mx\nmx A {host}\n_25._tcp.mx TLSA "
                        f"{tlsa(3, 1, 1, certificate.certificate)}", ttl=2)
        front.tree.publish()

    publish(first)
    config = {"dns": front.options, "hostname": "relay.test", "delivery": {"idle": "0s"},
              "retry": {"schedule": ["1s"], "host_pause": "1s"}, "timeouts": {"drain": "1s"}}
    with Ringpost(peers.open_folder("dane-roll") / "relay", config,
                  [{"domain": "*", "to": "mx"}]) as relay, TlsHost(host, first) as server:
        assert send(relay, "u@roll.test")["tls_verified"] == "dane_ee"
        server.use(second)
        refused = send(relay, "v@roll.test")
        assert (refused["result"], refused["enhanced"]) == ("deferred", "4.7.5"), refused
        publish(second)
        event = relay.log.wait("delivery", recipient="v@roll.test", result="delivered",
                               timeout_s=60)
        assert event["tls_verified"] == "dane_ee" and event["attempts"] > 1, event
        assert len(server.mails) == 2


def test_what_is_newly_published_counts_for_open_connections(world):
    """Of two hosts the preferred one has no records at first. When it has, its connection, which is
    kept open, is not used again: its certificate does not match."""
    by_name, front = world
    authority, hosts = by_name["ta201"].authority, (address(252), address(253))
    first, second = (authority.self_signed("mx.late.test") for _ in range(2))
    records = f"""@ MX 10 mx
@ MX 20 also
mx A {hosts[0]}
also A {hosts[1]}
_25._tcp.also TLSA {tlsa(3, 1, 1, second.certificate)}
"""
    front.tree.zone("late.test", records, ttl=1, negative_ttl=1)
    front.tree.publish()
    config = {"dns": front.options, "hostname": "relay.test", "timeouts": {"drain": "1s"},
              "workers": 1, "delivery": {"mails_per_connection": 5000}}
    with Ringpost(peers.open_folder("dane-late") / "relay", config,
                  [{"domain": "*", "to": "mx"}]) as relay, \
            TlsHost(hosts[0], first) as preferred, TlsHost(hosts[1], second):
        for number in range(2):
            event = send(relay, f"u{number}@late.test")
            assert (event["host"], event["tls_policy"]) == ("mx.late.test", "may"), event
        assert preferred.connections == 1
        front.tree.zone("late.test", f"{records}\n_25._tcp.mx TLSA 3 1 1 {OTHER}", ttl=1)
        front.tree.publish()
        for number in range(1000):
            event = send(relay, f"v{number}@late.test")
            assert event["result"] == "delivered", event
            if event["host"] != "mx.late.test":
                break
        assert (event["host"], event["tls_verified"]) == ("also.late.test", "dane_ee"), event
        assert preferred.connections == 2


@pytest.fixture(scope="module")
def postfix(world):
    """Postfix as an MX host of domains with records that are right, wrong, and of its CA."""
    by_name, front = world
    authority = by_name["ta201"].authority
    certificate = authority.issue("mx.postfix.test")
    chain = chain_of(authority.folder, certificate, authority.file)
    right, wrong = tlsa(3, 1, 1, certificate.certificate), "3 1 1 " + OTHER
    lines = []
    for name, records in (("right", [wrong, right]), ("wrong", [wrong]), ("none", []),
                          ("ta", [tlsa(2, 0, 1, authority.certificate)])):
        lines += [f"{name} MX 10 mx.{name}", f"mx.{name} A {address(250)}"]
        lines += [f"_25._tcp.mx.{name} TLSA {record}" for record in records]
    lines += ["@ MX 10 mx", f"mx A {address(250)}",
              f"_25._tcp.mx TLSA {tlsa(2, 1, 1, authority.certificate)}"]
    front.tree.zone("postfix.test", "\n".join(lines))
    front.tree.publish()
    settings = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files":
                f"{certificate.key}, {chain}", "smtpd_tls_received_header": "yes"}
    with peers.Postfix(host=address(250), port=25, settings=settings) as running:
        yield running


@pytest.mark.parametrize("domain, verified", [
    ("right.postfix.test", "dane_ee"),
    ("postfix.test", "dane_ta"),
    ("none.postfix.test", "no"),
])
def test_postfix_as_the_host(relay, postfix, domain, verified):
    event = send(relay, f"u@{domain}")
    assert (event["result"], event["tls_verified"]) == ("delivered", verified), event
    content, = postfix.take(1)
    assert b"using TLSv1.3" in content, content


@pytest.mark.parametrize("domain", ["wrong.postfix.test", "ta.postfix.test"])
def test_postfix_as_a_host_that_does_not_match(relay, postfix, domain):
    """With DANE-TA it is the name that does not."""
    event = send(relay, f"u@{domain}")
    assert (event["result"], event["enhanced"]) == ("deferred", "4.7.5"), event
    assert postfix.new_files() == []


class AskingPostfix(peers.Postfix):
    """One that asks this name server, and believes it: with an /etc/resolv.conf of its own."""

    def __init__(self, name_server, **more):
        super().__init__(**more)
        self.resolv_conf = self.folder / "resolv.conf"
        self.resolv_conf.write_text(f"nameserver {name_server}\noptions trust-ad edns0\n")

    def command(self, verb):
        script = 'mount --bind "$0" /etc/resolv.conf && exec postfix -c "$1" "$2"'
        return subprocess.run(["unshare", "-m", "sh", "-c", script, str(self.resolv_conf),
                               str(self.folder / "etc"), verb], timeout=60, capture_output=True,
                              text=True)


@pytest.fixture(scope="module")
def ours(world):
    """A relay with a certificate, and a Postfix that sends mail there as its DNS says."""
    by_name, front = world
    authority, port = by_name["ta201"].authority, ports.free_port()
    folder = peers.open_folder("dane-ours")
    certificate = authority.issue("mx.ours.test")
    lines = []
    for name, record in (("right", tlsa(3, 1, 1, certificate.certificate)),
                         ("wrong", "3 1 1 " + OTHER)):
        lines += [f"mx.{name} A {ports.address()}", f"_{port}._tcp.mx.{name} TLSA {record}"]
    front.tree.zone("ours.test", "\n".join(lines))
    front.tree.publish()
    config = {"hostname": "mx.ours.test", "timeouts": {"drain": "1s"},
              "listeners": [{"address": f"{ports.address()}:{port}", "role": "relay"}],
              "tls": {"certificates": [{"chain": str(certificate.chain),
                                        "key": str(certificate.key)}]}}
    with Front(front.tree, vouches=True, port=53) as vouching, \
            Ringpost(folder / "relay", config, [{"domain": "*", "to": "discard"}]) as relay:
        yield relay, port, vouching


def dane_postfix(ours, name):
    """A Postfix that sends everything to this name of ours, protected as its TLSA records say."""
    _, port, vouching = ours
    settings = {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec",
                "disable_dns_lookups": "no", "smtp_host_lookup": "dns", "smtp_tls_loglevel": "1",
                "maximal_queue_lifetime": "1h"}
    return AskingPostfix(vouching.host, relay_to=(f"mx.{name}.ours.test", port),
                         settings=settings)


def test_postfix_as_a_client_finds_our_certificate(ours):
    relay = ours[0]
    with dane_postfix(ours, "right") as postfix:
        with Client(postfix.host, postfix.port) as client:
            client.greet()
            client.mail(sender="a@client.test", recipients=("u@right.test",))
        event = relay.log.wait("received", sender="a@client.test")
        assert event["tls"].startswith("TLSv1.3"), event
        peers.wait_for_log(postfix, "Verified TLS connection established to mx.right.ours.test")


def test_postfix_as_a_client_refuses_another_certificate(ours):
    relay = ours[0]
    with dane_postfix(ours, "wrong") as postfix:
        with Client(postfix.host, postfix.port) as client:
            client.greet()
            client.mail(sender="b@client.test", recipients=("u@wrong.test",))
        peers.wait_for_log(postfix, "status=deferred")
        assert "(Server certificate not verified)" in postfix.log()
        assert not [e for e in relay.log.events("received") if e["sender"] == "b@client.test"]


@pytest.mark.parametrize("domain, verdict, tlsa_answer, tls_answer", [
    ("ee311.dane.test", "delivers", "usable: 3 1 1 ", "dane"),
    ("pkix.dane.test", "delivers", "unusable: ", "encrypt"),
    ("none.dane.test", "delivers", "none", "may"),
    ("servfail.dane.test", "waits", "failed", "not used"),
    ("bogus.damaged.test", "waits", "failed", "not used"),
    ("unsigned.plain.test", "delivers", "not_asked", "may"),
])
def test_explain(relay, world, domain, verdict, tlsa_answer, tls_answer):
    answer = explain(relay, domain)
    steps = {step["step"]: step for step in answer["steps"]}
    assert answer["verdict"] == verdict, answer
    assert steps["tlsa"]["question"] == f"_25._tcp.mx.{domain}"
    assert steps["tlsa"]["answer"].startswith(tlsa_answer), steps
    if tls_answer == "encrypt":
        assert sorted(steps["tlsa"]["answer"].removeprefix("unusable: ").split(", ")) == \
            ["0 0 1 0f0f0f0f…", "1 1 1 0f0f0f0f…"]
    assert steps["tls"]["answer"] == tls_answer, steps
    assert steps["host"]["security"] == \
        ("insecure" if domain.endswith("plain.test") else "secure"), steps


@pytest.mark.parametrize("domain, verdict, host, tlsa_answer, tls_answer, site", [
    ("only.dane.test", "delivers", "mx.ee311.dane.test", "usable: 3 1 1 ", "dane",
     " tls=dane-only"),
    ("name.dane.test", "delivers", "mx.ee311.dane.test", "usable: 3 1 1 ", "dane", " tls=dane"),
    ("useless.dane.test", "waits", "mx.none.dane.test", "none", "not used", None),
    ("maybe.dane.test", "delivers", "mx.wrong.dane.test", None, "may", " tls=may"),
])
def test_explain_of_routes_by_name(relay, world, domain, verdict, host, tlsa_answer, tls_answer,
                                   site):
    answer = explain(relay, domain)
    steps = {step["step"]: step for step in answer["steps"]}
    assert answer["verdict"] == verdict, answer
    assert steps["host"]["question"] == steps["tls"]["question"] == host, steps
    assert ("tlsa" in steps) == (tlsa_answer is not None)
    assert tlsa_answer is None or steps["tlsa"]["answer"].startswith(tlsa_answer), steps
    assert steps["tls"]["answer"] == tls_answer, steps
    assert answer.get("site") == (f"smtp://{host}:25{site}" if site else None), answer
