# SPDX-License-Identifier: Apache-2.0
"""Reports to senders: which outcomes cause one, and what Python's email package reads in it."""
import email
import email.policy
import re
import threading

import pytest

import peers
from daemon import EXIT_CONFIG, Ringpost
from sink import EXTENSIONS, Mail, Sink

BODY = (b"From: a@client.test\r\nMessage-ID: <m1@client.test>\r\nSubject: hi\r\n"
        b"\r\nhello\r\n")
WITHOUT_DSN = tuple(e for e in EXTENSIONS if e != "DSN")
DATE = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000"


class Pair:
    """A relay between a server that takes example.test and one that takes the senders' mail."""

    def __init__(self, folder, config=None, lmtp=False, extensions=EXTENSIONS, faults=None):
        self.there = Sink(lmtp=lmtp, extensions=extensions, faults=faults)
        self.back = Sink()
        self.folder, self.config = folder, config

    def __enter__(self):
        self.there.start()
        self.back.start()
        self.relay = Ringpost(self.folder / "relay", config=self.config, routes=[
            {"domain": "example.test", "to": self.there.url},
            {"domain": "*", "to": self.back.url}])
        self.relay.__enter__()
        return self

    def __exit__(self, *failure):
        self.relay.__exit__(*failure)
        self.there.close()
        self.back.close()

    def send(self, recipients=("one@example.test",), sender="a@client.test", parameters="",
             body=BODY):
        """Submits one mail and returns its queue id. Recipients may have parameters behind."""
        with self.relay.connect() as client:
            client.greet()
            assert client.command(f"MAIL FROM:<{sender}>{parameters}")[0] == 250
            for recipient in recipients:
                address, _, rest = recipient.partition(" ")
                reply = client.command(f"RCPT TO:<{address}> {rest}".rstrip())
                assert reply[0] == 250, reply
            assert client.command("DATA")[0] == 354
            client.write(body + b".\r\n")
            code, text = client.reply()
            assert code == 250, text
            return text.split()[-1]

    def wait_empty(self):
        self.relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")

    def reports(self, count=1):
        """All that came back once the queue is empty: exactly so many, each read."""
        self.back.wait(count)
        self.wait_empty()
        assert len(self.back.mails) == count, [m.content for m in self.back.mails]
        return [Report(mail) for mail in self.back.mails]

    def report(self):
        return self.reports(1)[0]

    def no_report(self, outcomes=1):
        for _ in range(outcomes):
            self.relay.log.wait("delivery")
        self.wait_empty()
        assert self.back.mails == [], self.back.mails[0].content
        assert self.relay.log.events("notice") == []


class Report:
    """A mail that came back, read with the email package; defects fail the test."""

    def __init__(self, mail):
        self.mail = mail
        self.message = email.message_from_bytes(mail.content, policy=email.policy.default)
        defects = [d for part in self.message.walk() for d in part.defects]
        assert not defects, (defects, mail.content)
        assert mail.sender == "", mail
        assert self.message.get_content_type() == "multipart/report"
        assert self.message["Auto-Submitted"] == "auto-replied"
        assert max(len(line) for line in mail.content.split(b"\r\n")) <= 998
        parts = list(self.message.iter_parts())
        self.text = parts[0].get_content()
        self.status = parts[1]
        self.original = parts[2] if len(parts) > 2 else None
        self.groups = self.read_groups()

    def read_groups(self):
        """The groups of the delivery status as dicts: the message's, then the recipients'."""
        if self.status.get_content_type() == "message/delivery-status":
            return [dict(group.items()) for group in self.status.get_payload()]
        # The package does not know message/global-delivery-status (RFC 6533).
        raw = self.mail.content.split(b"Content-Type: message/global-delivery-status\r\n")[1]
        raw = raw.split(b"\r\n\r\n", 1)[1].split(b"\r\n--=_")[0]
        utf8 = email.policy.default.clone(utf8=True)
        return [dict(email.message_from_string(group.decode() + "\r\n\r\n", policy=utf8).items())
                for group in raw.strip().split(b"\r\n\r\n")]

    def group(self, recipient):
        kind = "rfc822" if recipient.isascii() else "utf-8"
        found = [g for g in self.groups[1:] if g["Final-Recipient"] == f"{kind}; {recipient}"]
        assert len(found) == 1, (recipient, self.groups)
        return found[0]


def refuse(*addresses, text="550 5.1.1 no such user"):
    """A fault of RCPT for these addresses alone."""
    return lambda session, argument: text if any(a in argument for a in addresses) else None


@pytest.mark.smoke
@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "final"])
def test_a_refusal_in_each_phase_gives_one_report(folder, phase):
    text = "550 5.7.1 not from you, sorry"
    offered = tuple(e for e in EXTENSIONS if e != "CHUNKING" or phase != "data")
    with Pair(folder, extensions=offered, faults={phase: text}) as pair:
        number = pair.send()
        report = pair.report()
        assert report.mail.recipients == ["a@client.test"]
        message = report.message
        assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.test>"
        assert message["To"] == "a@client.test"
        assert message["Subject"] == "Your message could not be delivered"
        assert message["References"] == message["In-Reply-To"] == "<m1@client.test>"
        assert re.fullmatch(r"<\w{26}@relay\.test>", message["Message-ID"])
        assert message["Date"].datetime is not None
        assert message.get_param("report-type") == "delivery-status"

        about, one = report.groups
        assert about["Reporting-MTA"] == "dns; relay.test"
        assert about["X-Ringpost-Queue-Id"] == number
        assert about["X-Ringpost-Sender"] == "rfc822; a@client.test"
        assert re.fullmatch(DATE, about["Arrival-Date"])
        assert "Original-Envelope-Id" not in about
        assert one["Final-Recipient"] == "rfc822; one@example.test"
        assert one["Action"] == "failed" and one["Status"] == "5.7.1"
        assert one["Remote-MTA"] == f"dns; [{pair.there.host}]"
        assert one["Diagnostic-Code"] == "smtp; " + text
        assert re.fullmatch(DATE, one["Last-Attempt-Date"])
        assert "Original-Recipient" not in one and "Will-Retry-Until" not in one

        assert "<one@example.test>" in report.text and text in report.text
        assert f"[{pair.there.host}] said:" in report.text
        assert report.original.get_content_type() == "text/rfc822-headers"
        header = report.original.get_content()
        assert "Message-ID: <m1@client.test>" in header and "hello" not in header

        event = pair.relay.log.wait_events(1, "notice")
        assert len(event) == 1 and event[0]["original"] == number
        assert event[0]["id"] in message["Message-ID"] and event[0]["failed"] == 1
        assert event[0]["recipient"] == "a@client.test" and event[0]["attached"] == "header"
        metrics = pair.relay.metrics()
        assert metrics.sum("ringpost_notices_total", action="failed") == 1
        assert metrics.sum("ringpost_notices_total") == 1


def test_recipients_that_fail_together_are_in_one_report(folder):
    with Pair(folder, faults={"rcpt": refuse("two", "three")}) as pair:
        pair.send(["one@example.test", "two@example.test", "three@example.test"])
        report = pair.report()
        assert [g["Final-Recipient"] for g in report.groups[1:]] == [
            "rfc822; two@example.test", "rfc822; three@example.test"]
        assert pair.there.mails[0].recipients == ["one@example.test"]


@pytest.mark.parametrize("notify,told", [
    ("NEVER", False), ("SUCCESS", False), ("DELAY", False), ("FAILURE", True),
    ("SUCCESS,FAILURE,DELAY", True)])
def test_notify_decides_who_is_told_of_a_failure(folder, notify, told):
    with Pair(folder, faults={"rcpt": refuse("one")}) as pair:
        number = pair.send([f"one@example.test NOTIFY={notify}", "two@example.test NOTIFY=NEVER"])
        if told:
            assert len(pair.report().groups) == 2
            assert pair.relay.log.events("notice_suppressed") == []
            return
        pair.no_report(2)
        silence = pair.relay.log.wait_events(1, "notice_suppressed")
        assert [(e["id"], e["recipient"], e["reason"]) for e in silence] == [
            (number, "one@example.test", "notify")]
        assert pair.relay.metrics().sum("ringpost_notices_suppressed_total", reason="notify") == 1


def test_envid_and_orcpt_come_back_decoded(folder):
    with Pair(folder, faults={"rcpt": "550 5.1.1 no"}) as pair:
        pair.send(["one@example.test ORCPT=rfc822;first+2Bone@old.test"],
                  parameters=" ENVID=QQ+20314159")
        report = pair.report()
        assert report.groups[0]["Original-Envelope-Id"] == "QQ 314159"
        assert report.groups[1]["Original-Recipient"] == "rfc822; first+one@old.test"


def test_what_senders_and_servers_say_cannot_add_fields(folder):
    with Pair(folder, faults={"rcpt": "550-5.1.1 no\r\n550-5.1.1 \r\n550 5.1.1 Action: delayed"}) \
            as pair:
        pair.send(["one@example.test ORCPT=rfc822;a@b+0D+0AStatus:+202.0.0"])
        report = pair.report()
        assert report.groups[1]["Status"] == "5.1.1" and report.groups[1]["Action"] == "failed"
        assert report.groups[1]["Original-Recipient"] == "rfc822; a@b  Status: 2.0.0"
        assert len(report.groups) == 2


def test_an_internationalized_mail_is_reported_in_utf8(folder):
    body = "Message-ID: <m2@client.test>\r\nSubject: grüß\r\n\r\nhallo\r\n".encode()
    with Pair(folder, faults={"rcpt": "550 5.1.1 gibt’s nicht"}) as pair:
        pair.send(["jörg@example.test ORCPT=utf-8;j\\x{F6}rg@old.test"], sender="ü@client.test",
                  parameters=" SMTPUTF8 RET=FULL", body=body)
        report = pair.report()
        assert report.mail.recipients == ["ü@client.test"]
        assert "SMTPUTF8" in report.mail.parameters
        assert "BODY=8BITMIME" in report.mail.parameters
        assert report.message.get_param("report-type") == "global-delivery-status"
        one = report.group("jörg@example.test")
        assert one["Original-Recipient"] == "utf-8; jörg@old.test"
        assert "gibt’s nicht" in report.text and "<jörg@example.test>" in report.text
        assert b"Content-Type: message/global\r\n" in report.mail.content
        assert body in report.mail.content


def test_an_eight_bit_mail_is_declared_as_such(folder):
    body = b"Message-ID: <m3@client.test>\r\n\r\nna\xefve\r\n"
    with Pair(folder, faults={"rcpt": "550 5.1.1 no"}) as pair:
        pair.send(parameters=" BODY=8BITMIME RET=FULL", body=body)
        report = pair.report()
        assert "BODY=8BITMIME" in report.mail.parameters
        assert "SMTPUTF8" not in report.mail.parameters
        assert report.original.get_content_type() == "message/rfc822"
        assert report.original["Content-Transfer-Encoding"] == "8bit"
        assert body in report.mail.content


def test_a_report_that_cannot_be_delivered_is_dropped_with_an_event(folder):
    with Pair(folder, faults={"rcpt": "550 5.1.1 no"}) as pair:
        number = pair.send(sender="")
        pair.no_report()
        event = pair.relay.log.wait("notice_suppressed")
        assert (event["id"], event["reason"]) == (number, "null_sender")
        # And the report itself, when its recipient is refused: nothing answers it.
        pair.back.faults["rcpt"] = "550 5.1.1 nobody"
        pair.send()
        report = pair.relay.log.wait("notice")
        event = pair.relay.log.wait("notice_suppressed")
        assert event["id"] == report["id"] and event["reason"] == "null_sender"
        pair.wait_empty()
        metrics = pair.relay.metrics()
        assert metrics.sum("ringpost_notices_suppressed_total", reason="null_sender") == 2


@pytest.mark.parametrize("parameters,attach,size_max,whole", [
    ("", "header", "100KiB", False), (" RET=FULL", "header", "100KiB", True),
    (" RET=HDRS", "message", "100KiB", False), ("", "message", "100KiB", True),
    (" RET=FULL", "message", "100B", False)])
def test_ret_and_options_decide_what_is_attached(folder, parameters, attach, size_max, whole):
    config = {"bounces": {"attach": attach, "attach_size_max": size_max}}
    with Pair(folder, config, faults={"rcpt": "550 5.1.1 no"}) as pair:
        pair.send(parameters=parameters, body=BODY[:-2] + b"\r\n..stuffed\r\n")
        report = pair.report()
        if whole:
            assert report.original.get_content_type() == "message/rfc822"
            inner = report.original.get_content()
            assert inner["Message-ID"] == "<m1@client.test>"
            assert inner.get_content().splitlines() == ["hello", ".stuffed"]
        else:
            assert report.original.get_content_type() == "text/rfc822-headers"
            assert "hello" not in report.original.get_content()


def test_a_large_mail_is_attached_from_its_file(folder):
    body = BODY + b"".join(b"%07d of the lines\r\n" % i for i in range(100000))
    refused = []
    config = {"bounces": {"attach": "message", "attach_size_max": "16MiB"}}

    def fault(session, argument):
        return "550 5.1.1 no" if refused else "450 4.2.0 later"
    with Pair(folder, config, faults={"rcpt": fault}) as pair:
        pair.send(body=body)
        pair.relay.log.wait("delivery", result="deferred")
        # After a start it is in the store alone.
        pair.relay.stop()
        refused.append(True)
        pair.relay.start()
        report = pair.report()
        assert body in report.mail.content
        assert pair.relay.log.wait_events(1, "notice")[-1]["attached"] == "message"


@pytest.mark.parametrize("lmtp,action", [(True, "delivered"), (False, "relayed")])
def test_a_success_is_told_where_nobody_further_on_does(folder, lmtp, action):
    with Pair(folder, lmtp=lmtp, extensions=WITHOUT_DSN) as pair:
        pair.send(["one@example.test NOTIFY=SUCCESS", "two@example.test NOTIFY=FAILURE",
                   "three@example.test"], parameters=" RET=FULL")
        report = pair.report()
        assert len(report.groups) == 2
        one = report.group("one@example.test")
        assert one["Action"] == action and one["Status"] == "2.0.0"
        assert one["Diagnostic-Code"] == "smtp; 250 2.0.0 kept"
        # RET=FULL is about failures (RFC 3461 4.3).
        assert report.original.get_content_type() == "text/rfc822-headers"
        assert pair.relay.metrics().sum("ringpost_notices_total", action=action) == 1


def test_a_success_is_left_to_a_server_with_dsn(folder):
    with Pair(folder) as pair:
        pair.send(["one@example.test NOTIFY=SUCCESS"])
        mail = pair.there.wait(1)[0]
        assert "NOTIFY=SUCCESS" in mail.recipient_parameters[0]
        pair.no_report()


def test_a_delay_is_told_once_for_each_recipient(folder):
    config = {"bounces": {"delay": "2s"}}
    over = []

    def fault(session, argument):
        return None if over else "451 4.7.1 greylisted"
    with Pair(folder, config, faults={"rcpt": fault}) as pair:
        pair.send(["one@example.test", "two@example.test NOTIFY=FAILURE",
                   "three@example.test NOTIFY=DELAY"])
        pair.back.wait(1)
        attempts = pair.relay.log.wait("delivery", result="deferred")["attempts"]
        pair.relay.log.wait("delivery", result="deferred", attempts=attempts + 4)
        # It is known after a start, too.
        pair.relay.kill()
        pair.relay.start()
        pair.relay.log.wait("delivery", result="deferred")
        over.append(True)
        report = pair.report()
        assert {g["Final-Recipient"] for g in report.groups[1:]} == {
            "rfc822; one@example.test", "rfc822; three@example.test"}
        one = report.group("one@example.test")
        assert one["Action"] == "delayed" and one["Status"] == "4.7.1"
        assert re.fullmatch(DATE, one["Will-Retry-Until"])
        assert one["Will-Retry-Until"] in report.text
        assert report.message["Subject"] == "Your message is delayed"
        assert len(pair.there.mails[0].recipients) == 3


def test_delays_are_not_told_where_that_is_off(folder):
    attempts = []

    def fault(session, argument):
        attempts.append(argument)
        return "451 4.7.1 greylisted" if len(attempts) < 4 else None
    with Pair(folder, {"bounces": {"delay": "0s"}}, faults={"rcpt": fault}) as pair:
        pair.send()
        pair.there.wait(1)
        pair.no_report(4)


def test_texts_come_from_templates(folder):
    texts = folder / "texts"
    texts.mkdir()
    bad = "Subject: x\n\nHallo ${sendr}\n${recipients}\n"
    (texts / "failed.txt").write_text(bad)
    config = {"bounces": {"templates": str(texts), "from": "postmaster@example.test"}}
    broken = Ringpost(folder / "broken", config=config)
    checked = broken.run("--check-config")
    assert checked.returncode == EXIT_CONFIG
    assert checked.stderr.startswith(f"{texts}/failed.txt:3: ${{sendr}} is unknown; use"), checked
    (texts / "failed.txt").write_text(
        "Subject: Unzustellbar für ${count}\n\nAn ${sender}:\n${recipients}\nEnde.\n")
    assert broken.run("--check-config").returncode == 0
    with Pair(folder, config, faults={"rcpt": "550 5.1.1 no"}) as pair:
        pair.send()
        report = pair.report()
        assert report.message["Subject"] == "Unzustellbar für 1"
        assert report.message["From"] == "Mail Delivery System <postmaster@example.test>"
        assert report.text.splitlines()[:2] == [
            "An a@client.test:", "    <one@example.test>"]
        # A reload with a bad text changes nothing; one with a good text does.
        (texts / "failed.txt").write_text(bad)
        pair.relay.reload()
        refused = pair.relay.log.wait("config_refused")
        assert "failed.txt:3: ${sendr} is unknown" in refused["error"]
        (texts / "failed.txt").write_text("Subject: Neu\n\n${recipients}\n")
        pair.relay.reload()
        pair.relay.log.wait("config_loaded")
        pair.send()
        assert pair.reports(2)[1].message["Subject"] == "Neu"


def test_a_kill_leaves_no_outcome_without_its_report(folder):
    """Every mail fails and is reported, with one report each, whenever the relay is killed."""
    senders, rounds, mails = 3, 4, 60
    accepted = []

    def submit(pair, number):
        try:
            with pair.relay.connect() as client:
                client.greet()
                for i in range(mails):
                    reply = client.mail(sender=f"a{number}@client.test", body=BODY)
                    if reply is None or reply[0] != 250:
                        return
                    accepted.append(reply[1].split()[-1])
        except OSError:
            pass  # killed
    with Pair(folder, faults={"rcpt": "550 5.1.1 no"}) as pair:
        for number in range(rounds):
            threads = [threading.Thread(target=submit, args=(pair, s)) for s in range(senders)]
            for thread in threads:
                thread.start()
            before = len(pair.back.mails)
            pair.back.wait(before + 10 * (number + 1))
            pair.relay.kill()
            for thread in threads:
                thread.join()
            pair.relay.start()
        pair.wait_empty()
        reports = {}
        for mail in pair.back.mails:
            report = Report(mail)
            number = report.groups[0]["X-Ringpost-Queue-Id"]
            reports.setdefault(number, set()).add(report.message["Message-ID"])
        assert len(accepted) > 40
        assert [i for i in accepted if i not in reports] == []
        # Two copies of one report may come (invariant 4); two reports of one mail may not.
        assert {i: r for i, r in reports.items() if len(r) != 1} == {}


def test_a_report_reaches_a_real_server(folder):
    """Postfix takes a report as it is."""
    with peers.Postfix() as postfix, Sink(faults={"rcpt": "550 5.1.1 no"}) as there:
        routes = [{"domain": "example.test", "to": there.url}, {"domain": "*", "to": postfix.url}]
        with Ringpost(folder / "relay", routes=routes) as relay, relay.connect() as client:
            client.greet()
            for line in ("MAIL FROM:<a@client.test> RET=FULL", "RCPT TO:<one@example.test>",
                         "DATA"):
                assert client.command(line)[0] < 400
            client.write(BODY + b".\r\n")
            assert client.reply()[0] == 250
            content = postfix.take(1)[0]
            assert b"Return-Path: <>" in content
            start = content.index(b"From: Mail Delivery System")
            report = Report(Mail("", ["a@client.test"], content[start:], "", [], [], None, 0))
            assert report.groups[1]["Status"] == "5.1.1"
            assert report.original.get_content_type() == "message/rfc822"
