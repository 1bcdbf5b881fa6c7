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
from test_sts import FIRST, WEB, Ground, outcome, policy, seen, send
from authority import Authority
from dns_tree import Tree
from policy_host import PolicyHost
from sink import Sink

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


def relay_of(ground, folder, **options):
    reports = {"ca_file": str(ground.authority.file), "spread": "0s", "retry": "1s", **options}
    return ground.relay(folder, kind=Relay, changes={"tls_reports": reports})


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
        assert sent["failures"] == 1 and sent["size"] == len(post.body), sent
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
