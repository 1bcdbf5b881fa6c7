# SPDX-License-Identifier: Apache-2.0
"""Reports about TLS (RFC 8460): what is counted, where it is sent, and what the receiver reads.

Domains are in a signed tree of nsd; an HTTPS server on loopback has their policies (MTA-STS) and
takes the reports. Ports 25 and 443 need root.
"""
import datetime
import gzip
import json
import os
import shutil

import pytest

import peers
from test_admin import Relay
from test_sts import FIRST, SECOND, WEB, Ground, outcome, policy, seen, send
from authority import Authority
from dns_tree import Tree
from policy_host import PolicyHost
from sink import Sink
from test_dane import OTHER
from tls_host import TlsHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ports 25 and 443 need root")
REPORTS = "reports.mx.test"
RECORD = f"v=TLSRPTv1; rua=mailto:tls@mx.test,https://{REPORTS}/v1"


@pytest.fixture(scope="module")
def ground():
    folder = peers.open_folder("tls-report")
    authority = Authority(folder / "authority")
    with Tree(folder / "tree") as tree, PolicyHost(WEB, authority) as web:
        tree.zone("mx.test", f"one A {FIRST}\nreports A {WEB}")
        web.serve(REPORTS, status=201)
        yield Ground(tree, web, authority)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def clean(ground):
    ground.web.posts.clear()
    ground.web.serve(REPORTS, status=201)


@pytest.fixture
def sinks():
    with Sink(host=FIRST, port=25) as first:
        yield first


def wanting(ground, *arguments, record=RECORD, **options):
    """A domain that wants reports."""
    more = f'_smtp._tls TXT "{record}"' if record else ""
    return ground.domain(*arguments, hosts=("one",), more=more, **options)


def relay_of(ground, folder, workers=2, **options):
    reports = {"ca_file": str(ground.authority.file), "spread": "0s", "retry": "1s", **options}
    return ground.relay(folder, kind=Relay, changes={"tls_reports": reports, "workers": workers})


def send_reports(relay):
    return relay.ctl("report", "send", "--reason", "test")


def read(post):
    assert post.path == "/v1" and post.headers["Content-Type"] == "application/tlsrpt+gzip", post
    return json.loads(gzip.decompress(post.body))


def midnight(days=0):
    today = datetime.datetime.utcnow().replace(hour=0, minute=0, second=0, microsecond=0)
    return today + datetime.timedelta(days=days)


def stamp(when):
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_policy_that_cannot_be_had_is_reported(folder, ground, sinks):
    name = wanting(ground, policy("enforce", "one.mx.test"), status=404)
    with relay_of(ground, folder) as relay:
        limits = relay.log.wait("tls_reports_ready")
        assert limits["enabled"] and "DKIM" in limits["limits"], limits
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        send_reports(relay)
        (post,) = ground.web.wait_posts(1)
        sent = relay.log.wait("tls_report_sent", domain=name)
        # The policy, and the session with a host that has no STARTTLS.
        assert sent["failures"] == 2 and sent["size"] == len(post.body), sent
        assert sent["day"] == midnight().strftime("%Y-%m-%dT%H:%M:%S.000Z"), sent
        assert seen(relay, "tls_reports_asked")["why"] == "test"
    report = read(post)
    assert report["organization-name"] == "relay.test"
    assert report["contact-info"] == "postmaster@relay.test"
    assert report["report-id"].endswith("@relay.test"), report
    assert report["date-range"]["start-datetime"] == stamp(midnight())
    assert report["date-range"]["end-datetime"] <= stamp(datetime.datetime.utcnow())
    found = {one["policy"]["policy-type"]: one for one in report["policies"]}
    sts = found["sts"]
    assert sts["policy"]["policy-domain"] == name
    assert sts["summary"]["total-failure-session-count"] == 1
    (detail,) = sts["failure-details"]
    assert detail["result-type"] == "sts-policy-fetch-error"
    assert detail["failed-session-count"] == 1
    assert "status 404" in detail["failure-reason-code"], detail


def test_hosts_that_the_policy_does_not_name_are_reported(folder, ground, sinks):
    name = wanting(ground, policy("enforce", "*.other.test", "two.mx.test", max_age=86400))
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="deferred")
        send_reports(relay)
        (post,) = ground.web.wait_posts(1)
    (one,) = read(post)["policies"]
    assert one["policy"] == {
        "policy-type": "sts", "policy-domain": name, "mx-host": ["*.other.test", "two.mx.test"],
        "policy-string": ["version: STSv1", "mode: enforce", "mx: *.other.test",
                          "mx: two.mx.test", "max_age: 86400"]}
    assert one["failure-details"][0]["result-type"] == "validation-failure"


def test_a_day_that_is_over_is_reported_after_a_restart(folder, ground, sinks):
    name = wanting(ground, policy("enforce", "one.mx.test"), status=404)
    kept = folder / "relay" / "spool" / "tls-reports"
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
    results = json.loads(kept.read_text())
    (day,) = results["days"]
    results["days"] = {str(int(day) - 1): results["days"][day]}
    kept.write_text(json.dumps(results))
    with relay_of(ground, folder) as relay:
        relay.log.wait("tls_report_sent", domain=name)
        (post,) = ground.web.wait_posts(1)
        relay.wait_metric(lambda m: m.sum("ringpost_tls_reports_total", result="sent") == 1,
                          "the count of reports")
    assert read(post)["date-range"] == {
        "start-datetime": stamp(midnight(-1)),
        "end-datetime": stamp(midnight() - datetime.timedelta(seconds=1))}
    # What was sent is not kept.
    with relay_of(ground, folder) as relay:
        pass
    assert name not in kept.read_text()


def test_a_report_that_is_not_taken_is_tried_again(folder, ground, sinks):
    name = wanting(ground, policy("enforce", "one.mx.test"), status=404)
    ground.web.serve(REPORTS, status=500)
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        send_reports(relay)
        failed = relay.log.wait("tls_report_failed", domain=name)
        assert "status 500" in failed["error"] and failed["pause"] == 1, failed
        assert not failed["given_up"]
        ground.web.serve(REPORTS, status=200)
        relay.log.wait("tls_report_sent", domain=name)
        assert len(ground.web.posts) >= 2


def test_a_report_is_given_up_after_a_day(folder, ground, sinks):
    name = wanting(ground, policy("enforce", "one.mx.test"), status=404)
    kept = folder / "relay" / "spool" / "tls-reports"
    ground.web.serve(REPORTS, status=500)
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        send_reports(relay)
        relay.log.wait("tls_report_failed", domain=name)
    results = json.loads(kept.read_text())
    for domains in results["days"].values():
        domains[name]["until"] = domains[name]["due"]
    kept.write_text(json.dumps(results))
    with relay_of(ground, folder) as relay:
        assert relay.log.wait("tls_report_failed", domain=name, given_up=True)


@pytest.mark.parametrize("record", [None, "v=TLSRPTv1; rua=mailto:tls@mx.test", "v=TLSRPTv1;",
                                    f"v=TLSRPTv1; rua=http://{REPORTS}/v1"])
def test_who_names_no_address_gets_none(folder, ground, sinks, record):
    name = wanting(ground, policy("enforce", "one.mx.test"), record=record, status=404)
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        send_reports(relay)
        relay.wait_metric(lambda m: m.sum("ringpost_tls_reports_total", result="unwanted") == 1,
                          "a report that nobody wants")
        assert not ground.web.posts and not relay.log.events("tls_report_failed")


def test_reports_can_be_turned_off(folder, ground, sinks):
    name = wanting(ground, policy("enforce", "one.mx.test"), status=404)
    with relay_of(ground, folder, enabled=False) as relay:
        assert not relay.log.wait("tls_reports_ready")["enabled"]
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        refused = relay.ctl("report", "send", "--reason", "x", status=1)
        assert refused["text"] == "tls_reports.enabled is false", refused
    kept = folder / "relay" / "spool" / "tls-reports"
    assert not kept.exists() or name not in kept.read_text()


# ---- sessions with hosts ----


@pytest.fixture
def host(ground):
    with TlsHost(FIRST, ground.authority.issue("one.mx.test")) as running:
        yield running


def counted(ground, relay):
    """Has the reports sent, and returns the policies of the first by their type."""
    send_reports(relay)
    (post,) = ground.web.wait_posts(1)
    return {one["policy"]["policy-type"]: one for one in read(post)["policies"]}


def sessions(one):
    return (one["summary"]["total-successful-session-count"],
            one["summary"]["total-failure-session-count"])


def test_sessions_that_go_well_are_counted(folder, ground, host):
    name = wanting(ground, policy("enforce", "one.mx.test"))
    with relay_of(ground, folder) as relay:
        for n in range(3):
            send(relay, f"u{n}@{name}")
            outcome(relay, f"u{n}@{name}", result="delivered")
        found = counted(ground, relay)
    good, bad = sessions(found["sts"])
    # One connection may carry all three; each worker that has one counts it.
    assert 1 <= good <= 3 and bad == 0 and "failure-details" not in found["sts"], found


def test_without_a_policy_sessions_are_counted_too(folder, ground, host):
    host.use(ground.authority.self_signed("elsewhere.test"))
    name = wanting(ground, record=RECORD, publish=False)
    ground.record(name, None)
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        found = counted(ground, relay)
    assert sessions(found["no-policy-found"]) == (1, 0), found
    assert found["no-policy-found"]["policy"] == {"policy-type": "no-policy-found",
                                                  "policy-domain": name}


FAILURES = {
    "certificate-expired": lambda a: a.issue("one.mx.test", expired=True),
    "certificate-host-mismatch": lambda a: a.issue("two.mx.test"),
    "certificate-not-trusted": lambda a: a.self_signed("one.mx.test"),
    "starttls-not-supported": lambda a: None,
}


@pytest.mark.parametrize("result", FAILURES)
@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_failures_are_told_apart(folder, ground, host, mode, result):
    certificate = FAILURES[result](ground.authority)
    if certificate:
        host.use(certificate)
    else:
        host.context = None
    name = wanting(ground, policy(mode, "one.mx.test"))
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}",
                result="deferred" if mode == "enforce" else "delivered")
        found = counted(ground, relay)
    good, bad = sessions(found["sts"])
    assert good == 0 and bad >= 1, found
    (detail,) = found["sts"]["failure-details"]
    assert detail["result-type"] == result, detail
    assert detail["receiving-mx-hostname"] == "one.mx.test"
    assert detail["receiving-ip"] == FIRST and detail["sending-mta-ip"].startswith("127."), detail
    assert detail["failed-session-count"] == bad
    assert "mode: " + mode in found["sts"]["policy"]["policy-string"]


def test_in_testing_hosts_that_are_not_named_are_told(folder, ground, host):
    name = wanting(ground, policy("testing", "other.mx.test"))
    with relay_of(ground, folder, workers=1) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        found = counted(ground, relay)
    assert sessions(found["sts"]) == (0, 1)
    assert found["sts"]["failure-details"][0]["result-type"] == "validation-failure", found


def test_records_that_do_not_match_are_told(folder, ground, host):
    ground.tree.zones["mx.test"].add(f"three A {FIRST}\n_25._tcp.three TLSA 3 1 1 {OTHER}")
    name = ground.domain(hosts=("three",), record=None, more=f'_smtp._tls TXT "{RECORD}"')
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="deferred")
        found = counted(ground, relay)
    (one,) = found.values()
    assert one["policy"]["policy-type"] == "tlsa", one
    assert one["policy"]["policy-string"] == [f"3 1 1 {OTHER}"], one
    assert one["failure-details"][0]["result-type"] == "tlsa-invalid", one
    assert one["failure-details"][0]["receiving-mx-hostname"] == "three.mx.test"


def test_a_route_is_no_policy_of_the_domain(folder, ground, host):
    name = wanting(ground, policy("enforce", "one.mx.test"))
    with relay_of(ground, folder) as relay:
        relay.change({"routes": [{"domain": "*", "to": "mx", "tls": "encrypt"}]})
        relay.reload()
        relay.log.wait("config_loaded")
        send(relay, f"u@{name}")
        outcome(relay, f"u@{name}", result="delivered")
        send_reports(relay)
        other = wanting(ground, policy("enforce", "nobody.test"), status=404)
        relay.change({"routes": [{"domain": "*", "to": "mx"}]})
        relay.reload()
        relay.log.wait("config_loaded")
        send(relay, f"u@{other}")
        outcome(relay, f"u@{other}", result="delivered")
        send_reports(relay)
        relay.log.wait("tls_report_sent", domain=other)
        assert not [event for event in relay.log.events("tls_report_sent")
                    if event["domain"] == name]


# ---- answers that DNSSEC finds forged ----

def test_records_that_are_bogus_are_told(folder, ground, host):
    """Those of one host, the other of which is used."""
    ground.tree.zone("spoilt.test", f"one A {SECOND}\n_25._tcp.one TLSA 3 1 1 {OTHER}",
                     damage=lambda text: text.replace(OTHER, "0e" * 32))
    name = ground.domain(hosts=("one",), record=None, publish=False,
                         more=f'_smtp._tls TXT "{RECORD}"\n@ MX 5 one.spoilt.test.')
    ground.tree.publish()
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        assert outcome(relay, f"u@{name}")["host"] == "one.mx.test"
        found = counted(ground, relay)
    one = found["tlsa"]
    assert sessions(one)[0] == 0 and sessions(one)[1] >= 1, one
    (detail,) = one["failure-details"]
    assert detail["result-type"] == "dnssec-invalid", detail
    assert detail["receiving-mx-hostname"] == "one.spoilt.test", detail
    assert "receiving-ip" not in detail and "sending-mta-ip" not in detail, detail
    assert sessions(found["no-policy-found"]) == (1, 0), found


def test_hosts_that_are_bogus_are_told(folder, ground):
    name = ground.domain(hosts=("one",), record=None, publish=False,
                         more=f'_smtp._tls TXT "{RECORD}"')
    ground.tree.zones[name].damage = lambda text: text.replace("10 one.mx.test.", "11 one.mx.test.")
    ground.tree.publish()
    with relay_of(ground, folder) as relay:
        send(relay, f"u@{name}")
        event = outcome(relay, f"u@{name}")
        assert (event["result"], event["enhanced"]) == ("deferred", "4.4.3"), event
        found = counted(ground, relay)
    (detail,) = found["tlsa"]["failure-details"]
    assert detail["result-type"] == "dnssec-invalid", detail
    assert "receiving-mx-hostname" not in detail, detail
