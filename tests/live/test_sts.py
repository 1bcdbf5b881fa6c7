# SPDX-License-Identifier: Apache-2.0
"""MTA-STS (RFC 8461): policies found by a signed tree of nsd and fetched from an HTTPS server, and
what they do to mail. Each row of the table of modes and failures is a test.

MX hosts listen on port 25 and policies on port 443, so everything has an address of its own on
loopback, and binding those ports needs root.
"""
import os
import shutil

import pytest

import peers
from authority import Authority
from daemon import Client, Ringpost
from dns_tree import Tree
from policy_host import PATH, PolicyHost
from sink import Sink
from test_admin import Relay
from test_dane import OTHER, tlsa
from tls_host import TlsHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ports 25 and 443 need root")

FIRST, SECOND, WEB, NOBODY = (f"127.{130 + os.getpid() % 40}.{os.getpid() >> 8 & 255}.{n}"
                              for n in (1, 2, 3, 4))


def policy(mode, *hosts, max_age=86400):
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts),
             f"max_age: {max_age}"]
    return "\r\n".join(lines) + "\r\n"


@pytest.fixture(scope="module")
def ground():
    """Tree, authority and HTTPS server of all tests; each has domains of its own."""
    folder = peers.open_folder("sts")
    authority = Authority(folder / "authority")
    with Tree(folder / "tree") as tree, PolicyHost(WEB, authority) as web:
        tree.zone("mx.test", f"one A {FIRST}\ntwo A {SECOND}")
        yield Ground(tree, web, authority)
    shutil.rmtree(folder, ignore_errors=True)


class Ground:
    def __init__(self, tree, web, authority):
        self.tree, self.web, self.authority = tree, web, authority
        self.domains = 0

    def domain(self, text=None, hosts=("one", "two"), record="v=STSv1; id=1;", ttl=60, more="",
               publish=True, **answer):
        """A new domain with these MX hosts, of which `text` is the policy (None: no file)."""
        self.domains += 1
        name = f"d{self.domains}.test"
        records = "\n".join(f"@ MX {10 * (n + 1)} {host}.mx.test." for n, host in enumerate(hosts))
        if record:
            records += f'\n_mta-sts {ttl} TXT "{record}"\nmta-sts A {WEB}'
        self.tree.zone(name, records + "\n" + more, ttl=ttl)
        if text is not None:
            self.web.serve(f"mta-sts.{name}", text, **answer)
        if publish:
            self.tree.publish()
        return name

    def record(self, name, record):
        """Publishes another record."""
        zone = self.tree.zones[name]
        lines = [line for line in zone.records.split("\n") if not line.startswith("_mta-sts")]
        if record:
            lines.append(f'_mta-sts {zone.ttl} TXT "{record}"')
        self.tree.zone(name, "\n".join(lines), ttl=zone.ttl)
        self.tree.publish()

    def relay(self, folder, sts=None, name="relay", changes=None, kind=Ringpost):
        config = {"dns": self.tree.options, "hostname": "relay.test", "timeouts": {"drain": "1s"},
                  "tls": {"ca_file": str(self.authority.file)},
                  "sts": {"ca_file": str(self.authority.file), **(sts or {})}, **(changes or {})}
        return kind(folder / name, config, [{"domain": "*", "to": "mx"}])

    def fetches(self, name):
        return self.web.requests_of(f"mta-sts.{name}")


def send(relay, *recipients):
    with Client(relay.host, relay.port) as client:
        client.greet()
        client.mail(sender="a@client.test", recipients=recipients)


def seen(relay, name, **fields):
    """The first event of that name with these fields, whenever it came or comes."""
    for event in relay.log.events(name):
        if all(event.get(key) == value for key, value in fields.items()):
            return event
    return relay.log.wait(name, **fields)


def outcome(relay, recipient, **fields):
    return seen(relay, "delivery", recipient=recipient, **fields)


@pytest.fixture
def sinks():
    with Sink(host=FIRST, port=25) as first, Sink(host=SECOND, port=25) as second:
        yield first, second


def test_a_policy_is_fetched_once_and_shared(folder, ground, sinks):
    name = ground.domain(policy("testing", "*.mx.test"))
    with ground.relay(folder) as relay:
        for n in range(6):
            send(relay, f"u{n}@{name}")
        fetched = seen(relay, "sts_fetched", domain=name)
        assert (fetched["policy"], fetched["mode"], fetched["hosts"], fetched["max_age"]) == \
            ("1", "testing", "*.mx.test", 86400), fetched
        for n in range(6):
            assert outcome(relay, f"u{n}@{name}")["result"] == "delivered"
        (request,) = ground.fetches(name)
        assert (request.method, request.path) == ("GET", PATH)
        assert request.headers["User-Agent"].startswith("Ringpost/"), request.headers
        metrics = relay.metrics()
        assert metrics.sum("ringpost_sts_policies") == 1
        assert metrics.sum("ringpost_sts_fetches_total", result="ok") == 1
        assert metrics.sum("ringpost_sts_answers_total", mode="testing") >= 1


def test_enforced_hosts_that_are_not_named_are_left_out(folder, ground, sinks):
    """All of them: the mail waits, and the reason says why."""
    name = ground.domain(policy("enforce", "other.mx.test", "*.one.mx.test"))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert seen(relay, "unresolved", destination=name)["result"] == "unprotected"
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["code"], event["enhanced"], event["phase"]) == \
            ("deferred", 451, "4.7.5", "dns"), event
        assert name in event["reply"] and "MTA-STS policy (id 1)" in event["reply"], event
        assert not sinks[0].mails and not sinks[1].mails


@pytest.mark.parametrize("mode", ["testing", "none"])
def test_other_modes_leave_all_hosts(folder, ground, sinks, mode):
    name = ground.domain(policy(mode, "other.mx.test"))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        seen(relay, "sts_fetched", domain=name, mode=mode)
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        sinks[0].wait(1)


BAD = {
    "a redirect": (dict(status=301, headers={"Location": f"https://{WEB}{PATH}"}),
                   "sts-policy-fetch-error", "status 301"),
    "no such file": (dict(status=404), "sts-policy-fetch-error", "status 404"),
    "another type": (dict(type="text/html"), "sts-policy-fetch-error", "text/html"),
    "no type": (dict(type=None), "sts-policy-fetch-error", "missing"),
    "too big": (dict(text=policy("enforce", "nobody.test") + "x: y\n" * 20000),
                "sts-policy-fetch-error", "too big"),
    "no policy": (dict(text="<html></html>"), "sts-policy-invalid", "no field"),
    "a mode that does not exist": (dict(text=policy("strict", "a.test")), "sts-policy-invalid",
                                   "no such mode: strict"),
    "no answer": (dict(stall=True), "sts-policy-fetch-error", "timed out"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_policy_that_cannot_be_had_holds_nothing_up(folder, ground, sinks, what):
    answer, result, words = BAD[what]
    answer = {"text": policy("enforce", "nobody.test"), **answer}
    name = ground.domain(**answer)
    with ground.relay(folder, {"timeout": "2s"}) as relay:
        send(relay, f"u@{name}")
        failed = seen(relay, "sts_failed", domain=name)
        assert failed["result"] == result and words in failed["error"].lower(), failed
        assert failed["pause"] == 300 and "kept" not in failed, failed
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        # It is left alone for a while.
        send(relay, f"v@{name}")
        assert outcome(relay, f"v@{name}")["result"] == "delivered"
        assert len(ground.fetches(name)) == 1
        assert relay.metrics().sum("ringpost_sts_fetches_total", result=result) == 1


@pytest.mark.parametrize("what", ["expired", "self-signed", "another name"])
def test_the_certificate_of_the_policy_counts(folder, ground, sinks, what):
    name = ground.domain(policy("enforce", "nobody.test"))
    host = f"mta-sts.{name}"
    certificate = {"expired": lambda: ground.authority.issue(host, expired=True),
                   "self-signed": lambda: ground.authority.self_signed(host),
                   "another name": lambda: ground.authority.issue(f"www.{name}")}[what]()
    ground.web.serve(host, policy("enforce", "nobody.test"), certificate=certificate)
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        failed = seen(relay, "sts_failed", domain=name)
        assert failed["result"] == "sts-webpki-invalid", failed
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        assert not ground.fetches(name)


def test_a_server_that_is_not_there(folder, ground, sinks):
    name = ground.domain(record="v=STSv1; id=1", publish=False)
    zone = ground.tree.zones[name]
    ground.tree.zone(name, zone.records.replace(f"mta-sts A {WEB}", f"mta-sts A {NOBODY}"))
    nowhere = ground.domain(record="v=STSv1; id=1", publish=False)
    zone = ground.tree.zones[nowhere]
    ground.tree.zone(nowhere, zone.records.replace(f"mta-sts A {WEB}", ""))
    ground.tree.publish()
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        failed = seen(relay, "sts_failed", domain=name)
        assert failed["result"] == "sts-policy-fetch-error", failed
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        send(relay, f"u@{nowhere}")
        failed = seen(relay, "sts_failed", domain=nowhere)
        assert failed["error"] == f"mta-sts.{nowhere} has no address", failed
        assert outcome(relay, f"u@{nowhere}")["result"] == "delivered"


@pytest.mark.parametrize("record", [None, "v=STSv1; id=", "v=STSv1", "v=STSv2; id=1"])
def test_without_a_good_record_nothing_is_fetched(folder, ground, sinks, record):
    name = ground.domain(policy("enforce", "nobody.test"), record=record)
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        assert not ground.fetches(name)


def test_two_records_are_none(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"), more='_mta-sts TXT "v=STSv1; id=2"')
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        assert not ground.fetches(name)


def test_it_can_be_turned_off(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"))
    with ground.relay(folder, {"enabled": False}) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        assert not ground.fetches(name)
        # A reload turns it on; the destination is looked up anew with the next mail.
        relay.change({"sts": {"enabled": True}})
        relay.reload()
        relay.log.wait("config_loaded")
        wait_for_old_answers(relay, name, "1")


def test_the_first_mail_waits_for_the_policy_only_so_long(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"), stall=True)
    with ground.relay(folder, {"first_wait": "1s"}) as relay:
        send(relay, f"u@{name}")
        ground.web.wait(1, f"mta-sts.{name}")
        event = outcome(relay, f"u@{name}")
        assert event["result"] == "delivered"
        assert not relay.log.events("sts_failed")
        assert relay.metrics().sum("ringpost_sts_answers_total", mode="unknown") >= 1


def test_a_new_id_brings_the_new_policy(folder, ground, sinks):
    name = ground.domain(policy("testing", "one.mx.test"), ttl=1)
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        ground.web.serve(f"mta-sts.{name}", policy("enforce", "nobody.test"))
        ground.record(name, "v=STSv1; id=2;")
        wait_for_old_answers(relay, name, "2")
        fetched = seen(relay, "sts_fetched", domain=name, policy="2")
        assert (fetched["mode"], fetched["before"]) == ("enforce", "1"), fetched


def wait_for_old_answers(relay, name, policy_id):
    """Mails until what was learnt before has expired (TTL 1 s) and the policy counts."""
    for n in range(100):
        send(relay, f"w{n}@{name}")
        event = outcome(relay, f"w{n}@{name}")
        if event["result"] == "deferred":
            assert f"(id {policy_id})" in event["reply"], event
            return
    raise AssertionError(f"the new policy never counted: {event}")


def test_who_hides_the_record_does_not_take_the_policy_away(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"), ttl=1)
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "deferred"
        ground.record(name, None)
        again = outcome(relay, f"u@{name}", attempts=4)
        assert again["result"] == "deferred" and "(id 1)" in again["reply"], again


def test_a_failed_refresh_keeps_the_policy_until_it_expires(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test", max_age=6), ttl=1)
    with ground.relay(folder, {"retry": "1s", "refresh": "1s"}) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "deferred"
        ground.web.serve(f"mta-sts.{name}", status=503)
        failed = seen(relay, "sts_failed", domain=name)
        assert (failed["policy"], failed["kept"]) == ("1", "1"), failed
        # Nothing but its age ends it.
        assert outcome(relay, f"u@{name}", result="delivered")["attempts"] > 2
        relay.wait_metric(lambda m: m.sum("ringpost_sts_policies") == 0, "it is forgotten")


def test_policies_in_use_are_refreshed(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test", max_age=8), ttl=1)
    with ground.relay(folder, {"refresh": "1s"}) as relay:
        send(relay, f"u@{name}")
        seen(relay, "sts_fetched", domain=name)
        again = seen(relay, "sts_fetched", domain=name, before="1")
        assert again["policy"] == "1"
        # One that takes itself back.
        ground.web.serve(f"mta-sts.{name}", policy("none"))
        seen(relay, "sts_fetched", domain=name, mode="none")
        assert outcome(relay, f"u@{name}", result="delivered")


def test_policies_survive_a_restart(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"))
    kept = folder / "relay" / "spool" / "sts"
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "deferred"
    assert name in kept.read_text() and kept.stat().st_mode & 0o777 == 0o600
    ground.web.serve(f"mta-sts.{name}", status=503)
    before = len(ground.fetches(name))
    relay = ground.relay(folder)
    with relay:
        assert relay.metrics().sum("ringpost_sts_policies") == 1
        send(relay, f"v@{name}")
        event = outcome(relay, f"v@{name}")
        assert event["result"] == "deferred" and "(id 1)" in event["reply"], event
        assert len(ground.fetches(name)) == before
    # A file that cannot be read is as if there were none.
    kept.write_text("something else\n")
    with ground.relay(folder) as relay:
        assert relay.metrics().sum("ringpost_sts_policies") == 0


def test_a_death_loses_no_policy_that_was_written(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"))
    kept = folder / "relay" / "spool" / "sts"
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "deferred"
        relay.wait_metric(lambda _: kept.exists(), "the file of policies")
        relay.kill()
        relay.start()
        assert relay.metrics().sum("ringpost_sts_policies") == 1


def test_a_policy_is_its_domains_alone(folder, ground, sinks):
    """Two domains with the same hosts, one of which has a policy."""
    strict = ground.domain(policy("enforce", "nobody.test"), publish=False)
    plain = ground.domain(record=None)
    with ground.relay(folder) as relay:
        send(relay, f"u@{strict}", f"u@{plain}")
        assert outcome(relay, f"u@{plain}")["result"] == "delivered"
        assert outcome(relay, f"u@{strict}")["result"] == "deferred"


def test_the_cache_is_bounded(folder, ground, sinks):
    names = [ground.domain(policy("testing", *(f"host{n}-{'x' * 50}.mx.test" for n in range(120))),
                           publish=n == 7) for n in range(8)]
    with ground.relay(folder, {"cache_size": "64KiB"}) as relay:
        for name in names:
            send(relay, f"u@{name}")
            seen(relay, "sts_fetched", domain=name)
        metrics = relay.metrics()
        assert 0 < metrics.sum("ringpost_sts_policies") < 8
        assert metrics.sum("ringpost_sts_policies_bytes") <= 64 * 1024
        assert metrics.sum("ringpost_limit_hits_total", limit="sts_cache") > 0


def test_a_relay_that_ends_waits_for_no_fetch(folder, ground, sinks):
    name = ground.domain(policy("enforce", "nobody.test"), stall=True)
    relay = ground.relay(folder, {"first_wait": "1m"})
    with relay:
        send(relay, f"u@{name}")
        ground.web.wait(1, f"mta-sts.{name}")
        relay.stop(timeout_s=10)


# ---- with hosts that have TLS ----


@pytest.fixture
def secured(ground):
    """The first host with a good certificate, the second with one that nobody vouches for."""
    with TlsHost(FIRST, ground.authority.issue("one.mx.test")) as first, \
            TlsHost(SECOND, ground.authority.self_signed("two.mx.test")) as second:
        yield first, second


def use(host, certificate):
    """For connections from now on; None: without STARTTLS."""
    if certificate:
        host.use(certificate)
    else:
        host.context = None


def tls_of(host):
    host.wait(1)
    return [mail.tls for mail in host.mails]


def test_enforced_mail_goes_to_a_host_with_a_good_certificate(folder, ground, secured):
    name = ground.domain(policy("enforce", "*.mx.test"))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["host"]) == ("delivered", "one.mx.test"), event
        assert (event["tls_policy"], event["tls_source"], event["tls_verified"]) == \
            ("verify", "sts", "ca"), event
        assert event["site"] == "one.mx.test,two.mx.test tls=verify sts", event
        assert tls_of(secured[0]) == ["TLSv1.3"]


CERTIFICATES = {
    "self-signed": lambda a: a.self_signed("one.mx.test"),
    "expired": lambda a: a.issue("one.mx.test", expired=True),
    "another name": lambda a: a.issue("two.mx.test"),
    "the domain's name": lambda a: a.issue("mx.test"),
    "none": lambda a: None,
}


@pytest.mark.parametrize("what", CERTIFICATES)
def test_enforced_mail_waits_where_no_certificate_is_good(folder, ground, secured, what):
    name = ground.domain(policy("enforce", "*.mx.test"))
    use(secured[0], CERTIFICATES[what](ground.authority))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert event["result"] == "deferred" and event["enhanced"] in ("4.7.5", "4.7.10"), event
        use(secured[0], ground.authority.issue("one.mx.test"))
        assert outcome(relay, f"u@{name}", result="delivered")["host"] == "one.mx.test"
        assert tls_of(secured[0]) == ["TLSv1.3"]
        assert not secured[1].mails


def test_a_host_that_the_policy_does_not_name_is_left_out(folder, ground, secured):
    """Also where its certificate is the better one."""
    name = ground.domain(policy("enforce", "two.mx.test"))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["host"]) == ("deferred", "two.mx.test"), event
        assert event["site"] == "two.mx.test tls=verify sts"
        assert not secured[0].mails


@pytest.mark.parametrize("mode", ["testing", "none"])
def test_other_modes_take_any_certificate(folder, ground, secured, mode):
    name = ground.domain(policy(mode, "one.mx.test"))
    use(secured[0], ground.authority.self_signed("elsewhere.test"))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["host"]) == ("delivered", "one.mx.test"), event
        assert tls_of(secured[0]) == ["TLSv1.3"]


def test_the_neighbours_of_a_strict_domain_go_on(folder, ground, secured):
    """Pain of others: a policy of one domain must not hold up others on the same hosts."""
    strict = ground.domain(policy("enforce", "*.mx.test"), publish=False)
    plain = ground.domain(record=None)
    use(secured[0], ground.authority.self_signed("one.mx.test"))
    with ground.relay(folder) as relay:
        send(relay, f"u@{strict}", f"u@{plain}")
        assert outcome(relay, f"u@{strict}")["result"] == "deferred"
        event = outcome(relay, f"u@{plain}")
        assert (event["result"], event["host"]) == ("delivered", "one.mx.test"), event
        assert event["site"] == "one.mx.test,two.mx.test"
        # And the other way round: a strict one is not served by a connection of theirs.
        send(relay, f"v@{strict}")
        assert outcome(relay, f"v@{strict}")["result"] == "deferred"


def test_usable_records_count_instead_of_the_policy(folder, ground, secured):
    """DANE over MTA-STS: the policy names another host, and no CA knows the certificate."""
    certificate = ground.authority.self_signed("three.mx.test")
    use(secured[0], certificate)
    ground.tree.zones["mx.test"].add(
        f"three A {FIRST}\n_25._tcp.three TLSA {tlsa(3, 1, 1, certificate.certificate)}")
    name = ground.domain(policy("enforce", "nobody.test"), hosts=("three",))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["tls_policy"], event["tls_source"], event["tls_verified"]) \
            == ("delivered", "dane", "dane", "dane_ee"), event


def test_a_policy_does_not_make_up_for_records_that_do_not_match(folder, ground, secured):
    use(secured[0], ground.authority.issue("four.mx.test"))
    ground.tree.zones["mx.test"].add(f"four A {FIRST}\n_25._tcp.four TLSA 3 1 1 {OTHER}")
    name = ground.domain(policy("enforce", "four.mx.test"), hosts=("four",))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["tls_policy"], event["tls_source"]) == \
            ("deferred", "dane", "dane"), event
        assert not secured[0].mails


def test_unusable_records_leave_it_to_the_policy(folder, ground, secured):
    use(secured[0], ground.authority.issue("five.mx.test"))
    ground.tree.zones["mx.test"].add(f"five A {FIRST}\n_25._tcp.five TLSA 1 1 1 {OTHER}")
    name = ground.domain(policy("enforce", "five.mx.test"), hosts=("five",))
    with ground.relay(folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["tls_policy"], event["tls_verified"]) == \
            ("delivered", "verify", "ca"), event


def test_explain_shows_the_policy(folder, ground, secured):
    name = ground.domain(policy("enforce", "one.mx.test"))
    with ground.relay(folder, kind=Relay) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "delivered"
        explained = relay.ctl("explain", f"u@{name}")
        steps = {step["step"]: step for step in explained["steps"]}
        assert steps["mta-sts"]["answer"] == "enforce, id 1", explained
        assert "its hosts: one.mx.test" in steps["mta-sts"]["why"]
        tls = {step["question"]: step for step in explained["steps"] if step["step"] == "tls"}
        assert tls["one.mx.test"]["answer"] == "verify" and "MTA-STS" in tls["one.mx.test"]["why"]
        assert tls["two.mx.test"]["answer"] == "not used", tls
        assert explained["site"] == "one.mx.test tls=verify sts", explained
        other = ground.domain(record=None)
        steps = {step["step"]: step for step in relay.ctl("explain", f"u@{other}")["steps"]}
        assert steps["mta-sts"]["answer"] == "none is known", steps


# ---- ringpostctl ----

def operated(folder, ground, **more):
    socket = folder / "relay" / "admin.sock"
    return ground.relay(folder, changes={"admin": {"socket": str(socket)}}, kind=Relay, **more)


def test_an_operator_looks_at_policies(folder, ground, sinks):
    names = sorted(ground.domain(policy("enforce", "one.mx.test", "*.mx.test", max_age=90000),
                                 publish=False) for _ in range(3))
    broken = ground.domain("no policy", publish=False)
    none = ground.domain(policy("none", max_age=3600))
    with operated(folder, ground) as relay:
        assert relay.ctl("sts", "list")["rows"] == []
        for name in (*names, broken, none):
            send(relay, f"u@{name}")
            outcome(relay, f"u@{name}")
        rows = {row["domain"]: row for row in relay.ctl("sts", "list")["rows"]}
        assert list(rows) == sorted([*names, broken, none])
        row = rows[names[0]]
        assert (row["state"], row["policy"], row["mode"], row["mx"], row["max_age"]) == \
            ("valid", "1", "enforce", "one.mx.test, *.mx.test", 90000), row
        assert 0 <= row["age"] < 60 and row["expires_at"] > row["fetched_at"], row
        assert rows[none]["mode"] == "none" and "mx" not in rows[none], rows[none]
        assert rows[broken]["state"] == "none" and rows[broken]["again_in"] > 0, rows[broken]
        assert "policy" not in rows[broken]
        # Page by page, and one alone.
        first = relay.ctl("sts", "list", "--limit", "2")
        rest = relay.ctl("sts", "list", "--cursor", first["cursor"])
        assert [row["domain"] for row in first["rows"] + rest["rows"]] == list(rows)
        assert "cursor" not in rest
        (alone,) = relay.ctl("sts", "list", "--of", names[1].upper())["rows"]
        assert alone["domain"] == names[1]
        text = relay.ctl_text("sts", "list").stdout
        assert names[0] in text and "enforce" in text and "*.mx.test" in text


def test_an_operator_has_a_policy_fetched(folder, ground, sinks):
    name = ground.domain(policy("testing", "one.mx.test"))
    bare = ground.domain(record=None)
    with operated(folder, ground) as relay:
        # Also of a domain that no mail went to.
        fetched = relay.ctl("sts", "refresh", name.upper(), "--reason", "to see")
        assert (fetched["domain"], fetched["policy"], fetched["mode"]) == (name, "1", "testing")
        asked = seen(relay, "sts_refresh_asked", domain=name)
        assert asked["why"] == "to see" and "uid 0" in asked["who"], asked
        # What has changed under the same id is seen, too: nobody else would ask for it.
        ground.web.serve(f"mta-sts.{name}", policy("enforce", "two.mx.test"))
        assert relay.ctl("sts", "refresh", name, "--reason", "x")["mode"] == "enforce"
        assert len(ground.fetches(name)) == 2
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["result"] == "deferred"
        assert outcome(relay, f"u@{name}")["host"] == "two.mx.test"
        # A failure leaves what there is.
        ground.web.serve(f"mta-sts.{name}", "gone", status=404)
        error = relay.ctl("sts", "refresh", name, "--reason", "x", status=1)
        assert error["error"] == "refused" and "status 404" in error["text"], error
        assert "the policy that was kept stays" in error["text"]
        (row,) = relay.ctl("sts", "list", "--of", name)["rows"]
        assert (row["state"], row["mode"]) == ("valid", "enforce") and row["again_in"] > 0
        error = relay.ctl("sts", "refresh", bare, "--reason", "x", status=1)
        assert error["error"] == "not_found" and f"_mta-sts.{bare}" in error["text"], error
        for odd in ("*.mx.test", "a b", "a..b", "x" * 64 + ".test"):
            error = relay.ctl("sts", "refresh", odd, "--reason", "x", status=1)
            assert error["error"] == "refused", odd


def test_nothing_is_refreshed_where_policies_are_off(folder, ground, sinks):
    name = ground.domain(policy("enforce", "one.mx.test"))
    with operated(folder, ground, sts={"enabled": False}) as relay:
        error = relay.ctl("sts", "refresh", name, "--reason", "x", status=1)
        assert (error["error"], error["text"]) == ("refused", "sts.enabled is false")
        assert not ground.fetches(name)


def test_a_stop_does_not_wait_for_a_refresh(folder, ground, sinks):
    name = ground.domain()
    ground.web.serve(f"mta-sts.{name}", stall=True)
    with operated(folder, ground, sts={"timeout": "1m"}) as relay:
        with relay.admin() as admin:
            admin.write(b'{"version":1,"command":"sts refresh","of":"%s","reason":"x"}\n'
                        % name.encode())
            ground.web.wait(1, f"mta-sts.{name}")
            relay.stop(timeout_s=20)
            assert admin.answer()["error"] == "shutting_down"
