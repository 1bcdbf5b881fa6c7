# SPDX-License-Identifier: Apache-2.0
"""The resolver against a signed tree of zones: what is validated, what is not, and what fails."""
import json
import os
import subprocess

import pytest

import peers
from daemon import Ringpost
from dns_tree import SERVFAIL, SILENT, Front, Silent, Tree

TLSA = "3 1 1 " + "07" * 32
HOSTS = f"""
@ MX 20 mx2
@ MX 10 mx1
@ TXT "v=spf1 " "-all"
mx1 A 127.0.0.11
mx2 A 127.0.0.12
mx2 AAAA 2001:db8::12
_25._tcp.mx1 TLSA {TLSA}
*.wild MX 5 mx1
alias CNAME mx1
nullmx MX 0 .
empty A 127.0.0.13
nohost MX 10 nowhere
away MX 10 mx1.plain.test.
"""
MANY = 1000
TO_MX = [{"domain": "*", "to": "mx"}]


@pytest.fixture(scope="module")
def tree():
    with Tree(peers.open_folder("dns") / "tree") as running:
        many = "\n".join(f"c{n} MX 5 h{n}\nh{n} A 127.1.{n >> 8}.{n & 255}" for n in range(MANY))
        running.zone("good.test", HOSTS + many)
        running.zone("plain.test", HOSTS, signed=False)
        running.zone("bogus.test", HOSTS, damage=True)
        running.zone("expired.test", HOSTS, expired=True)
        running.zone("fails.test", "", signed=False, fails=True)
        running.zone("mixed.test", "\n".join([
            "@ MX 10 mx1.bogus.test.", "@ MX 20 mx1.good.test.", "worse MX 10 mx1.bogus.test.",
            "failing MX 10 mx.fails.test.", "late MX 10 mx1.good.test.",
            "late MX 20 mx.fails.test."]))
        running.zone("large.test", "\n".join(f'@ TXT "{n:03}{"x" * 240}"' for n in range(30)))
        running.publish()
        yield running


def run_tool(arguments, questions=None, timeout_s=60):
    """The tool's answers in their order, and what it wrote on standard error."""
    command = [os.environ["RINGPOST_RESOLVE"], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s,
                          input=questions)
    assert done.returncode == 0, f"{command}: {done.returncode} {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()
            if line.startswith("{")], done.stderr, done.stdout


def options_of(tree):
    return ["--anchors", tree.anchor, "--forwarder", tree.forwarder.replace("@", ":"),
            "--transparent", "test"]


def ask(tree, *arguments):
    """The answers by their question."""
    answers, _, _ = run_tool([*options_of(tree), *arguments])
    return {answer["question"]: answer for answer in answers}


def shown(answer):
    return answer["outcome"], answer["security"], sorted(map(str, answer["records"]))


def test_a_signed_zone_is_secure(tree):
    rows = {
        "MX/good.test": ("found", [[10, "mx1.good.test"], [20, "mx2.good.test"]]),
        "TXT/good.test": ("found", ["v=spf1 -all"]),
        "A/mx1.good.test": ("found", ["127.0.0.11"]),
        "AAAA/mx2.good.test": ("found", ["2001:db8::12"]),
        "TLSA/_25._tcp.mx1.good.test": ("found", ["030101" + "07" * 32]),
        "A/alias.good.test": ("found", ["127.0.0.11"]),
        "CNAME/alias.good.test": ("found", ["mx1.good.test"]),
        "MX/some.wild.good.test": ("found", [[5, "mx1.good.test"]]),
        "AAAA/mx1.good.test": ("no_data", []),
        "A/nowhere.good.test": ("no_domain", []),
        "TLSA/_25._tcp.mx2.good.test": ("no_domain", []),
    }
    answers = ask(tree, *rows)
    for question, (outcome, records) in rows.items():
        assert shown(answers[question]) == (outcome, "secure", sorted(map(str, records))), question
    assert answers["A/alias.good.test"]["name"] == "mx1.good.test"
    assert 50000 < answers["MX/good.test"]["ttl_ms"] <= 60000
    assert 20000 < answers["A/nowhere.good.test"]["ttl_ms"] <= 30000


def test_an_unsigned_zone_is_insecure(tree):
    answers = ask(tree, "MX/plain.test", "A/nowhere.plain.test", "AAAA/mx1.plain.test",
                  "mx/plain.test", "mx/away.good.test")
    assert shown(answers["MX/plain.test"])[:2] == ("found", "insecure")
    assert shown(answers["A/nowhere.plain.test"])[:2] == ("no_domain", "insecure")
    assert shown(answers["AAAA/mx1.plain.test"])[:2] == ("no_data", "insecure")
    assert not answers["mx/plain.test"]["mx_secure"]
    # A signed domain whose host is in an unsigned zone.
    away = answers["mx/away.good.test"]
    assert away["mx_secure"] and [h["secure"] for h in away["hosts"]] == [False]


# Hosts and what is to be known of their TLSA records: outcome, base, how many; None: not asked.
TLSA_ROWS = {
    "dane-mx/records.dane.test": ("found", "ok.dane.test", 2),
    "dane-mx/none.dane.test": ("no_domain", "mx.dane.test", 0),
    "dane-mx/implicit.dane.test": ("found", "implicit.dane.test", 1),
    "dane-mx/alias.dane.test": ("found", "ok.dane.test", 2),
    "dane-mx/own.dane.test": ("found", "own-alias.dane.test", 1),
    "dane-mx/away.dane.test": ("found", "away-alias.dane.test", 1),
    "dane-mx/fails.dane.test": ("failed", "broken.dane.test", 0),
    "dane-mx/bogus.dane.test": ("bogus", "ok.altered.test", 0),
    "dane-mx/islands.dane.test": None,
    "dane-mx/unsigned.test": None,
    "dane-mx/insecure.unsigned.test": None,
    "mx/records.dane.test": None,
    "dane-host/ok.dane.test:2525": ("found", "ok.dane.test", 1),
    "dane-host/mx.dane.test:25": ("no_domain", "mx.dane.test", 0),
    "dane-host/ok.unsigned.test:25": None,
    "dane-host/127.0.0.11:25": None,
}


@pytest.fixture(scope="module")
def dane_front(tree):
    tree.zone("dane.test", f"""
records MX 10 ok
ok A 127.0.0.11
_25._tcp.ok TLSA {TLSA}
_25._tcp.ok TLSA 2 0 1 {"08" * 32}
_2525._tcp.ok TLSA {TLSA}
none MX 10 mx
mx A 127.0.0.12
implicit A 127.0.0.12
_25._tcp.implicit TLSA {TLSA}
alias MX 10 ok-alias
ok-alias CNAME ok
own MX 10 own-alias
own-alias CNAME mx
_25._tcp.own-alias TLSA {TLSA}
away MX 10 away-alias
away-alias CNAME ok.unsigned.test.
_25._tcp.away-alias TLSA {TLSA}
fails MX 10 broken
broken A 127.0.0.13
_25._tcp.broken TLSA {TLSA}
bogus MX 10 ok.altered.test.
islands MX 10 ok.unsigned.test.
unasked A 127.0.0.14
_25._tcp.unasked TLSA {TLSA}
""")
    tree.zone("unsigned.test", f"""
@ MX 10 ok
ok A 127.0.0.11
_25._tcp.ok TLSA {TLSA}
insecure MX 10 unasked.dane.test.
""", signed=False)
    tree.zone("altered.test", f"ok A 127.0.0.11\n_25._tcp.ok TLSA {TLSA}",
              damage=lambda text: text.replace("07" * 32, "06" * 32).replace(
                  "07" * 28, "06" * 28))
    tree.publish()
    with Front(tree) as front:
        yield front


def test_tlsa_records_of_hosts_on_secure_ways(tree, dane_front):
    front = dane_front
    front.faults["_25._tcp.broken.dane.test", "TLSA"] = SERVFAIL
    answers, _, _ = run_tool(["--anchors", tree.anchor, "--transparent", "test", "--forwarder",
                              front.forwarder.replace("@", ":"), *TLSA_ROWS])
    answers = {answer["question"]: answer for answer in answers}
    for question, row in TLSA_ROWS.items():
        assert answers[question]["outcome"] == "found", answers[question]
        host, = answers[question]["hosts"]
        if row is None:
            assert "tlsa" not in host, (question, host)
            continue
        known = host["tlsa"], host["tlsa_base"], len(host["tlsa_records"])
        assert known == row, (question, host)
        # A denial counts only when it was validated, too.
        assert host["tlsa_secure"] == (row[0] in ("found", "no_domain")), (question, host)
        least = 30000 if row[0] in ("failed", "bogus") else 60000
        assert 0 < answers[question]["ttl_ms"] <= least, (question, answers[question])
    # Nobody was asked where the way is not secure: some servers fail for such questions.
    assert not [name for name in front.questions("TLSA")
                if name.endswith((".unsigned.test", ".unasked.dane.test"))]
    assert "_25._tcp.away-alias.dane.test" in front.questions("TLSA")


def test_tlsa_records_that_do_not_come_in_time_are_a_failure(tree, dane_front):
    """The hosts stay known, and none of them without the note."""
    dane_front.faults["_25._tcp.ok.dane.test", "TLSA"] = SILENT
    answers, _, _ = run_tool(["--anchors", tree.anchor, "--transparent", "test", "--deadline", 800,
                              "--forwarder", dane_front.forwarder.replace("@", ":"),
                              "dane-mx/records.dane.test", "mx/records.dane.test"])
    answers = {answer["question"]: answer for answer in answers}
    late, = answers["dane-mx/records.dane.test"]["hosts"]
    assert late["tlsa"] == "failed" and late["addresses"] == ["127.0.0.11:25"], late
    assert 700 < answers["dane-mx/records.dane.test"]["ms"] < 5000
    assert answers["mx/records.dane.test"]["ms"] < 700
    del dane_front.faults["_25._tcp.ok.dane.test", "TLSA"]


def test_what_was_altered_is_bogus(tree):
    answers = ask(tree, "MX/bogus.test", "A/mx1.bogus.test", "A/mx2.bogus.test", "mx/bogus.test")
    for question in ("MX/bogus.test", "A/mx1.bogus.test"):
        assert answers[question]["outcome"] == "bogus", answers[question]
        assert answers[question]["records"] == []
        assert "signature verification failed" in answers[question]["why"]
    # What was left alone in the same zone is what it was.
    assert shown(answers["A/mx2.bogus.test"]) == ("found", "secure", ["127.0.0.12"])
    lookup = answers["mx/bogus.test"]
    assert (lookup["outcome"], lookup["status"], lookup["temporary"]) == ("bogus", "4.4.3", True)
    assert lookup["why"].startswith("MX bogus.test: validation failure")
    assert lookup["hosts"] == [] and 0 < lookup["ttl_ms"] <= 15000


def test_a_signature_of_the_past_is_bogus(tree):
    answer = ask(tree, "MX/expired.test")["MX/expired.test"]
    assert answer["outcome"] == "bogus" and "expired" in answer["why"], answer


def test_what_fails_may_pass(tree):
    answers = ask(tree, "MX/fails.test", "mx/fails.test", "mx/failing.mixed.test")
    assert answers["MX/fails.test"]["outcome"] == "failed"
    assert "SERVFAIL" in answers["MX/fails.test"]["why"]
    for question in ("mx/fails.test", "mx/failing.mixed.test"):
        assert answers[question]["outcome"] == "failed", answers[question]
        assert answers[question]["status"] == "4.4.3" and answers[question]["temporary"]
        assert 0 < answers[question]["ttl_ms"] <= 5000


def test_some_hosts_are_enough(tree):
    answers = ask(tree, "mx/mixed.test", "mx/worse.mixed.test", "mx/late.mixed.test")
    assert [h["name"] for h in answers["mx/mixed.test"]["hosts"]] == ["mx1.good.test"]
    assert answers["mx/mixed.test"]["site"] == "mx1.bogus.test,mx1.good.test"
    assert answers["mx/worse.mixed.test"]["outcome"] == "bogus"
    assert [h["name"] for h in answers["mx/late.mixed.test"]["hosts"]] == ["mx1.good.test"]
    assert answers["mx/late.mixed.test"]["ttl_ms"] <= 30000


def test_hosts_of_domains(tree):
    answers = ask(tree, "mx/good.test", "mx/nullmx.good.test", "mx/empty.good.test",
                  "mx/nohost.good.test", "mx/nowhere.good.test", "mx/[127.0.0.1]",
                  "mx/[IPv6:::1]", "mx/[nonsense]", "mx/not a name", "host/mx2.good.test:24",
                  "host/192.0.2.1:24")
    good = answers["mx/good.test"]
    assert good["mx_secure"] and good["site"] == "mx1.good.test,mx2.good.test"
    assert good["hosts"] == [
        {"name": "mx1.good.test", "preference": 10, "secure": True,
         "addresses": ["127.0.0.11:25"]},
        {"name": "mx2.good.test", "preference": 20, "secure": True,
         "addresses": ["[2001:db8::12]:25", "127.0.0.12:25"]}]
    rows = {"mx/nullmx.good.test": ("null_mx", "5.1.10"),
            "mx/nohost.good.test": ("no_host", "5.4.4"),
            "mx/nowhere.good.test": ("no_domain", "5.1.2"),
            "mx/[nonsense]": ("no_host", "5.4.4"), "mx/not a name": ("no_domain", "5.1.2")}
    for question, wanted in rows.items():
        assert (answers[question]["outcome"], answers[question]["status"]) == wanted, question
    assert answers["mx/empty.good.test"]["implicit"]
    assert answers["mx/empty.good.test"]["hosts"][0]["addresses"] == ["127.0.0.13:25"]
    assert answers["mx/[127.0.0.1]"]["hosts"][0]["addresses"] == ["127.0.0.1:25"]
    assert answers["mx/[IPv6:::1]"]["hosts"][0]["addresses"] == ["[::1]:25"]
    assert answers["host/mx2.good.test:24"]["hosts"][0]["addresses"] == [
        "[2001:db8::12]:24", "127.0.0.12:24"]
    assert answers["host/192.0.2.1:24"]["literal"]


def test_names_of_the_configuration_use_hosts_and_search(tree, folder):
    hosts = folder / "hosts"
    hosts.write_text("192.0.2.7 redis mx1.good.test\n")
    answers = ask(tree, "--hosts", hosts, "--search", "nowhere.test", "--search", "good.test",
                  "host/redis:6379", "host/mx1.good.test:24", "host/mx2:24", "host/mx2.:24",
                  "A/mx1.good.test", "mx/good.test")
    assert answers["host/redis:6379"]["hosts"][0]["addresses"] == ["192.0.2.7:6379"]
    assert answers["host/mx1.good.test:24"]["hosts"][0]["addresses"] == ["192.0.2.7:24"]
    assert answers["host/mx2:24"]["domain"] == "mx2.good.test"
    assert answers["host/mx2.:24"]["outcome"] == "no_host"
    # Mail never uses them.
    assert answers["A/mx1.good.test"]["records"] == ["127.0.0.11"]
    assert answers["mx/good.test"]["hosts"][0]["addresses"] == ["127.0.0.11:25"]


def test_the_forwarders_of_this_host_are_asked(folder, root):
    conf = folder / "resolv.conf"
    with Tree(folder / "tree", port=53) as tree:
        tree.zone("here.test", "@ MX 10 mx1\nmx1 A 127.0.0.11")
        tree.publish()
        conf.write_text(f"search example.org\nnameserver {tree.host}\noptions edns0\n")
        answers, _, _ = run_tool(["--anchors", tree.anchor, "--resolv-conf", conf,
                                  "--transparent", "test", "mx/here.test"])
    assert answers[0]["outcome"] == "found" and answers[0]["mx_secure"]


def test_ourselves_are_a_loop(tree):
    questions = ["mx/good.test", "mx/empty.good.test", "mx/[127.0.0.13]"]
    answers = ask(tree, "--self-name", "MX1.good.test", "--self-address", "127.0.0.13:2525",
                  *questions)
    for question in questions:
        assert (answers[question]["outcome"], answers[question]["status"]) == ("loop", "5.4.6")
    answers = ask(tree, "--self-name", "mx2.good.test", "mx/good.test")
    assert answers["mx/good.test"]["site"] == "mx1.good.test"


def test_without_anchors_everything_is_believed(tree):
    answers, _, _ = run_tool(["--forwarder", tree.forwarder.replace("@", ":"), "--transparent",
                              "test", "MX/good.test", "MX/bogus.test"])
    assert all(shown(answer)[:2] == ("found", "insecure") for answer in answers)


def test_a_large_answer_comes_over_tcp(tree):
    answer = ask(tree, "TXT/large.test")["TXT/large.test"]
    assert shown(answer)[:2] == ("found", "secure")
    assert len(answer["records"]) == 30 and len(set(answer["records"])) == 30


def test_a_silent_server_costs_the_deadline(tree):
    with Silent() as silent:
        answers, errors, _ = run_tool([
            "--forwarder", silent.forwarder.replace("@", ":"), "--transparent", "test",
            "--deadline", 1000, "--log", 1, "MX/good.test", "A/good.test", "mx/plain.test"])
    for answer in answers:
        assert answer["outcome"] == "failed" and 995 <= answer["ms"] < 10000, answer
        assert answer["why"].endswith("no answer in time")
    events = [json.loads(line) for line in errors.splitlines()]
    failed = [e for e in events if e["event"] == "dns_failed"]
    assert {(e["name"], e["type"]) for e in failed} >= {("good.test", "MX"), ("good.test", "A")}
    assert all(e["why"] == "no answer in time" and e["duration"] >= 1 for e in failed)


def test_a_server_that_is_not_there(tree):
    with Silent() as silent:
        gone = silent.forwarder.replace("@", ":")
    answers, _, _ = run_tool(["--forwarder", gone, "--transparent", "test", "--deadline", 4000,
                              "MX/good.test"])
    assert answers[0]["outcome"] == "failed"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thousand_domains(tree, threads):
    questions = "\n".join([f"mx/c{n}.good.test" for n in range(MANY)])
    answers, _, out = run_tool([*options_of(tree), "--queries", 128 * threads, "--threads", threads,
                                "--metrics", 1, "-"], f"{questions}\nwait\n{questions}\n", 120)
    assert len(answers) == 2 * MANY * threads
    for answer in answers:
        n = int(answer["question"][len("mx/c"):].split(".")[0])
        assert answer["outcome"] == "found" and answer["mx_secure"], answer
        assert answer["hosts"][0]["addresses"] == [f"127.1.{n >> 8}.{n & 255}:25"]
    counters = dict(line.rsplit(" ", 1) for line in out.splitlines() if line.startswith("ringpost"))
    assert int(counters["ringpost_dns_mx_lookups_total"]) == 2 * MANY * threads
    assert int(counters["ringpost_dns_mx_cache_hits_total"]) == MANY * threads
    assert int(counters["ringpost_dns_questions_under_way"]) == 0


@pytest.mark.parametrize("how", ["--cancel", "--stop"])
def test_questions_may_be_left_open(tree, how):
    questions = [f"mx/c{n}.good.test" for n in range(200)]
    questions += [f"A/h{n}.good.test" for n in range(200)]
    answers, _, _ = run_tool([*options_of(tree), "--queries", 32, how, 20, *questions])
    outcomes = [answer["outcome"] for answer in answers]
    assert len(answers) == len(questions)
    left = outcomes.count("cancelled" if how == "--cancel" else "failed")
    assert 0 < left <= len(questions) - 20 and outcomes.count("found") == len(questions) - left


def test_failures_are_events(tree):
    _, errors, _ = run_tool([*options_of(tree), "--log", 1, "MX/bogus.test", "MX/fails.test",
                             "MX/nowhere.good.test", "wait", "MX/bogus.test"])
    events = [json.loads(line) for line in errors.splitlines()]
    assert sorted((e["event"], e["name"], e["outcome"]) for e in events) == [
        ("dns_failed", "bogus.test", "bogus"), ("dns_failed", "fails.test", "failed")]
    assert "signature" in next(e["why"] for e in events if e["outcome"] == "bogus")


def test_the_daemon_says_whether_it_validates(tree, folder):
    with Ringpost(folder / "yes", {"dns": tree.options}) as relay:
        assert relay.log.wait("dns_ready")["validates"] is True
    unsafe = {"dns": {**tree.options, "trust_anchors": "none"}}
    with Ringpost(folder / "no", unsafe) as relay:
        ready = relay.log.wait("dns_ready")
        assert ready["validates"] is False and "dns.trust_anchors" in ready["why"]


def test_the_daemon_says_whether_validation_works(tree, folder):
    """By one event after the start."""
    with Front(tree, strips=True) as stripping, Silent() as silent:
        rows = {
            "works": (tree.options, True, "", ""),
            "none": ({**tree.options, "trust_anchors": "none"}, False, "no trust anchors",
                     "dns.trust_anchors"),
            "strips": (stripping.options, False, "validation failure", "dns.forwarders"),
            "silent": ({**tree.options, "forwarders": [silent.forwarder], "deadline": "1s"}, False,
                       "no answer in time", "can be reached"),
        }
        for name, (options, works, why, remedy) in rows.items():
            with Ringpost(folder / name, {"dns": options}, TO_MX) as relay:
                event = relay.log.wait("dnssec_works" if works else "dnssec_fails")
                assert why in event.get("why", "") and remedy in event.get("remedy", ""), event
                assert works or "DANE" in event["means"] or "waits" in event["means"], event
                told = [e for e in relay.log.events() if e["event"].startswith("dnssec")]
                assert len(told) == 1, told


def test_a_relay_that_needs_no_dns_asks_nothing(tree, folder):
    with Front(tree) as front, Ringpost(folder / "relay", {"dns": front.options}) as relay:
        relay.log.wait("start")
        relay.stop()
        assert front.asked == []
        assert not [e for e in relay.log.events() if e["event"].startswith("dnssec")]


def test_the_daemon_says_when_validation_begins_to_work(tree, folder):
    with Front(tree) as front:
        front.faults["", "SOA"] = SERVFAIL
        with Ringpost(folder / "relay", {"dns": front.options}, TO_MX) as relay:
            assert "SERVFAIL" in relay.log.wait("dnssec_fails")["why"]
            del front.faults["", "SOA"]
            relay.log.wait("dnssec_works", timeout_s=60)


@pytest.mark.parametrize("option, value, said", [
    ("trust_anchors", "/nonexistent/root.key", "dns.trust_anchors: /nonexistent/root.key: No such"),
    ("hosts_file", "/nonexistent/hosts", "dns.hosts_file: /nonexistent/hosts: No such"),
    ("special_zones", ["localhost"], "dns.special_zones: localhost is always this host"),
])
def test_the_daemon_does_not_start_with_files_that_are_none(tree, folder, option, value, said):
    relay = Ringpost(folder / "relay", {"dns": {**tree.options, option: value}})
    done = relay.run()
    assert done.returncode == 78 and said in done.stderr, done
