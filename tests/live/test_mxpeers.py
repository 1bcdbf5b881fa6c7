# SPDX-License-Identifier: Apache-2.0
"""Mail over MX to real servers: Postfix and Exim on port 25, found through a signed tree of zones.

Every test ends with an account: each recipient has one final outcome, what is said to be delivered
lies in that server's mailbox once, and nothing else lies there.
"""
import collections
import datetime
import email
import email.policy
import itertools
import os
import re
import shutil
import time

import pytest

import corpus
import peers
import ports
from dns_tree import Tree
from sink import Mail
from test_bounce import Report
from test_mx import relay_of
from watch import Watch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="port 25 needs root")

POSTFIX, EXIM = ports.address(1), ports.address(2)
ZONE = f"""
postfix A {POSTFIX}
exim A {EXIM}
to-postfix MX 10 postfix
to-exim MX 10 exim
exim-first MX 10 exim
exim-first MX 20 postfix
postfix-first MX 10 postfix
postfix-first MX 20 exim
also-postfix-first MX 10 postfix
also-postfix-first MX 20 exim
"""
SENDER = "a@to-postfix.good.test"  # where reports are read
# Right behind an outcome no connection is left, so that a server that ends leaves no one waiting.
NO_IDLE = {"delivery": {"idle": "0s"}}
SIZE_MAX = 50000


@pytest.fixture(scope="module")
def tree():
    folder = peers.open_folder("mxpeers")
    with Tree(folder / "tree") as running:
        running.zone("good.test", ZONE)
        running.publish()
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def one_postfix():
    """It takes two seconds to start, so there is one for all tests."""
    server = peers.Postfix(host=POSTFIX, port=25)
    table = server.folder / "access"
    table.write_text("never@to-postfix.good.test 550 5.7.1 not for you\n"
                     "later@to-postfix.good.test 450 4.2.0 come again\n")
    server.settings["smtpd_recipient_restrictions"] = \
        f"check_recipient_access texthash:{table}, permit_mynetworks, reject"
    with server:
        yield server


@pytest.fixture
def postfix(one_postfix):
    """With nothing new in its mailbox, whatever the test before has left."""
    wait_quiet(one_postfix)
    one_postfix.taken.update(one_postfix.new_files())
    return one_postfix


def exim(**settings):
    return peers.Exim(host=EXIM, port=25, envelope=True, settings=settings)


def header_of(content):
    return email.message_from_bytes(content, policy=email.policy.default.clone(utf8=True))


class Account:
    """What was sent through a relay, and what became of it."""

    def __init__(self, relay):
        self.relay = relay
        self.numbers = itertools.count()
        self.sent = {}  # queue id: Message-ID, recipients
        self.collected = set()  # (Message-ID, recipient)

    def send(self, *recipients, sender=SENDER, parameters="", text=b"hello\r\n"):
        """One mail; recipients may have parameters behind. Returns its Message-ID."""
        message = f"<{next(self.numbers)}@client.test>"
        with self.relay.connect() as client:
            client.greet()
            for line in (f"MAIL FROM:<{sender}>{parameters}",
                         *("RCPT TO:<{}> {}".format(*(r + " ").split(" ", 1)).rstrip()
                           for r in recipients), "DATA"):
                reply = client.command(line)
                assert reply[0] < 400, (line, reply)
            client.write(self.body(message, text) + b".\r\n")
            code, reply = client.reply()
            assert code == 250, reply
        self.sent[reply.split()[-1]] = message, [r.split(" ")[0] for r in recipients]
        return message

    @staticmethod
    def body(message, text):
        return f"Message-ID: {message}\r\nSubject: hi\r\n\r\n".encode() + text

    def outcomes(self):
        """The final events by (queue id, recipient)."""
        found = collections.defaultdict(list)
        for event in self.relay.log.events("delivery"):
            if event["result"] != "deferred":
                found[event["id"], event["recipient"]].append(event)
        return found

    def is_settled(self):
        """Every recipient has an outcome, every failure its report, and that one an outcome, too.
        """
        for notice in self.relay.log.events("notice"):
            self.sent[notice["id"]] = f"<{notice['id']}@relay.good.test>", [notice["recipient"]]
        outcomes = self.outcomes()
        failed = {events[0]["id"] for events in outcomes.values()
                  if events[0]["result"] == "failed" and events[0]["sender"]}
        told = {notice["original"] for notice in self.relay.log.events("notice")}
        return failed == told and set(outcomes) == {
            (number, recipient) for number, (_, all) in self.sent.items() for recipient in all}

    def collect(self, server, own=0):
        """The copies that are new in a server's mailbox, as many as the relay says it delivered
        there and `own`, which are of the server itself and come second."""
        watch = Watch(self.relay.folder)
        watch.wait_for(self.is_settled, 30, "an outcome of every recipient")
        watch.close()
        self.relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
        expected = {(self.sent[number][0], recipient)
                    for (number, recipient), events in self.outcomes().items()
                    if events[0]["result"] == "delivered" and
                    events[0]["peer"].startswith(server.host + ":")} - self.collected
        wait_quiet(server)
        copies = server.take(len(expected) + own) if expected or own else []
        assert server.new_files() == []
        of_peer, ours = [], {}
        for copy in copies:
            fields = header_of(copy)
            pair = fields["Message-ID"], fields["Delivered-To"] or fields["Envelope-to"]
            if "@postfix.test>" in pair[0]:
                of_peer.append(copy)
                continue
            assert pair not in ours, f"twice: {pair}"
            ours[pair] = copy
        assert set(ours) == expected
        assert len(of_peer) == own
        self.collected |= expected
        return list(ours.values()), of_peer

    def close(self, failed=0):
        """Nothing is missing, nothing has two outcomes, all that was delivered was collected."""
        assert self.is_settled()
        outcomes = self.outcomes()
        assert [events for events in outcomes.values() if len(events) != 1] == []
        results = collections.Counter(events[0]["result"] for events in outcomes.values())
        assert results == collections.Counter(delivered=len(self.collected), failed=failed)


def wait_quiet(server):
    """Until the server has delivered all that it took; it logs a mail before it says 250."""
    taken, done = ("message-id=<", ": removed") if isinstance(server, peers.Postfix) \
        else (" <= ", " Completed")
    peers.wait_for_log(server, lambda log: log.count(taken) == log.count(done), "a server at rest")


def report_in(copies, recipient):
    """The one report among these copies, read with its recipient's group."""
    found = [copy for copy in copies if b"\r\nAuto-Submitted: auto-replied\r\n" in copy]
    assert len(found) == 1, found
    assert found[0].startswith(b"Return-Path: <>\r\n"), found
    content = found[0][found[0].index(b"From: Mail Delivery System"):]
    report = Report(Mail("", [SENDER], content, "", [], [], None, 0))
    assert report.message["To"] == SENDER
    return report, report.group(recipient)


def test_both_take_mail(folder, tree, postfix):
    """Small mails, one for two servers, and one of many chunks, byte for byte."""
    large = b"".join(b"%07d of the lines\r\n" % i for i in range(30000))
    texts = {}
    with exim() as second, relay_of(folder, tree) as relay:
        account = Account(relay)
        for text in (b"hello\r\n", b"\r\n..\r\n...\r\n..x\r\n", large):
            for recipients in (["u@to-postfix.good.test"], ["v@to-exim.good.test"],
                               ["x@to-postfix.good.test", "y@to-exim.good.test",
                                "z@to-postfix.good.test"]):
                texts[account.send(*recipients, text=text)] = text.replace(b"\n..", b"\n.")
        for server, count in ((postfix, 9), (second, 6)):
            copies, _ = account.collect(server)
            assert len(copies) == count
            for copy in copies:
                message = header_of(copy)["Message-ID"]
                adds = server.adds + (b"Return-path", b"Envelope-to")
                assert corpus.difference(account.body(message, texts[message]),
                                         corpus.without_trace(copy, adds)) is None
        account.close()
        hosts = {event["host"] for event in relay.log.events("delivery")}
        assert hosts == {"postfix.good.test", "exim.good.test"}


def pauses_end(relay):
    """When the last of the pauses that follow failures of a host is over, by the wall clock."""
    return max(datetime.datetime.fromisoformat(event["time"]).timestamp() + event["pause"] + 0.001
               for event in relay.log.events("host_failed"))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_second_takes_over_while_the_first_is_down(folder, tree, postfix, workers):
    """Exim is preferred. It ends, mail goes to Postfix; it is back, and so is its mail.

    Each worker has pauses of its own: what is sent when the last is over goes to Exim, whichever
    worker takes it. Where there is one worker, nothing goes to Postfix once it is known that Exim
    is back.
    """
    # A second after the first failure.
    changes = {**NO_IDLE, "workers": workers, "retry": {"host_pause": "16s"}}
    with relay_of(folder, tree, changes) as relay:
        account = Account(relay)

        def hosts_of(count):
            for _ in range(count):
                account.send("u@exim-first.good.test")
            return [relay.log.wait("delivery", result="delivered")["host"] for _ in range(count)]

        with exim() as first:
            assert hosts_of(3) == ["exim.good.test"] * 3
            assert len(account.collect(first)[0]) == 3
            relay.wait_metric(lambda m: m.sum("ringpost_connections", side="send") == 0,
                              "no connection to what ends")
        assert hosts_of(3) == ["postfix.good.test"] * 3
        with exim() as first:
            came = []
            while "exim.good.test" not in came or time.time() < pauses_end(relay):
                came += hosts_of(1)
                assert len(came) < 1000
            came += hosts_of(3)
            assert came[-3:] == ["exim.good.test"] * 3, came
            if workers == 1:
                assert came == sorted(came, reverse=True), came
            count = came.count("exim.good.test")
            assert len(account.collect(first)[0]) == count
            assert len(account.collect(postfix)[0]) == 3 + len(came) - count
        account.close()
        assert {event["result"] for event in relay.log.events("delivery")} == {"delivered"}


def test_domains_with_the_same_hosts_share_a_site(folder, tree, postfix):
    """One connection at a time is allowed, and one is enough for both: Postfix counts its mails."""
    routes = [{"domain": "*", "to": "mx", "connections": 1}]
    with relay_of(folder, tree, routes=routes) as relay:
        account = Account(relay)
        for _ in range(10):
            account.send("u@postfix-first.good.test")
            account.send("u@also-postfix-first.good.test")
        assert len(account.collect(postfix)[0]) == 20
        account.close()
        assert {event["site"] for event in relay.log.events("delivery")} == {
            "postfix.good.test,exim.good.test"}
    peers.wait_for_log(postfix, lambda log: re.search(r"disconnect from .* mail=20 rcpt=20 ", log),
                       "one session with all mails")


def test_what_postfix_defers_is_delivered_later(folder, tree, postfix):
    with relay_of(folder, tree, NO_IDLE) as relay:
        account = Account(relay)
        account.send("now@to-postfix.good.test", "later@to-postfix.good.test")
        account.send("later@to-postfix.good.test")
        for _ in range(4):  # each is tried twice in vain
            event = relay.log.wait("delivery", recipient="later@to-postfix.good.test")
            assert (event["result"], event["code"], event["enhanced"], event["phase"]) == \
                ("deferred", 450, "4.2.0", "rcpt"), event
            assert "come again" in event["reply"]
        assert relay.metrics().sum("ringpost_queue_mails") == 2
        table = postfix.folder / "access"
        table.write_text(table.read_text().replace("later@", "another@"))
        assert postfix.command("reload").returncode == 0
        assert len(account.collect(postfix)[0]) == 3
        account.close()
        assert relay.log.events("notice") == []
        late = [event["attempts"] for event in relay.log.events("delivery")
                if event["result"] == "delivered" and event["recipient"].startswith("later")]
        assert len(late) == 2 and min(late) >= 3, late


def test_what_postfix_refuses_comes_back(folder, tree, postfix):
    with relay_of(folder, tree) as relay:
        account = Account(relay)
        message = account.send("u@to-postfix.good.test", "never@to-postfix.good.test")
        copies, _ = account.collect(postfix)
        assert len(copies) == 2
        report, one = report_in(copies, "never@to-postfix.good.test")
        assert len(report.groups) == 2
        assert one["Action"] == "failed" and one["Status"] == "5.7.1"
        assert one["Remote-MTA"] == "dns; postfix.good.test"
        assert one["Diagnostic-Code"].split() == ("smtp; 550 5.7.1 <never@to-postfix.good.test>: "
                                                  "Recipient address rejected: not for you").split()
        assert report.message["In-Reply-To"] == message
        account.close(failed=1)


def test_a_mail_over_the_size_of_exim_comes_back(folder, tree, postfix):
    """The limit is told by EHLO: the mail is not even offered. Others of the site are delivered."""
    with exim(message_size_limit=SIZE_MAX) as second, relay_of(folder, tree) as relay:
        account = Account(relay)
        large = b"x" * 70 + b"\r\n"
        account.send("u@to-exim.good.test", "v@to-postfix.good.test", text=large * 1000)
        account.send("w@to-exim.good.test")
        copies, _ = account.collect(postfix)
        assert len(copies) == 2
        _, one = report_in(copies, "u@to-exim.good.test")
        assert (one["Action"], one["Status"]) == ("failed", "5.3.4"), one
        assert len(account.collect(second)[0]) == 1
        account.close(failed=1)
        assert "too big" not in second.log()


def test_exim_without_smtputf8_is_not_sent_such_mail(folder, tree, postfix):
    """What needs SMTPUTF8 comes back from there, in UTF-8, and is taken by Postfix."""
    with exim(smtputf8_advertise_hosts="") as second, relay_of(folder, tree) as relay:
        account = Account(relay)
        account.send("jörg@to-exim.good.test", "jörg@to-postfix.good.test",
                     parameters=" SMTPUTF8")
        account.send("w@to-exim.good.test")
        copies, _ = account.collect(postfix)
        assert len(copies) == 2
        report, one = report_in(copies, "jörg@to-exim.good.test")
        assert (one["Action"], one["Status"]) == ("failed", "5.6.7"), one
        assert len(report.groups) == 2
        assert len(account.collect(second)[0]) == 1
        account.close(failed=1)


def test_what_was_asked_of_dsn_is_passed_on_to_postfix(folder, tree, postfix):
    """Postfix tells of the success, not we, with what the sender gave us to be told with."""
    with relay_of(folder, tree) as relay:
        account = Account(relay)
        account.send("told@to-postfix.good.test NOTIFY=SUCCESS,FAILURE "
                     "ORCPT=rfc822;first+2Bone@old.test",
                     "untold@to-postfix.good.test NOTIFY=NEVER",
                     parameters=" RET=HDRS ENVID=QQ+2B7")
        copies, of_postfix = account.collect(postfix, own=1)
        assert len(copies) == 2
        message = email.message_from_bytes(of_postfix[0], policy=email.policy.default)
        assert message["Return-Path"] == "<>" and message["Delivered-To"] == SENDER
        assert message.get_content_type() == "multipart/report"
        status = list(message.iter_parts())[1]
        about, one = [dict(group.items()) for group in status.get_payload()]
        assert about["Original-Envelope-Id"] == "QQ+7", about
        assert one["Original-Recipient"] == "rfc822;first+one@old.test", one
        assert one["Final-Recipient"] == "rfc822; told@to-postfix.good.test"
        assert one["Action"] == "delivered"
        account.close()
        assert relay.log.events("notice") == []
