# SPDX-License-Identifier: Apache-2.0
"""docs/delivery.md, row by row: a host that says each code in each phase, that says nothing, or
that is gone, and what becomes of the recipient then. Each route has that host first and a good one
behind it: "next host" is a mail that the good one has."""
import collections
import pathlib
import re

import pytest

from daemon import Client, Ringpost
from sink import CLOSE, EXTENSIONS, STALL, Sink

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/delivery.md"
# The sink's names of phases. TLS, AUTH, RSET and what comes unasked: test_tls_out, test_sender.c.
PHASES = {"greeting": "connect", "ehlo": "ehlo", "helo": "helo", "mail": "mail", "rcpt": "rcpt",
          "data": "data", "end_of_data": "final"}
CODES = {"2yz": ["220", "250"], "4yz": ["450", "471"], "5yz": ["550", "571"],
         "4yz to 5yz": ["451", "550", "554"], "any other": ["354", "299"]}
OTHER = {"data": ["250", "334"]}
# With CHUNKING a small mail goes out whole with its envelope, so that every loss leaves a doubt.
NO_CHUNKING = tuple(word for word in EXTENSIONS if word != "CHUNKING")

Case = collections.namedtuple("Case", "name phase fault outcome connection code")


def rows():
    """(phase, code, outcome, connection) of the page, in its order."""
    section = PAGE.read_text().partition("## Replies of the next hop")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] in PHASES:
            yield cells[0], cells[2], cells[3], cells[4]


def covers(pattern, code):
    if pattern == "any other":
        return True
    low, _, high = pattern.partition(" to ")
    return low.replace("yz", "00") <= code <= (high or low).replace("yz", "99")


def cases():
    """One for each code that a row is about: the first row that covers it counts."""
    seen = list(rows())
    for at, (phase, pattern, outcome, connection) in enumerate(seen):
        codes = OTHER.get(phase, []) if pattern == "any other" else []
        for code in codes or CODES.get(pattern, [pattern]):
            if any(row[0] == phase and covers(row[1], code) for row in seen[:at]):
                continue
            yield Case(f"{phase.replace('_', '-')}-{code}", phase, f"{code} so", outcome,
                       connection, code)
    for phase in PHASES:
        if phase == "helo":
            continue
        # When the end of the data was sent and no reply came, the mail may have been delivered.
        outcome = "later" if phase == "end_of_data" else "next host"
        for name, fault in (("gone", CLOSE), ("silent", STALL)):
            yield Case(f"{phase.replace('_', '-')}-{name}", phase, fault, outcome, None, None)


def faults_of(case):
    faults = {PHASES[case.phase]: case.fault}
    if case.phase == "helo":
        faults["ehlo"] = "500 5.5.1 what?"
    return faults


def check(case, first, good, event):
    if case.connection == "HELO":  # it is asked less, and takes the mail
        assert event["result"] == "delivered" and len(first.mails) == 1, (case, event)
    elif case.outcome == "next host":
        assert event["result"] == "delivered" and len(good) == 1 and not first.mails, (case, event)
        assert event["attempts"] == 1, (case, event)
    elif case.outcome == "fails":
        assert (event["result"], event["code"]) == ("failed", int(case.code)), (case, event)
        assert not good and not first.mails, case
    else:
        assert case.outcome == "later", case
        assert event["result"] == "deferred" and not good and not first.mails, (case, event)
    said = [line for _, line in first.sessions[0].commands]
    if case.connection == "QUIT" and case.phase != "greeting":  # the sink hangs up behind that
        assert said[-1:] == ["QUIT"], (case, said)
    elif case.connection == "is dropped":
        assert "QUIT" not in said, (case, said)


def test_the_page_is_read():
    phases = collections.Counter(row[0] for row in rows())
    assert set(phases) == set(PHASES) and min(phases.values()) >= 4, phases
    assert sum(1 for _ in cases()) > 50


@pytest.mark.parametrize("phases", [("greeting", "ehlo", "helo"), ("mail", "rcpt"),
                                    ("data", "end_of_data")], ids=lambda phases: phases[0])
def test_each_row_is_what_happens(folder, phases):
    # "Goes on" is what every mail of every test does; for "again" see below.
    chosen = [case for case in cases() if case.phase in phases and
              case.outcome not in ("again", "goes on", "is delivered")]
    sinks = {case.name: Sink(faults=faults_of(case), extensions=NO_CHUNKING) for case in chosen}
    good = Sink().start()
    routes = []
    for case in chosen:
        sinks[case.name].start()
        routes.append({"domain": f"{case.name}.test", "to": [sinks[case.name].url, good.url]})
    timeouts = {name: "2s" for name in ("greeting", "hello", "mail", "recipient", "data", "end")}
    config = {"workers": 1, "relay": {"domains": []}, "timeouts": {"send": timeouts, "drain": "1s"},
              "retry": {"schedule": ["1h"], "jitter": 0}}
    try:
        with Ringpost(folder / "relay", config, routes) as relay:
            with Client(relay.host, relay.port) as client:
                client.greet()
                for case in chosen:
                    assert client.mail(sender="", recipients=(f"u@{case.name}.test",))[0] == 250
            events = relay.log.wait_events(len(chosen), "delivery")
            outcomes = {event["recipient"]: event for event in events}
            for case in chosen:
                recipient = f"u@{case.name}.test"
                taken = [mail for mail in list(good.mails) if mail.recipients == [recipient]]
                check(case, sinks[case.name], taken, outcomes[recipient])
            relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == sum(
                case.outcome == "later" for case in chosen), "only those that are tried later")
            in_doubt = sum(case.outcome == "later" for case in chosen)
            assert relay.metrics().sum("ringpost_duplicates_possible_total",
                                       cause="outcome_not_durable") == in_doubt
    finally:
        for sink in [*sinks.values(), good]:
            sink.close()


@pytest.mark.parametrize("code", ["452", "552"])
def test_too_many_recipients_come_again_at_once(folder, code):
    """Where others were accepted; where none was, it is about the recipient: the next host."""
    def only_one(session, _):
        return f"{code} too many" if session.recipients else None

    assert ("rcpt", code, "again", "is kept") in rows()
    with Sink(faults={"rcpt": only_one}, extensions=NO_CHUNKING) as first, \
            Sink(faults={"rcpt": f"{code} full"}, extensions=NO_CHUNKING) as full, Sink() as good:
        routes = [{"domain": "many.test", "to": first.url},
                  {"domain": "full.test", "to": [full.url, good.url]}]
        config = {"workers": 1, "relay": {"domains": []}}
        with Ringpost(folder / "relay", config, routes) as relay:
            with Client(relay.host, relay.port) as client:
                client.greet()
                client.mail(recipients=tuple(f"u{n}@many.test" for n in range(3)))
                client.mail(recipients=("u@full.test",))
            first.wait(3)
            good.wait(1)
            events = relay.log.wait_events(4, "delivery")
            assert {(event["result"], event["attempts"]) for event in events} == {("delivered", 1)}
            assert len(first.sessions) == 1 and not full.mails
            said = re.findall("RCPT", " ".join(line for _, line in first.sessions[0].commands))
            assert len(said) >= 5, said
