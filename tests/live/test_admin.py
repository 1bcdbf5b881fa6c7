# SPDX-License-Identifier: Apache-2.0
"""Looking inside with ringpostctl, and acting: every command, who may not, and clients that behave
badly. The socket's language is spoken directly where the program would not say it."""
import contextlib
import json
import os
import pathlib
import socket
import stat
import subprocess
import threading
import time

import pytest

import ports
from daemon import Ringpost
from sink import STALL, Sink

BODY = b"Subject: hi\r\n\r\nhello\r\n"
NO_ID = "0" * 26
EX_OK, EX_REFUSED, EX_USAGE, EX_TRY_AGAIN = 0, 1, 2, 75


class Relay(Ringpost):
    """A relay with an admin socket, and ringpostctl for it."""

    def __init__(self, folder, config=None, routes=None, **more):
        self.socket_path = pathlib.Path(folder) / "admin.sock"
        super().__init__(folder, {"admin": {"socket": str(self.socket_path), "timeout": "2s"},
                                  **(config or {})}, routes, **more)

    def ctl(self, *arguments, status=EX_OK):
        """Runs ringpostctl and returns its result (--json)."""
        done = self.ctl_text(*arguments, "--json", status=status)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def ctl_text(self, *arguments, status=EX_OK):
        done = subprocess.run([os.environ["RINGPOSTCTL"], "--socket", str(self.socket_path),
                               *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert bool(done.stderr) == (status != EX_OK and "matched" not in done.stdout), done
        return done

    def admin(self):
        return AdminClient(self.socket_path)

    def send(self, *recipients, count=1, sender="a@client.test"):
        with self.connect() as client:
            client.greet()
            for _ in range(count):
                assert client.mail(sender, recipients, BODY)[0] == 250

    def rows(self, *filters):
        return self.ctl("queue", "list", "--limit", "1000", *filters)["rows"]

    def wait_rows(self, count, *filters):
        """Until so many match: asked again after each answer."""
        deadline = time.monotonic() + 30
        while True:
            rows = self.rows(*filters)
            if len(rows) == count:
                return rows
            assert time.monotonic() < deadline, f"{len(rows)} of {count}: {rows[:5]}"


class AdminClient:
    """A bare client of the socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def write(self, data):
        self.socket.sendall(data)

    def answer(self):
        """The next answer, or None where the daemon has closed."""
        try:
            line = self.file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, command, **arguments):
        self.write(json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n")
        return self.answer()

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def nowhere():
    """A next hop that refuses connections."""
    return f"smtp://{ports.address()}:{ports.free_port()}"


@pytest.fixture
def site():
    return nowhere()


def waiting_relay(folder, site, host_pause):
    routes = [{"domain": "other.test", "to": nowhere()}, {"domain": "drop.test", "to": "discard"},
              {"domain": "example.test", "to": site}]
    config = {"retry": {"schedule": ["1h"], "host_pause": host_pause}}
    return Relay(folder / "relay", config, routes)


@pytest.fixture
def relay(folder, site):
    """A relay whose mails wait: their site refuses connections. Some domains lead elsewhere."""
    with waiting_relay(folder, site, "1m") as running:
        yield running


@pytest.fixture
def trying(folder, site):
    """The same, but each mail is tried once: a failed host is not left alone."""
    with waiting_relay(folder, site, "0s") as running:
        yield running


def fill(relay, count=3):
    relay.send("one@example.test", count=count)
    return sorted(row["id"] for row in relay.wait_rows(count, "--state", "waiting"))


@pytest.mark.smoke
def test_status(relay):
    fill(relay)
    relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 3, "gauges")
    status = relay.ctl("status")
    assert status["state"] == "ready" and status["workers"] == 2
    assert status["mails"] == 3 and status["accepted"] == 3
    assert status["pid"] == relay.process.pid
    assert status["listeners"] == [{"address": f"{relay.host}:{relay.port}", "role": "relay"}]
    text = relay.ctl_text("status").stdout
    assert "state               ready\n" in text and f"{relay.host}:{relay.port}" in text


def test_limits_that_were_hit_are_shown(folder):
    with Relay(folder / "relay", {"limits": {"recipients_max": 100}}) as relay:
        assert relay.ctl("status")["limits"] == []
        with relay.connect() as client:
            client.greet()
            client.mail(recipients=[f"r{n}@example.test" for n in range(101)])
        assert relay.ctl("status")["limits"] == [{"limit": "recipients", "hits": 1}]


def test_pages_of_a_list_show_each_mail_once(relay):
    ids = fill(relay, 25)
    for limit in ("1", "7", "24", "25", "100"):
        seen, cursor = [], []
        while True:
            page = relay.ctl("queue", "list", "--limit", limit, *cursor)
            assert len(page["rows"]) <= int(limit)
            seen += [row["id"] for row in page["rows"]]
            if "cursor" not in page:
                break
            cursor = ["--cursor", page["cursor"]]
        assert sorted(seen) == ids, limit
    assert "cursor" in relay.ctl_text("queue", "list", "--cursor", "9.zz", status=EX_USAGE).stderr


def test_filters_choose(relay, site):
    ids = fill(relay, 4)
    relay.send("two@other.test")
    other = relay.wait_rows(5, "--state", "waiting")
    other = [row for row in other if row["id"] not in ids]
    assert len(relay.rows("--site", site)) == 4
    assert [row["id"] for row in relay.rows("--site", other[0]["site"])] == [other[0]["id"]]
    assert relay.rows("--site", "smtp://nowhere:25") == []
    assert relay.rows("--state", "held") == []
    assert len(relay.rows("--older-than", "1h")) == 0
    assert len(relay.rows("--id", ids[0])) == 1
    relay.ctl("queue", "hold", ids[0], "--reason", "to see it")
    assert [row["id"] for row in relay.rows("--state", "held")] == [ids[0]]
    assert len(relay.rows("--state", "waiting")) == 4


def test_filters_by_envelope_and_reply(trying):
    trying.send("joe@example.test", sender="a+1@client.test")
    trying.send("joe@other.test", "ann@example.test", sender="b@elsewhere.test")
    trying.send("ann@example.test", sender="")
    rows = trying.wait_rows(4, "--state", "waiting", "--attempts", "1")
    assert all("refused" in row["reply"] or "reached" in row["reply"] for row in rows)

    def count(*filters):
        return len(trying.rows(*filters))

    assert count("--sender", "a+2@client.test") == 1 and count("--sender", "@elsewhere.test") == 2
    assert count("--sender", "<>") == 1 and count("--sender", "nobody@client.test") == 0
    assert count("--domain", "example.test") == 3 and count("--domain", "EXAMPLE.test") == 3
    assert count("--recipient", "joe@example.test") == 1
    assert count("--recipient", "joe@other.test", "--sender", "@client.test") == 0
    assert count("--reply", "451 4.4.1") == 4 and count("--reply", "no such text") == 0
    assert count("--attempts", "50") == 0
    assert count("--newer-than", "1h") == 4 and count("--older-than", "1h") == 0
    assert trying.ctl("queue", "count", "domain")["rows"][0] | {"bytes": 0, "oldest_at": ""} == {
        "key": "example.test", "count": 3, "bytes": 0, "oldest_at": ""}
    senders = {row["key"]: row["count"] for row in trying.ctl("queue", "count", "sender")["rows"]}
    assert senders == {"a@client.test": 1, "b@elsewhere.test": 2, "": 1}
    assert trying.ctl("queue", "count", "reply")["count"] == 4


def test_what_only_may_match_is_looked_at_before_it_is_changed(trying):
    """Of recipients the index has a hash: the mail itself tells."""
    trying.send("joe@example.test")
    trying.send("ann@example.test")
    trying.wait_rows(2, "--state", "waiting", "--attempts", "1")
    assert trying.rows("--recipient", "joe@example.test")[0]["maybe"] == "yes"
    for action, done in (("hold", 1), ("release", 1), ("remove", 1)):
        result = trying.ctl("queue", action, "--recipient", "JOE@example.test", "--reason", "x")
        assert (result["matched"], result["done"]) == (done, done), action
    assert [row["domain"] for row in trying.rows()] == ["example.test"]
    removed = trying.log.wait_events(1, "recipient_removed")
    assert [event["recipient"] for event in removed] == ["joe@example.test"]


def test_each_removed_recipient_has_an_event(trying):
    trying.send("one@example.test", "two@other.test", "three@example.test")
    mail = trying.wait_rows(2, "--state", "waiting", "--attempts", "1")[0]["id"]
    trying.ctl("queue", "remove", mail, "--reason", "asked for")
    events = [trying.log.wait("recipient_removed") for _ in range(3)]
    assert {event["recipient"] for event in events} == {
        "one@example.test", "two@other.test", "three@example.test"}
    assert all(event["id"] == mail and event["sender"] == "a@client.test" and
               event["why"] == "asked for" and "(uid" in event["who"] for event in events)


def test_a_mail_is_shown(trying, site):
    trying.send("one@example.test", "two@other.test", "three@drop.test")
    first = trying.wait_rows(2, "--state", "waiting", "--attempts", "1")[0]
    mail = trying.ctl("queue", "show", first["id"])
    assert mail["id"] == first["id"] and mail["size"] == first["size"]
    assert mail["sender"] == "a@client.test" and mail["recipient_count"] == 3
    assert mail["client"] == "127.0.0.1" and mail["held"] is False
    assert {row["site"] for row in mail["rows"]} >= {site} and len(mail["rows"]) == 2
    one, two, three = mail["recipients"]
    assert one["address"] == "one@example.test" and one["state"] == "pending"
    assert one["site"] == site and one["attempts"] == 1 and one["reply"].startswith("451 ")
    assert one["due_at"] > mail["accepted_at"] and two["site"] != site
    assert three["state"] == "discarded" and "site" not in three
    trying.ctl("queue", "hold", first["id"], "--reason", "x")
    assert trying.ctl("queue", "show", first["id"])["held"] is True
    assert trying.ctl("queue", "show", NO_ID, status=EX_REFUSED)["error"] == "not_found"
    assert "26 letters" in trying.ctl_text("queue", "show", "nonsense", status=EX_USAGE).stderr


def test_counts(relay, site):
    fill(relay, 4)
    relay.send("two@other.test", count=2)
    relay.wait_rows(6, "--state", "waiting")
    by_site = relay.ctl("queue", "count", "site")
    assert by_site["count"] == 6 and by_site["others"] == 0
    assert by_site["rows"][0]["key"] == site and [r["count"] for r in by_site["rows"]] == [4, 2]
    assert relay.ctl("queue", "count", "state")["rows"][0]["key"] == "waiting"
    assert relay.ctl("queue", "count", "age")["rows"][0]["key"] == "5m"

    def counts(by):
        return {row.get("key"): row["count"] for row in relay.ctl("queue", "count", by)["rows"]}
    assert counts("domain") == {"example.test": 4, "other.test": 2}
    assert counts("sender") == {"a@client.test": 6}
    replies = counts("reply")  # of those that were not tried: none
    assert sum(replies.values()) == 6, replies
    assert any("refused" in reply for reply in replies if reply), replies
    assert relay.ctl("queue", "count", "--by", "attempts", "--site", site)["count"] == 4
    assert relay.ctl("queue", "count", "state", "--state", "held")["rows"] == []
    assert "by" in relay.ctl_text("queue", "count", status=EX_USAGE).stderr


@pytest.mark.smoke
def test_hold_release_retry_remove(relay, sink):
    ids = fill(relay, 3)
    held = relay.ctl("queue", "hold", *ids[:2], "--reason", "wait a bit")
    assert (held["matched"], held["done"], held["missing"]) == (2, 2, 0)
    event = relay.log.wait("mail_acted", action="held")
    assert event["why"] == "wait a bit" and f"(uid {os.geteuid()})" in event["who"]
    assert event["id"] in ids[:2]
    relay.change({"routes": [{"domain": "*", "to": sink.url}]})
    relay.reload()
    relay.log.wait("config_loaded")
    done = relay.ctl("queue", "retry", "--all", "--yes", "--reason", "the sink is up")
    assert done["matched"] == 3
    sink.wait(1)  # a retry is no release
    assert sorted(row["id"] for row in relay.wait_rows(2)) == sorted(ids[:2])
    removed = relay.ctl("queue", "remove", ids[0], "--reason", "spam")
    assert removed["done"] == 1
    assert relay.log.wait("mail_acted", action="removed")["id"] == ids[0]
    assert relay.ctl("queue", "release", "--state", "held", "--reason", "go on")["done"] == 1
    sink.wait(2)  # it had become due while it was held
    relay.wait_rows(0)
    assert len(sink.mails) == 2


def test_a_hold_outlives_a_restart(relay):
    ids = fill(relay, 2)
    relay.ctl("queue", "hold", ids[0], "--reason", "long")
    relay.stop()
    relay.start()
    assert [row["id"] for row in relay.rows("--state", "held")] == [ids[0]]


def test_a_dry_run_changes_nothing(relay):
    fill(relay, 3)
    dry = relay.ctl("queue", "remove", "--all", "--dry-run")
    assert dry["matched"] == dry["recipients"] == 3 and dry["done"] == 0 and dry["dry_run"]
    assert sorted(row["id"] for row in dry["examples"]) == sorted(row["id"] for row in relay.rows())
    assert len(relay.rows()) == 3
    assert relay.log.events("mail_acted") == []


def test_what_is_not_there_is_told(relay):
    ids = fill(relay, 1)
    done = relay.ctl("queue", "hold", ids[0], NO_ID, "--reason", "x", status=EX_REFUSED)
    assert (done["done"], done["missing"]) == (1, 1)


def test_a_mail_in_delivery_is_left_alone(folder):
    with Sink(faults={"final": STALL}) as sink:
        config = {"timeouts": {"drain": "0s"}}
        with Relay(folder / "relay", config, [{"domain": "*", "to": sink.url}]) as relay:
            relay.send("one@example.test")
            sink.wait_for(lambda s: s.stalled)
            mail = relay.rows("--state", "active")[0]["id"]
            done = relay.ctl("queue", "remove", mail, "--reason", "x", status=EX_REFUSED)
            assert (done["done"], done["busy"]) == (0, 1)
            assert done["refused"][0]["id"] == mail and "delivered" in done["refused"][0]["why"]


def test_destruction_needs_to_be_meant(relay):
    fill(relay, 1)
    assert "all" in relay.ctl_text("queue", "remove", "--reason", "x", status=EX_USAGE).stderr
    assert "reason" in relay.ctl_text("queue", "remove", "--all", status=EX_USAGE).stderr
    with relay.admin() as client:
        assert client.ask("queue remove", reason="x")["error"] == "needs_all"
        assert client.ask("queue remove", all=True)["error"] == "needs_reason"
        assert client.ask("queue remove", all=True, resaon="x")["error"] == "bad_argument"
    assert len(relay.rows()) == 1


def test_several_mails_of_a_filter_need_a_yes(relay):
    """Where nobody can be asked. One alone, and those that are named, need none."""
    ids = fill(relay, 3)
    said = relay.ctl_text("queue", "remove", "--state", "waiting", "--reason", "x", status=EX_USAGE)
    assert "3 mails match (3 recipients); --yes does it" in said.stderr
    assert len(relay.rows()) == 3
    relay.ctl("queue", "hold", *ids[:2], "--reason", "x")
    assert relay.ctl("queue", "remove", "--state", "waiting", "--reason", "x")["done"] == 1
    assert relay.ctl("queue", "remove", "--all", "--yes", "--reason", "x")["done"] == 2


def test_there_are_no_nodes_where_the_queue_is_not_shared(relay):
    said = relay.ctl_text("node", "list", status=EX_REFUSED)
    assert "relay's own" in said.stderr


def test_many_are_changed_by_a_filter(relay):
    fill(relay, 500)
    assert relay.ctl("queue", "hold", "--state", "waiting", "--yes",
                     "--reason", "x")["done"] == 500
    assert relay.ctl("queue", "count", "state")["rows"][0]["key"] == "held"
    assert relay.ctl("queue", "remove", "--state", "held", "--yes",
                     "--reason", "x")["done"] == 500
    assert relay.rows() == []
    assert len(relay.log.wait_events(1000, "mail_acted")) == 1000


def test_sites(relay, site):
    relay.send("one@example.test", "two@other.test", count=2)
    relay.wait_rows(4, "--state", "waiting")
    rows = {row["name"]: row for row in relay.ctl("site", "list")["rows"]}
    assert site in rows and len(rows) == 2
    assert rows[site]["state"] == "down" and "refused" in rows[site]["failure"]
    assert rows[site]["host_count"] == rows[site]["hosts_failed"] == 1
    names = sorted(rows)
    page = relay.ctl("site", "list", "--limit", "1")
    assert [row["name"] for row in page["rows"]] == names[:1]
    rest = relay.ctl("site", "list", "--cursor", page["cursor"])
    assert [row["name"] for row in rest["rows"]] == names[1:] and "cursor" not in rest
    shown = relay.ctl("site", "show", site)
    assert shown["hosts"][0]["state"] == "failed" and shown["hosts"][0]["failures"] >= 1
    assert shown["hosts"][0]["address"] == site.removeprefix("smtp://")
    assert relay.ctl("site", "show", "smtp://x:1", status=EX_REFUSED)["error"] == "not_found"


@pytest.mark.smoke
def test_a_suspended_site_starts_nothing(folder, sink):
    with Relay(folder / "relay", routes=[{"domain": "*", "to": sink.url}]) as relay:
        suspended = relay.ctl("site", "suspend", sink.url, "--reason", "they asked")
        assert suspended == {"name": sink.url, "suspended": True}
        event = relay.log.wait("site_suspended", site=sink.url)
        assert event["why"] == "they asked" and f"(uid {os.geteuid()})" in event["who"]
        relay.send("one@example.test", count=20)
        relay.wait_rows(20, "--state", "waiting")
        assert relay.ctl("site", "show", sink.url)["state"] == "suspended"
        assert relay.ctl("status")["sites_suspended"] == 1
        assert "suspended" in relay.ctl("explain", "one@example.test")["why"]
        assert sink.mails == []
        assert relay.ctl("site", "resume", sink.url, "--reason", "better")["suspended"] is False
        assert relay.log.wait("site_resumed")["why"] == "better"
        sink.wait(20)
        again = relay.ctl("site", "resume", sink.url, "--reason", "x", status=EX_REFUSED)
        assert again["error"] == "not_found"


def test_a_suspension_outlives_a_restart(folder, sink):
    with Relay(folder / "relay", routes=[{"domain": "*", "to": sink.url}]) as relay:
        relay.ctl("site", "suspend", sink.url, "--reason", "they asked")
        relay.send("one@example.test")
        relay.stop()
        relay.start()
        assert "who" not in relay.log.wait("site_suspended", site=sink.url,
                                           why="it was before the restart")
        relay.send("two@example.test")
        relay.wait_rows(2, "--state", "waiting")
        assert sink.mails == []
        relay.ctl("site", "resume", sink.url, "--reason", "better")
        sink.wait(2)
        relay.stop()
        relay.start()
        relay.send("three@example.test")
        sink.wait(3)


def test_a_suspension_ends_by_its_time(folder, sink):
    with Relay(folder / "relay", routes=[{"domain": "*", "to": sink.url}]) as relay:
        until = relay.ctl("site", "suspend", sink.url, "--for", "2s", "--reason", "x")["until"]
        assert until.endswith("Z")
        relay.send("one@example.test")
        assert sink.mails == []
        event = relay.log.wait("site_resumed", site=sink.url)
        assert "who" not in event and event["time"] >= until
        sink.wait(1)


def test_what_waits_for_a_connection_is_released(folder):
    """With all connections stuck, mails in line are in delivery and cannot be removed; suspended,
    they go back to the queue and can."""
    with Sink(faults={"final": STALL}) as sink:
        routes = [{"domain": "*", "to": sink.url, "connections": 1}]
        with Relay(folder / "relay", {"timeouts": {"drain": "0s"}}, routes) as relay:
            relay.send("one@example.test", count=30)
            sink.wait_for(lambda s: s.stalled)
            relay.ctl("site", "suspend", sink.url, "--reason", "stuck")
            stuck = len(relay.rows("--state", "active"))
            assert 1 <= stuck <= 2  # on the connection, and one ahead
            waiting = relay.wait_rows(30 - stuck, "--state", "waiting")
            done = relay.ctl("queue", "remove", "--state", "waiting", "--yes", "--reason", "x")
            assert done["done"] == len(waiting)
            assert len(relay.rows()) == stuck


def test_an_unknown_site_is_not_suspended(relay):
    refused = relay.ctl("site", "suspend", "smtp://typo:25", "--reason", "x", status=EX_REFUSED)
    assert refused["error"] == "not_found"
    assert relay.log.events("site_suspended") == []


def test_nobody_is_locked_out(relay):
    assert relay.ctl("lock", "list") == {"count": 0, "rows": []}
    for login in ("192.0.2.1", "ann@example.test"):
        refused = relay.ctl("lock", "lift", login, "--reason", "x", status=EX_REFUSED)
        assert refused["error"] == "not_found"
    assert relay.log.events("login_lifted") == []


def test_explain(relay, site, folder):
    fill(relay, 1)
    down = relay.ctl("explain", "one@example.test")
    assert down["verdict"] == "waits" and down["site"] == site
    steps = {step["step"]: step for step in down["steps"]}
    assert steps["relay"]["answer"] == "anyone"
    assert steps["route"]["answer"] == site and "example.test" in steps["route"]["why"]
    assert "refused" in steps["site"]["why"]
    assert down["hosts"][0]["state"] == "failed"
    assert relay.ctl("explain", "a@drop.test")["verdict"] == "discards"
    none = relay.ctl("explain", "a@unknown.test")
    assert none["verdict"] == "refuses" and "site" not in none
    assert relay.ctl("explain", "no address")["verdict"] == "refuses"
    with Sink() as sink, Relay(folder / "up", routes=[{"domain": "*", "to": sink.url}]) as other:
        assert other.ctl("explain", "postmaster")["verdict"] == "delivers"


class Dns:
    """A name server of a few names, for one thread: {name: {type: [data]}}; what it does not have
    does not exist."""

    MX, A, AAAA, SOA = 15, 1, 28, 6

    def __init__(self, records):
        self.records = records
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ports.address(), 0))
        self.address = "%s@%d" % self.socket.getsockname()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    @staticmethod
    def name(text):
        labels = [label.encode() for label in text.split(".") if label]
        return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"

    def data(self, kind, value):
        if kind == self.MX:
            return value[0].to_bytes(2, "big") + self.name(value[1])
        return socket.inet_aton(value)

    def answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind = int.from_bytes(query[at + 1:at + 3], "big")
        of_name = self.records.get(".".join(labels).lower())
        if of_name == "broken":
            return query[:2] + b"\x81\x82\0\1\0\0\0\0\0\0" + query[12:at + 5]
        found = (of_name or {}).get(kind, [])
        rcode = b"\x81\x80" if of_name is not None else b"\x81\x83"
        rows = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c"
            + len(self.data(kind, value)).to_bytes(2, "big") + self.data(kind, value)
            for value in found)
        soa = self.name("ns.zone") + self.name("a.zone") + b"\0\0\0\x3c" * 5
        authority = b"" if found else (b"\0\0\6\0\1\0\0\0\x3c" + len(soa).to_bytes(2, "big") + soa)
        return (query[:2] + rcode + b"\0\1" + len(found).to_bytes(2, "big")
                + (b"\0\0" if found else b"\0\1") + b"\0\0" + query[12:at + 5] + rows + authority)

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.socket.recvfrom(4096)
                if not query:  # shut down
                    return
                self.socket.sendto(self.answer(query), peer)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def test_explain_asks_the_dns(folder):
    dns = Dns({"many.example": {Dns.MX: [(20, "b.example"), (10, "a.example")]},
               "a.example": {Dns.A: ["127.0.0.3"]}, "b.example": {Dns.A: ["127.0.0.4"]},
               "plain.example": {Dns.A: ["127.0.0.5"]}, "null.example": {Dns.MX: [(0, "")]},
               "broken.example": "broken"})
    config = {"dns": {"forwarders": [dns.address], "trust_anchors": "none", "deadline": "3s"}}
    with contextlib.closing(dns), Relay(folder / "relay", config,
                                        [{"domain": "*", "to": "mx"}]) as relay:
        many = relay.ctl("explain", "joe@many.example")
        steps = [(step["step"], step["answer"], step.get("security")) for step in many["steps"]]
        assert ("mx", "10 a.example, 20 b.example", "insecure") in steps
        assert ("host", "127.0.0.3", "insecure") in steps and many["verdict"] == "delivers"
        assert many["site"] == "a.example,b.example"
        plain = {step["step"]: step for step in relay.ctl("explain", "j@plain.example")["steps"]}
        assert "no MX" in plain["mx"]["why"] and plain["host"]["answer"] == "127.0.0.5"
        null = relay.ctl("explain", "j@null.example")
        assert null["verdict"] == "fails" and "5.1.10" in null["why"] and "site" not in null
        none = relay.ctl("explain", "j@none.example")
        assert none["verdict"] == "fails" and "5.1.2" in none["why"]
        broken = relay.ctl("explain", "j@broken.example")
        assert broken["verdict"] == "waits" and "4.4.3" in broken["why"]


def test_a_relay_that_ends_does_not_wait_for_the_dns(folder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((ports.address(), 0))
        config = {"dns": {"forwarders": ["%s@%d" % silent.getsockname()],
                          "trust_anchors": "none", "deadline": "1m"}}
        with Relay(folder / "relay", config, [{"domain": "*", "to": "mx"}]) as relay:
            with relay.admin() as client:
                client.write(b'{"version":1,"command":"explain","address":"a@b.example"}\n')
                silent.recvfrom(4096)
                begin = time.monotonic()
                relay.process.terminate()
                assert client.answer()["error"] == "shutting_down"
                assert relay.process.wait(60) == 0
                assert time.monotonic() - begin < 30


@pytest.mark.smoke
@pytest.mark.parametrize("garbage", [
    b"\n", b"garbage\n", b"\x00\xff\xfe\n", b"[[[[[[[\n", b'{"version":1}\n', b"GET / HTTP/1.1\r\n",
    b"{" * 4000 + b"\n"], ids=["empty", "word", "bytes", "open", "bare", "http", "deep"])
def test_garbage_is_refused_and_the_client_goes_on(relay, garbage):
    with relay.admin() as client:
        client.write(garbage)
        assert client.answer()["ok"] is False
        assert client.ask("status")["ok"] is True
    assert relay.metrics().sum("ringpost_admin_requests_total", result="ok") == 1


def test_a_line_without_end_is_cut(relay):
    with relay.admin() as client:
        client.write(b"x" * 9000)
        assert client.answer()["error"] == "bad_request"
        assert client.answer() is None
    assert relay.ctl("status")["state"] == "ready"


def test_requests_in_any_pieces(relay):
    line = json.dumps({"version": 1, "command": "status"}).encode() + b"\n"
    with relay.admin() as client:
        for byte in line:
            client.write(bytes([byte]))
        assert client.answer()["ok"] is True
        client.write(3 * line)  # answered one after the other
        for _ in range(3):
            assert client.answer()["ok"] is True
        client.write(line)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer()["ok"] is True
        assert client.answer() is None


def test_a_client_that_stalls_is_closed(relay):
    """With half a request, and with an answer that it does not take (some MB for a socket)."""
    fill(relay, 300)
    line = json.dumps({"version": 1, "command": "queue list", "limit": 1000}).encode() + b"\n"
    with relay.admin() as half, relay.admin() as deaf:
        half.write(line[:10])
        with contextlib.suppress(OSError):
            deaf.socket.settimeout(1)
            while True:
                deaf.socket.sendall(50 * line)
        assert half.answer() is None
        assert relay.ctl("status")["state"] == "ready"
        deaf.socket.settimeout(60)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while deaf.socket.recv(1 << 20):
                pass


def test_a_client_that_goes_away(relay):
    fill(relay, 200)
    line = json.dumps({"version": 1, "command": "queue list", "limit": 1000}).encode() + b"\n"
    for _ in range(50):
        with relay.admin() as client, contextlib.suppress(BrokenPipeError):
            client.write(line)
    deadline = time.monotonic() + 30
    answer = {"ok": False}
    while not answer or not answer["ok"]:  # those that went away are still answered: too many
        assert time.monotonic() < deadline, answer
        with relay.admin() as client, contextlib.suppress(BrokenPipeError):
            answer = client.ask("queue list", limit=1000)
    assert len(answer["result"]["rows"]) == 200


@pytest.mark.smoke
def test_fifty_clients_at_once(folder, site):
    with Relay(folder / "relay", {"admin": {"clients": 64, "socket": str(
            folder / "relay" / "admin.sock")}}, [{"domain": "*", "to": site}]) as relay:
        fill(relay, 100)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(relay.admin()) for _ in range(50)]
            for number, client in enumerate(clients):
                request = ({"command": "queue list"}, {"command": "queue count", "by": "site"},
                           {"command": "status"}, {"command": "site list"},
                           {"command": "explain", "address": "a@b.test"})[number % 5]
                client.write(json.dumps({"version": 1, **request}).encode() + b"\n")
            for client in clients:
                assert client.answer()["ok"] is True


def test_too_many_clients_are_told(folder, site):
    socket_path = folder / "relay" / "admin.sock"
    with Relay(folder / "relay", {"admin": {"clients": 2, "socket": str(socket_path)}},
               [{"domain": "*", "to": site}]) as relay:
        with relay.admin() as one, relay.admin() as two:
            assert one.ask("status")["ok"] and two.ask("status")["ok"]
            assert relay.ctl("status", status=EX_TRY_AGAIN)["error"] == "too_many"
            assert relay.metrics().sum("ringpost_limit_hits_total", limit="admin_clients") == 1
        relay.wait_metric(lambda m: "too many" not in subprocess.run(
            [os.environ["RINGPOSTCTL"], "--socket", str(socket_path), "status"],
            capture_output=True, text=True).stderr, "room again")


def test_a_request_at_the_most_is_asked_or_refused(folder):
    """Each byte becomes six in JSON. The one that counts first is a few bytes longer."""
    seen = set()
    for size in range(175, 225):
        done = subprocess.run(
            [os.environ["RINGPOSTCTL"], "--socket", str(folder / "none"), "queue", "hold",
             "--site", 999 * "\x01", "--reply", 320 * "\x01", "--reason", size * "b"],
            capture_output=True, text=True)
        if done.returncode == EX_USAGE:
            assert "the request is too long" in done.stderr, done
        else:
            assert done.returncode == EX_TRY_AGAIN and "No such file" in done.stderr, done
        seen.add(done.stderr.split()[-1])
    assert seen == {"(--socket)?", "filter"}, seen


@pytest.mark.smoke
def test_drain_while_a_client_lists(relay):
    """The daemon ends although clients ask without a pause, and each gets whole answers."""
    fill(relay, 300)
    with relay.admin() as idle, relay.admin() as busy:
        assert idle.ask("status")["ok"]
        assert busy.ask("queue list", limit=1000)["ok"]
        relay.process.terminate()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while (answer := busy.ask("queue list", limit=1000)) is not None:
                assert answer["ok"] or answer["error"] == "shutting_down"
        assert idle.answer() is None
    assert relay.process.wait(60) == 0
    assert not relay.socket_path.exists()
    assert "is ringpostd running" in relay.ctl_text("status", status=EX_TRY_AGAIN).stderr


def test_a_drain_is_seen(folder):
    with Sink(faults={"final": STALL}) as sink:
        config = {"timeouts": {"drain": "5s"}}
        with Relay(folder / "relay", config, [{"domain": "*", "to": sink.url}]) as relay:
            relay.send("one@example.test")
            sink.wait_for(lambda s: s.stalled)
            relay.process.terminate()
            deadline = time.monotonic() + 4
            while relay.ctl("status")["state"] != "draining":
                assert time.monotonic() < deadline
            assert len(relay.rows()) == 1
            assert relay.process.wait(60) == 0


def test_the_socket_is_for_its_user_alone(relay):
    mode = relay.socket_path.stat()
    assert stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == os.geteuid()


def test_a_group_may_open_it(folder, root):
    path = folder / "relay" / "admin.sock"
    with Relay(folder / "relay", {"admin": {"socket": str(path), "group": "daemon"}}) as relay:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660 and path.group() == "daemon"
        assert relay.ctl("status")["state"] == "ready"


def test_others_are_refused_by_the_kernel(relay, root):
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", os.environ["RINGPOSTCTL"],
                           "--socket", str(relay.socket_path), "status"],
                          capture_output=True, text=True)
    assert done.returncode == EX_TRY_AGAIN and "admin.group" in done.stderr, done


@pytest.mark.parametrize("config, word", [
    ({"socket": "/nonexistent/folder/admin.sock"}, "make its directory"),
    ({"socket": "/" + "x" * 120}, "too long"),
    ({"socket": "/tmp/ringpost-unused.sock", "group": "no-such-group"}, "groupadd"),
])
def test_a_socket_that_cannot_be(folder, config, word):
    relay = Relay(folder / "relay")
    relay.change({"admin": config})
    done = relay.run()
    assert done.returncode == 78 and "admin." in done.stderr and word in done.stderr, done
    assert not pathlib.Path("/tmp/ringpost-unused.sock").exists()


def test_a_killed_daemons_socket_is_replaced(relay):
    relay.kill()
    assert relay.socket_path.exists()
    relay.ctl_text("status", status=EX_TRY_AGAIN)
    relay.start()
    assert relay.ctl("status")["state"] == "ready"


def test_without_a_socket_there_is_none(folder):
    with Ringpost(folder / "relay"):
        assert not (folder / "relay" / "admin.sock").exists()


def test_metrics_count_requests(relay):
    with relay.admin() as client:
        client.ask("status")
        client.ask("queue show", id=NO_ID)
        client.ask("nonsense")
    metrics = relay.metrics()
    for result in ("ok", "not_found", "bad_command"):
        assert metrics.sum("ringpost_admin_requests_total", result=result) == 1


def test_completion_knows_the_commands():
    script = pathlib.Path(__file__).parents[2] / "deploy" / "ringpostctl.bash"
    folder = str(pathlib.Path(os.environ["RINGPOSTCTL"]).parent)

    def complete(*words):
        done = subprocess.run(
            ["bash", "-c", 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringpostctl; '
             'printf "%s\n" "${COMPREPLY[@]}"', str(script), "ringpostctl", *words],
            capture_output=True, text=True, check=True,
            env={**os.environ, "PATH": folder + ":" + os.environ["PATH"]})
        return set(done.stdout.split())

    assert complete("") >= {"status", "queue", "site", "explain"}
    assert complete("que") == {"queue"}
    assert complete("queue", "re") == {"retry", "release", "remove"}
    assert complete("queue", "hold", "--") >= {"--reason", "--state", "--json"}
    assert "--limit" not in complete("queue", "hold", "--")
