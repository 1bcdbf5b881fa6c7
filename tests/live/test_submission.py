# SPDX-License-Identifier: Apache-2.0
"""What users may send, how much, and what becomes of their mail on its way in; who fails to log in
again and again; and all of it behind a proxy."""
import base64
import contextlib
import email
import email.utils
import json
import os
import re
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest

import clients
import ports
from authority import Authority
from daemon import Ringpost

PASSWORD = "s3kret, pass=wort"
WRONG = "not that one"
ANN, BOB = "ann@example.test", "bob@example.test"
PROXY = "127.0.0.77"
FIELDS = b"From: Ann <ann@example.test>\r\nSubject: hi\r\n"
BODY = FIELDS + b"\r\nhello\r\n"


class Submission(Ringpost):
    """Two workers; listens for users on `starttls`, on `implicit`, and on `proxied`, where TLS
    comes behind a PROXY header."""

    def __init__(self, folder, sink, config=None):
        self.authority = Authority(folder / "authority")
        certificate = self.authority.issue("relay.test", "localhost")
        self.users_path = folder / "users"
        self.socket_path = folder / "admin.sock"
        super().__init__(folder / "relay", {
            "users": {"file": str(self.users_path)},
            "lockout": {"delay": "0s"},
            "admin": {"socket": str(self.socket_path)},
            "log": {"level": "debug"},
            "tls": {"certificates": [{"chain": str(certificate.chain),
                                      "key": str(certificate.key)}]},
        }, [{"domain": "*", "to": sink.url}])
        self.starttls, self.implicit, self.proxied = (ports.free_port() for _ in range(3))
        for port, more in ((self.starttls, {"tls": "starttls"}),
                           (self.implicit, {"tls": "implicit"}),
                           (self.proxied, {"tls": "implicit", "proxy_from": [PROXY]})):
            self.config["listeners"].append(
                {"address": f"{self.host}:{port}", "role": "submission", **more})
        self.change(config or {})
        for name, *words in ((ANN,), (BOB, "from=bob@example.test,@lists.test"),
                             ("all", "from=*"), ("nobody",)):
            self.add_user(name, *words)

    def add_user(self, name, *words):
        done = subprocess.run([os.environ["RINGPOSTCTL"], "user", "add", name, *words,
                               "--iterations", "4096", "--file", str(self.users_path)],
                              input=PASSWORD.encode() + b"\n", capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def ctl(self, *arguments, status=0):
        done = subprocess.run([os.environ["RINGPOSTCTL"], "--socket", str(self.socket_path),
                               *arguments, "--json"], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else None

    def context(self):
        context = ssl.create_default_context(cafile=self.authority.file)
        context.check_hostname = False
        return context

    def session(self, source=None, implicit=False):
        """smtplib, behind EHLO through TLS. source: the client's address."""
        source = (source, 0) if source else None
        if implicit:
            client = smtplib.SMTP_SSL(self.host, self.implicit, "client.test", timeout=60,
                                      context=self.context(), source_address=source)
        else:
            client = smtplib.SMTP(self.host, self.starttls, "client.test", 60, source)
            assert client.starttls(context=self.context())[0] == 220
        client.ehlo()
        return client

    def login(self, user=ANN, **more):
        client = self.session(**more)
        client.login(user, PASSWORD)
        return client


@pytest.fixture
def make(folder, sink):
    """A running relay with what differs in its configuration."""
    with contextlib.ExitStack() as running:
        yield lambda config=None: running.enter_context(Submission(folder, sink, config))


@pytest.fixture
def relay(make):
    return make()


def reply(code, text, enhanced):
    assert text.decode().startswith(enhanced + " "), text
    return code


def send(client, body=BODY, sender=ANN, recipients=("one@else.test",)):
    """The first reply that is no success, or the last, as (code, enhanced code)."""
    steps = [lambda: client.mail(sender)]
    steps += [lambda to=to: client.rcpt(to) for to in recipients]
    steps.append(lambda: client.data(body))
    for step in steps:
        try:
            code, text = step()
        except smtplib.SMTPDataError as refused:
            code, text = refused.smtp_code, refused.smtp_error
        if code >= 400:
            client.rset()
            break
    return code, text.decode().split(" ")[0]


def header_of(content):
    return email.message_from_bytes(content)


# ---- who may send what ----

def test_nothing_without_a_login(relay):
    """127.0.0.0/8 is a network that may relay, but not here."""
    with smtplib.SMTP(relay.host, relay.starttls, "client.test", 60) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert send(client)[0] == 530
        client.starttls(context=relay.context())
        client.ehlo()
        assert client.has_extn("auth")
        assert send(client) == (530, "5.7.0")
        assert client.docmd("VRFY", "one@else.test")[0] == 252


@pytest.mark.parametrize("user, sender, answer", [
    (ANN, ANN, (250, "2.0.0")),
    (ANN, "Ann@EXAMPLE.test", (250, "2.0.0")),
    (ANN, "ann+lists@example.test", (250, "2.0.0")),
    (ANN, BOB, (553, "5.7.1")),
    (ANN, "ann@else.test", (553, "5.7.1")),
    (ANN, "", (553, "5.7.1")),
    (BOB, BOB, (250, "2.0.0")),
    (BOB, "anything@lists.test", (250, "2.0.0")),
    (BOB, ANN, (553, "5.7.1")),
    ("all", "who@ever.test", (250, "2.0.0")),
    ("nobody", "nobody@example.test", (553, "5.7.1")),
])
def test_the_sender_must_be_the_users(relay, sink, user, sender, answer):
    with relay.login(user) as client:
        assert send(client, sender=sender) == answer
        # The session goes on.
        assert send(client, sender=BOB)[0] == (250 if user in (BOB, "all") else 553)
    if answer[0] == 250:
        assert sink.wait(1)[0].sender == sender
    else:
        event = relay.log.wait("command_refused", code=553)
        assert event["user"] == user and event["command"] == f"MAIL FROM:<{sender}>"


def test_the_null_sender_as_an_option(make):
    relay = make({"submission": {"null_sender": True}})
    with relay.login() as client:
        assert send(client, sender="")[0] == 250


def test_the_from_field_as_an_option(make, sink):
    relay = make({"submission": {"check_from": True}})
    rows = [(b"From: Ann <ann@example.test>\r\n", 250),
            (b"From: Ann\r\n <ann+x@example.test>,\r\n\tann@example.test\r\n", 250),
            (b"From: The boss <boss@example.test>\r\n", 550),
            (b"From: Ann <ann@example.test>, boss@example.test\r\n", 550),
            (b"From: ann@example.test\r\nTo: x\r\nFrom: boss@example.test\r\n", 550),
            (b"From: boss@example.test <ann@example.test>\r\n", 550),
            (b"From: ann@example.test, " + b"x" * 9000 + b"\r\n", 550),
            (b"To: x\r\n", 250)]
    with relay.login() as client:
        for field, code in rows:
            # With a body, and as the last field of a mail without one.
            assert send(client, field + b"\r\nhello\r\n")[0] == code, field
            assert send(client, b"To: y\r\n" + field)[0] == code, field
    assert len(sink.wait(6)) == 6
    event = relay.log.wait("command_refused", code=550)
    assert event["command"] == "From: The boss <boss@example.test>" and event["user"] == ANN


# ---- what becomes of it ----

def check_fixed(content, own):
    """Below our Received field all of `own` is there, with a Date and a Message-ID behind the
    header."""
    below = content.split(b"\r\n", content[:content.index(b"+0000\r\n")].count(b"\r\n") + 1)[-1]
    head, body = own.split(b"\r\n\r\n", 1)
    match = re.fullmatch(re.escape(head) + rb"\r\nDate: ([^\r]*)\r\nMessage-ID: <([^\r]*)>\r\n\r\n"
                         + re.escape(body), below)
    assert match, below
    sent = email.utils.parsedate_to_datetime(match.group(1).decode()).timestamp()
    assert abs(sent - time.time()) < 300
    queue_id = re.search(rb" id (\w{26})", content).group(1)
    assert match.group(2) == queue_id + b"@relay.test"


def test_missing_fields_are_added_and_bcc_is_taken_out(relay, sink):
    big = FIELDS + b"\r\n" + b"".join(b"line %d\r\nBcc: not a field\r\n" % n for n in range(40000))
    secret = FIELDS + b"Bcc: hidden@else.test,\r\n other@else.test\r\nTo: x\r\n" \
        b"BCC: more@else.test\r\n"
    with relay.login() as client:
        assert send(client)[0] == 250
        assert send(client, big)[0] == 250
        assert send(client, secret + b"\r\nhello\r\n")[0] == 250
        # By BDAT in pieces that cut everything.
        for n, byte in enumerate(secret + b"\r\nx\r\n"):
            if n == 0:
                client.mail(ANN)
                client.rcpt("one@else.test")
            last = n == len(secret) + 4
            client.send(b"BDAT 1%s\r\n" % (b" LAST" if last else b"") + bytes([byte]))
            assert client.getreply()[0] == 250
    mails = [mail.content for mail in sink.wait(4)]
    mails.sort(key=len)
    kept = FIELDS + b"To: x\r\n"
    wanted = sorted([BODY, big, kept + b"\r\nhello\r\n", kept + b"\r\nx\r\n"], key=len)
    for content, own in zip(mails, wanted):
        check_fixed(content, own)


def test_what_is_there_stays(relay, sink):
    full = FIELDS + b"date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMESSAGE-ID: <1@client.test>\r\n" \
        b"\r\nhello\r\n"
    with relay.login(implicit=True) as client:
        assert send(client, full)[0] == 250
    assert sink.wait(1)[0].content.endswith(b"+0000\r\n" + full)


def test_each_change_is_an_option(make, sink):
    relay = make({"submission": {"add_date": False, "add_message_id": False, "remove_bcc": False}})
    own = FIELDS + b"Bcc: hidden@else.test\r\n\r\nhello\r\n"
    with relay.login() as client:
        assert send(client, own)[0] == 250
    assert sink.wait(1)[0].content.endswith(b"+0000\r\n" + own)


def test_mail_of_others_is_not_changed(relay, sink):
    own = b"Bcc: x@else.test\r\n\r\nhello\r\n"
    with relay.connect() as client:
        client.greet()
        assert client.mail(body=own)[0] == 250
    assert sink.wait(1)[0].content.endswith(b"+0000\r\n" + own)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_client_can_be_hidden(make, sink, hidden):
    relay = make({"submission": {"hide_client": hidden}})
    with relay.login(source="127.0.0.9") as client:
        assert send(client)[0] == 250
    trace = header_of(sink.wait(1)[0].content)["Received"]
    assert ("127.0.0.9" in trace) != hidden and ("client.test" in trace) != hidden
    assert ("from hidden.invalid" in trace) == hidden
    assert "with ESMTPSA" in trace
    assert relay.log.wait("received")["peer"].startswith("127.0.0.9:")


def test_real_clients(relay, sink):
    body = relay.folder / "body"
    body.write_bytes(FIELDS + b"Bcc: hidden@else.test\r\n\r\nfrom swaks\r\n.\r\n")
    clients.run(["swaks", "--server", relay.host, "--port", str(relay.starttls), "--tls", "--auth",
                 "PLAIN", "--auth-user", ANN, "--auth-password", PASSWORD, "--from", ANN,
                 "--to", "one@else.test", "--data", f"@{body}", "--hide-all"])
    settings, secret = relay.folder / "msmtprc", relay.folder / "password"
    secret.write_text(PASSWORD + "\n")
    settings.write_text(f"account default\nhost {relay.host}\nport {relay.implicit}\ntls on\n"
                        f"tls_starttls off\ntls_certcheck off\nauth plain\nuser {ANN}\n"
                        f"passwordeval cat {secret}\nset_date_header off\nset_msgid_header off\n"
                        "remove_bcc_headers off\n")
    settings.chmod(0o600)
    own = FIELDS + b"Bcc: hidden@else.test\r\n\r\nfrom msmtp\r\n"
    clients.run(["msmtp", "-C", str(settings), "-f", ANN, "--", "one@else.test"], own)
    refused = subprocess.run(["msmtp", "-C", str(settings), "-f", BOB, "--", "one@else.test"],
                             input=own, capture_output=True, timeout=60)
    assert refused.returncode != 0 and b"553" in refused.stderr
    script = """
const transport = require('nodemailer').createTransport(JSON.parse(process.argv[1]));
transport.sendMail({from: 'ann@example.test', to: 'one@else.test', bcc: 'hidden@else.test',
    raw: 'From: ann@example.test\\r\\nBcc: hidden@else.test\\r\\n\\r\\nfrom nodemailer\\r\\n',
    envelope: {from: 'ann@example.test', to: ['one@else.test', 'hidden@else.test']}})
.then(() => transport.close(), (e) => { console.error(e.message); process.exit(1); });
"""
    options = {"host": relay.host, "port": relay.implicit, "secure": True,
               "auth": {"user": ANN, "pass": PASSWORD}, "tls": {"rejectUnauthorized": False}}
    clients.run(["node", "-e", script, json.dumps(options)],
                env={"NODE_PATH": os.environ["RINGPOST_NODE_MODULES"]})
    for mail in sink.wait(3):
        header = header_of(mail.content)
        assert b"hidden@else" not in mail.content and not header["Bcc"]
        assert header["Date"] and header["Message-ID"] and header["From"]


# ---- how much ----

def test_mails_in_an_hour_over_all_sessions(make, sink):
    relay = make({"users": {"defaults": {"mails_per_hour": 10}}})
    relay.add_user("few@example.test", "mails_per_hour=3")
    relay.add_user("many@example.test", "mails_per_hour=none")
    relay.reload()
    relay.log.wait("config_loaded")
    answers = []

    def run():
        with relay.login() as client:
            for _ in range(5):
                answers.append(send(client))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(250, "2.0.0")] * 10 + [(450, "4.7.1")] * 10
    for user, most in (("few@example.test", 3), ("many@example.test", 12)):
        with relay.login(user) as client:
            codes = [send(client, sender=user)[0] for _ in range(12)]
        assert codes == [250] * most + [450] * (12 - most)
    event = relay.log.wait("user_limit", user=ANN)
    assert event["limit"] == "mails_per_hour" and event["most"] == 10
    metrics = relay.metrics()
    assert metrics.sum("ringpost_limit_hits_total", limit="user_mails_per_hour") == 19
    assert len(sink.wait(25)) == 25
    # A reload keeps what was sent.
    relay.reload()
    relay.log.wait("config_loaded")
    with relay.login() as client:
        assert send(client) == (450, "4.7.1")


def test_recipients_in_a_day(make, sink):
    relay = make({"users": {"defaults": {"recipients_per_day": 4}}})
    with relay.login() as client:
        client.mail(ANN)
        for n in range(4):
            assert client.rcpt(f"r{n}@else.test")[0] == 250
        code, text = client.rcpt("more@else.test")
        assert reply(code, text, "4.7.1") == 450
        client.rset()  # none of it was sent
        assert send(client, recipients=[f"r{n}@else.test" for n in range(3)])[0] == 250
        assert send(client, recipients=["a@else.test", "b@else.test"])[0] == 450
        assert send(client)[0] == 250
        assert send(client)[0] == 450
    assert relay.log.wait("user_limit")["limit"] == "recipients_per_day"
    assert len(sink.wait(2)) == 2


def test_connections_at_a_time(make):
    relay = make({"users": {"defaults": {"connections": 2}}})
    with relay.login(), relay.login():
        assert fail(relay, password=PASSWORD) == 421
        with relay.login(BOB):
            pass
    relay.wait_metric(lambda m: m.sum("ringpost_connections", side="receive") == 0, "no client")
    with relay.login():
        pass


# ---- who fails again and again ----

def plain(user, password):
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def fail(relay, user=ANN, password=WRONG, source=None):
    """The reply to a login."""
    with relay.session(source=source) as client:
        return client.docmd("AUTH", "PLAIN " + plain(user, password))[0]


def test_an_address_is_locked_out_and_let_in_again(make):
    relay = make({"lockout": {"address_failures": 3, "user_failures": 0}})
    for n in range(3):
        assert fail(relay, user=f"guess{n}", source="127.0.0.8") == 535
    event = relay.log.wait("login_locked")
    assert event["kind"] == "address" and event["name"] == "127.0.0.8"
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        relay.session(source="127.0.0.8")
    assert refused.value.smtp_code == 421
    relay.log.wait("connection_refused", reason="locked_out")
    with relay.login(source="127.0.0.9") as client:
        assert send(client)[0] == 250
    # Mail from others is taken all the same.
    with smtplib.SMTP(relay.host, relay.port, "client.test", 60, ("127.0.0.8", 0)) as client:
        client.ehlo()
        assert send(client)[0] == 250
    locks = relay.ctl("lock", "list")
    assert locks["count"] == 1
    assert {key: locks["rows"][0][key] for key in ("kind", "login")} == \
        {"kind": "address", "login": "127.0.0.8"}
    assert relay.ctl("lock", "lift", "127.0.0.8", "--reason", "he has called") == \
        {"login": "127.0.0.8"}
    assert relay.log.wait("login_lifted")["why"] == "he has called"
    assert relay.ctl("lock", "list")["rows"] == []
    with relay.login(source="127.0.0.8"):
        pass
    assert relay.metrics().sum("ringpost_login_locks_total", kind="address") == 1


def test_a_user_is_locked_out_but_where_he_logs_in_from(make):
    relay = make({"lockout": {"address_failures": 0, "user_failures": 3, "delay_max": "0s"}})
    with relay.login(source="127.0.0.8"):
        pass
    for n in range(3):
        assert fail(relay, password=f"guess {n}", source=f"127.0.1.{n + 1}") == 535
    assert fail(relay, password=PASSWORD, source="127.0.0.9") == 454
    with relay.login(source="127.0.0.8") as client:
        assert send(client)[0] == 250
    # Whether there is such a user makes no difference.
    for n in range(3):
        assert fail(relay, user="who", password=f"guess {n}", source="127.0.0.9") == 535
    assert fail(relay, user="who", source="127.0.0.9") == 454
    assert {lock["kind"] for lock in relay.ctl("lock", "list")["rows"]} == {"user"}
    relay.ctl("lock", "lift", ANN, "--reason", "x")
    with relay.login(source="127.0.0.9"):
        pass


def test_the_same_wrong_password_again_is_no_guessing(make):
    relay = make({"lockout": {"address_failures": 2, "user_failures": 2}})
    for _ in range(8):
        assert fail(relay) == 535
    assert relay.log.events("login_locked") == []
    assert fail(relay, password="another") == 535
    relay.log.wait("login_locked", kind="address")


def test_answers_to_failures_are_held_back(make):
    relay = make({"lockout": {"delay": "400ms", "delay_max": "800ms", "user_failures": 0}})
    waited = []
    for n in range(3):
        began = time.monotonic()
        assert fail(relay, user=f"guess{n}") == 535
        waited.append(time.monotonic() - began)
    assert waited[0] >= 0.4 and waited[1] >= 0.8 and waited[2] >= 0.8


def test_nobody_waits_for_an_answer_that_is_held_back(make):
    relay = make({"workers": 1, "lockout": {"delay": "5s", "delay_max": "5s"}})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(fail(relay, user="guess")))
    thread.start()
    relay.log.wait("auth_failed")
    with relay.login() as client:
        assert send(client)[0] == 250
    assert answers == []
    thread.join()
    assert answers == [535]


# ---- behind a proxy ----

def through_proxy(relay, address):
    """A session whose client is at `address`, as a proxy hands it on: the header and the first
    bytes of TLS in one piece."""
    raw = socket.create_connection((relay.host, relay.proxied), 30, (PROXY, 0))
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = relay.context().wrap_bio(into, out)
    first = f"PROXY TCP4 {address} 192.0.2.99 40000 465\r\n".encode()
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(first + out.read())
            first = b""
            data = raw.recv(65536)
            if not data:
                raise ConnectionResetError("closed in the handshake") from None
            into.write(data)
    raw.sendall(out.read())
    return raw, tls, into, out


def test_tls_behind_a_proxy(make, sink):
    relay = make({"lockout": {"address_failures": 2, "user_failures": 0}})
    raw, tls, into, out = through_proxy(relay, "192.0.2.8")

    def say(line):
        if line:
            tls.write(line + b"\r\n")
            raw.sendall(out.read())
        text = b""
        while not re.search(rb"^\d{3} [^\r]*\r\n", text, re.M):
            try:
                text += tls.read()
            except ssl.SSLWantReadError:
                data = raw.recv(65536)
                assert data
                into.write(data)
        return text

    assert say(b"").startswith(b"220 ")
    assert b"AUTH" in say(b"EHLO client.test")
    assert say(b"AUTH PLAIN " + plain(ANN, PASSWORD).encode()).startswith(b"235 ")
    for line in (b"MAIL FROM:<ann@example.test>", b"RCPT TO:<one@else.test>", b"DATA"):
        assert say(line)[:1] in (b"2", b"3")
    assert say(BODY + b".").startswith(b"250 ")
    assert b"[192.0.2.8]" in sink.wait(1)[0].content
    assert relay.log.wait("received")["peer"] == "192.0.2.8:40000"
    for n in range(2):
        raw, tls, into, out = through_proxy(relay, "192.0.2.7")
        say(b"")
        say(b"EHLO client.test")
        assert say(b"AUTH PLAIN " + plain(f"guess{n}", WRONG).encode()).startswith(b"535 ")
    # It is the client's address that is locked out.
    assert relay.log.wait("login_locked")["name"] == "192.0.2.7"
    with pytest.raises((OSError, ssl.SSLError, AssertionError)):
        through_proxy(relay, "192.0.2.7")
        say(b"")
    raw, tls, into, out = through_proxy(relay, "192.0.2.8")
    assert say(b"").startswith(b"220 ")
