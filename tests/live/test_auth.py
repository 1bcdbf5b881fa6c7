# SPDX-License-Identifier: Apache-2.0
"""Authenticated submission with real clients and every mechanism, against the file of users and
against Dovecot; and what is told of it, and what never is."""
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import signal
import smtplib
import ssl
import subprocess
import threading
import time

import pytest
from cryptography.hazmat.primitives import hashes

import clients
import ports
from authority import Authority
from daemon import Ringpost, terminate

ANN, BOB = "ann@example.test", "bob@example.test"
PASSWORD = "s3kret, pass=wort"
BODY = b"Subject: hi\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n" \
       b"From: ann@example.test\r\n\r\nhello\r\n"


def ctl(users, *arguments, password=None):
    done = subprocess.run([os.environ["RINGPOSTCTL"], "user", *arguments, "--file", str(users)],
                          input=(password or "").encode() + b"\n", capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Submission(Ringpost):
    """Listens for users with STARTTLS and with implicit TLS; `port` is for mail of others."""

    def __init__(self, folder, certificate, users, routes):
        super().__init__(folder, {
            "users": users,
            "lockout": {"delay": "0s", "address_failures": 0, "user_failures": 0},
            "relay": {"networks": [], "recipients_look": "1s"},
            "tls": {"certificates": [{"chain": str(certificate.chain),
                                      "key": str(certificate.key)}]},
        }, routes)
        self.starttls, self.implicit = ports.free_port(), ports.free_port()
        for port, tls in ((self.starttls, "starttls"), (self.implicit, "implicit")):
            self.config["listeners"].append(
                {"address": f"{self.host}:{port}", "role": "submission", "tls": tls,
                 "client_certificates": "ask"})
        self.config["listeners"][0]["client_certificates"] = "ask"
        self.write_config()


class World:
    def __init__(self, folder, sink, users=None):
        self.folder, self.sink = folder, sink
        self.authority = Authority(folder / "authority")
        self.server = self.authority.issue("relay.test", "localhost")
        self.client = self.authority.issue("client.test")
        self.users = folder / "users"
        self.relay = Submission(folder / "relay", self.server,
                                users or {"file": str(self.users)},
                                [{"domain": "*", "to": sink.url}])

    def fingerprint(self):
        return self.client.certificate.fingerprint(hashes.SHA256()).hex()

    def context(self, certificate=None):
        context = ssl.create_default_context(cafile=self.authority.file)
        context.check_hostname = False
        if certificate:
            context.load_cert_chain(certificate.chain, certificate.key)
        return context

    def connect(self, implicit=False, certificate=None):
        """smtplib, behind EHLO through TLS."""
        context = self.context(certificate)
        if implicit:
            client = smtplib.SMTP_SSL(self.relay.host, self.relay.implicit, "client.test",
                                      timeout=60, context=context)
        else:
            client = smtplib.SMTP(self.relay.host, self.relay.starttls, "client.test", 60)
            assert client.starttls(context=context)[0] == 220
        client.ehlo()
        return client


@pytest.fixture
def world(folder, sink):
    made = World(folder, sink)
    ctl(made.users, "add", ANN, "--iterations", "4096", password=PASSWORD)
    ctl(made.users, "add", BOB, "--no-password", "certificate=" + made.fingerprint())
    ctl(made.users, "add", "off", "--iterations", "4096", "disabled", password=PASSWORD)
    with made.relay:
        yield made


# ---- the clients ----

def with_smtplib(world, mechanism, implicit, user, password):
    with world.connect(implicit) as client:
        client.esmtp_features["auth"] = mechanism
        client.login(user, password)
        client.sendmail(user, ["one@else.test"], BODY)


def with_swaks(world, mechanism, implicit, user, password):
    body = world.folder / "body"
    body.write_bytes(BODY + b".\r\n")
    port = world.relay.implicit if implicit else world.relay.starttls
    clients.run(["swaks", "--server", world.relay.host, "--port", str(port),
                 "--ehlo", "client.test", "--tls-on-connect" if implicit else "--tls",
                 "--auth", mechanism, "--auth-user", user, "--auth-password", password,
                 "--from", user, "--to", "one@else.test", "--data", f"@{body}", "--hide-all"])


def with_msmtp(world, mechanism, implicit, user, password):
    settings = world.folder / "msmtprc"
    lines = ["account default", f"host {world.relay.host}",
             f"port {world.relay.implicit if implicit else world.relay.starttls}",
             "domain client.test", "tls on", f"tls_starttls {'off' if implicit else 'on'}",
             "tls_certcheck off", f"auth {mechanism.lower()}", f"user {user}"]
    if mechanism == "EXTERNAL":
        lines += [f"tls_cert_file {world.client.chain}", f"tls_key_file {world.client.key}"]
    else:
        secret = world.folder / "password"
        secret.write_text(password + "\n")
        lines.append(f"passwordeval cat {secret}")
    settings.write_text("\n".join(lines) + "\n")
    settings.chmod(0o600)
    clients.run(["msmtp", "-C", str(settings), "-f", user, "--", "one@else.test"], BODY)


def with_curl(world, mechanism, implicit, user, password):
    body = world.folder / "body"
    body.write_bytes(BODY)
    scheme, port = ("smtps", world.relay.implicit) if implicit else ("smtp", world.relay.starttls)
    clients.run(["curl", "--silent", "--show-error", "--ssl-reqd", "--insecure",
                 f"{scheme}://{world.relay.host}:{port}/client.test",
                 "--login-options", f"AUTH={mechanism}", "--user", f"{user}:{password}",
                 *(["--cert", str(world.client.chain), "--key", str(world.client.key)]
                   if mechanism == "EXTERNAL" else []),
                 "--mail-from", user, "--mail-rcpt", "one@else.test", "--upload-file", str(body)])


def with_nodemailer(world, mechanism, implicit, user, password):
    modules = os.environ.get("RINGPOST_NODE_MODULES", "")
    assert os.path.isdir(modules), "RINGPOST_NODE_MODULES must name node_modules with nodemailer"
    body = world.folder / "body"
    body.write_bytes(BODY)
    job = {"host": world.relay.host, "from": user, "to": ["one@else.test"], "file": str(body),
           "port": world.relay.implicit if implicit else world.relay.starttls,
           "tls": "implicit" if implicit else "starttls",
           "auth": {"method": mechanism, "user": user, "pass": password}}
    clients.run(["node", str(pathlib.Path(__file__).with_name("nodemailer_send.js"))],
                json.dumps(job).encode(), {"NODE_PATH": modules})


WAYS = [(with_smtplib, "PLAIN"), (with_smtplib, "LOGIN"),
        (with_swaks, "PLAIN"), (with_swaks, "LOGIN"),
        (with_msmtp, "PLAIN"), (with_msmtp, "LOGIN"), (with_msmtp, "SCRAM-SHA-256"),
        (with_msmtp, "EXTERNAL"),
        (with_curl, "PLAIN"), (with_curl, "LOGIN"), (with_curl, "EXTERNAL"),
        (with_nodemailer, "PLAIN"), (with_nodemailer, "LOGIN")]
NAMES = [f"{way.__name__[5:]}-{mechanism}" for way, mechanism in WAYS]


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("way, mechanism", WAYS, ids=NAMES)
def test_clients_log_in(world, way, mechanism, implicit):
    user = BOB if mechanism == "EXTERNAL" else ANN
    way(world, mechanism, implicit, user, "" if mechanism == "EXTERNAL" else PASSWORD)
    mail = world.sink.wait(1)[0]
    assert mail.sender == user and b"with ESMTPSA" in mail.content
    event = world.relay.log.wait("auth_ok")
    assert (event["user"], event["mechanism"]) == (user, mechanism)
    event = world.relay.log.wait("received")
    assert (event["user"], event["protocol"]) == (user, "ESMTPSA")
    label = mechanism.lower().replace("-", "_")
    assert world.relay.metrics().sum("ringpost_auth_ok_total", mechanism=label) == 1


@pytest.mark.parametrize("way, mechanism", [w for w in WAYS if w[1] != "EXTERNAL"],
                         ids=[n for n in NAMES if "EXTERNAL" not in n])
def test_clients_with_a_wrong_password_do_not(world, way, mechanism):
    with pytest.raises((AssertionError, smtplib.SMTPAuthenticationError)):
        way(world, mechanism, False, ANN, "gue55ed")
    event = world.relay.log.wait("auth_failed")
    assert (event["user"], event["reason"]) == (ANN, "wrong password")
    assert not world.sink.mails


# ---- what is offered, and what must be ----

@pytest.mark.smoke
def test_authentication_is_offered_behind_tls_alone(world):
    with smtplib.SMTP(world.relay.host, world.relay.starttls, "client.test", 60) as client:
        client.ehlo()
        assert "auth" not in client.esmtp_features and client.has_extn("starttls")
        assert client.mail(ANN) == (530, b"5.7.0 must issue a STARTTLS command first")
        plain = base64.b64encode(f"\0{ANN}\0{PASSWORD}".encode()).decode()
        assert client.docmd("AUTH", "PLAIN " + plain)[0] == 538
    with world.connect() as client:
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert client.mail(ANN) == (530, b"5.7.0 authentication required")
        client.login(ANN, PASSWORD)
        assert client.docmd("AUTH", "PLAIN " + plain)[0] == 503
        assert client.mail(ANN)[0] == 250
    with world.connect(certificate=world.client) as client:
        assert client.esmtp_features["auth"].split()[0] == "EXTERNAL"
    other = world.authority.issue("other.test")
    with world.connect(certificate=other) as client:
        assert "EXTERNAL" not in client.esmtp_features["auth"]
        assert client.docmd("AUTH", "EXTERNAL =")[0] == 504


def test_mail_of_others_is_not_asked_to_log_in(world):
    with world.relay.connect() as client:
        features = client.greet()
        assert not [line for line in features if line.startswith("AUTH")]
        assert client.command("AUTH PLAIN AGEAYg==")[0] == 502
        assert client.mail(recipients=("one@example.test",))[0] == 250
        assert client.mail(recipients=("one@else.test",))[0] == 554


def test_a_certificate_lets_relay(world):
    """On a listener for mail between servers, without AUTH."""
    for certificate, code in ((world.client, 250), (None, 554),
                              (world.authority.issue("other.test"), 554)):
        with smtplib.SMTP(world.relay.host, world.relay.port, "client.test", 60) as client:
            client.starttls(context=world.context(certificate))
            client.ehlo()
            assert client.mail(ANN)[0] == 250
            assert client.rcpt("one@else.test")[0] == code


def scram(client, user, password):
    """SCRAM-SHA-256 by hand; the code that the server ends with, and salt and iterations."""
    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = f"n={user},r={nonce}"
    code, text = client.docmd("AUTH", "SCRAM-SHA-256 " + base64.b64encode(
        ("n,," + bare).encode()).decode())
    assert code == 334, (code, text)
    first = base64.b64decode(text).decode()
    fields = dict(part.split("=", 1) for part in first.split(","))
    assert fields["r"].startswith(nonce) and len(fields["r"]) > len(nonce)
    final = "c=biws,r=" + fields["r"]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]),
                                 int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    proven = ",".join((bare, first, final)).encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), proven, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    code, text = client.docmd(base64.b64encode(f"{final},p={proof}".encode()).decode())
    if code == 334:
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), proven, "sha256")
        assert base64.b64decode(text) == b"v=" + base64.b64encode(server)
        code, text = client.docmd("")
    return code, fields["s"], fields["i"]


def test_nothing_tells_who_exists(world):
    """Not the salt, not the iterations, not the answer, not whether it stays the same."""
    def seen(user):
        with world.connect() as client:
            return scram(client, user, "gue55ed")
    known, unknown, other = seen(ANN), seen("nobody@example.test"), seen("no@example.test")
    assert known[0] == unknown[0] == 535
    assert known[2] == unknown[2] == "4096"
    assert len(known[1]) == len(unknown[1]) and len({known[1], unknown[1], other[1]}) == 3
    world.relay.stop()
    world.relay.start()
    assert seen("nobody@example.test") == unknown and seen(ANN) == known
    with world.connect() as client:
        assert scram(client, ANN, PASSWORD)[0] == 235
    for user in (ANN, "nobody@example.test", "off", BOB):
        with world.connect() as client:
            replies = [client.docmd("AUTH", "PLAIN " + base64.b64encode(
                f"\0{user}\0gue55ed".encode()).decode())]
            assert replies == [(535, b"5.7.8 authentication credentials invalid")], user


def test_a_changed_password_counts(world):
    def code(password):
        with world.connect() as client:
            return client.docmd("AUTH", "PLAIN " + base64.b64encode(
                f"\0{ANN}\0{password}".encode()).decode())[0]
    assert code(PASSWORD) == 235 and code(PASSWORD) == 235
    metrics = world.relay.metrics()
    assert metrics.sum("ringpost_passwords_checked_total") + \
        metrics.sum("ringpost_passwords_remembered_total") == 2
    ctl(world.users, "passwd", ANN, "--iterations", "4096", password="an0ther")
    world.relay.log.wait("users_loaded")
    world.relay.log.wait("users_loaded")
    world.relay.wait_metric(lambda m: m.sum("ringpost_users_reloads_total", result="ok") == 1,
                            "the reload")
    assert code(PASSWORD) == 535 and code("an0ther") == 235
    ctl(world.users, "remove", ANN)
    world.relay.wait_metric(lambda m: m.sum("ringpost_users_reloads_total", result="ok") == 2,
                            "the reload")
    assert code("an0ther") == 535


def test_who_logs_in_while_others_do(world):
    """Forty at a time, through the helpers; nobody is mistaken for another."""
    failures = []

    def one(number):
        password = PASSWORD if number % 2 == 0 else f"gue55ed{number}"
        try:
            with world.connect() as client:
                code = client.docmd("AUTH", "PLAIN " + base64.b64encode(
                    f"\0{ANN}\0{password}".encode()).decode())[0]
            if code != (235 if number % 2 == 0 else 535):
                failures.append((number, code))
        except (OSError, smtplib.SMTPException) as error:
            failures.append((number, error))
    threads = [threading.Thread(target=one, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_no_secret_is_told(world):
    """Not in the log, not in the metrics; in no encoding, whatever the client did wrong."""
    for way, mechanism in WAYS:
        if mechanism != "EXTERNAL":
            way(world, mechanism, False, ANN, PASSWORD)
            with contextlib.suppress(AssertionError, smtplib.SMTPException):
                way(world, mechanism, False, ANN, "gue55ed")
    with world.connect() as client:  # the password in the place of the name, and cut short
        for line in (f"LOGIN {base64.b64encode(PASSWORD.encode()).decode()}", "*",
                     f"PLAIN {base64.b64encode(PASSWORD.encode()).decode()}",
                     f"LOGIN {PASSWORD}"):
            client.docmd("AUTH " + line if line != "*" else line)
    with smtplib.SMTP(world.relay.host, world.relay.starttls, "client.test", 60) as client:
        client.docmd("AUTH PLAIN", base64.b64encode(f"\0{ANN}\0{PASSWORD}".encode()).decode())
    verifier = next(line.split(" ")[1] for line in world.users.read_text().split("\n")
                    if line.startswith(ANN))
    world.relay.stop()
    secrets = [*verifier.split(":")[1].split("$"), verifier.split(":")[2]]
    for text in (PASSWORD, "gue55ed", f"\0{ANN}\0{PASSWORD}", f"\0{ANN}\0gue55ed"):
        encoded = base64.b64encode(text.encode()).decode()
        secrets += [text, encoded, encoded.rstrip("=")[:-1]]
    told = world.relay.log_path.read_text() + "".join(world.relay.errors.seen)
    assert "auth_failed" in told and "auth_ok" in told
    for secret in secrets:
        assert secret not in told, secret


# ---- Dovecot ----

class Dovecot:
    """Its auth service alone, with users of its own."""

    def __init__(self, folder, mechanisms="plain login"):
        self.folder, self.mechanisms = folder, mechanisms
        folder.mkdir(mode=0o755)
        self.socket = folder / "auth"
        self.process = None

    def start(self):
        passwords = self.folder / "passwd"
        passwords.write_text(f"carol:{{PLAIN}}{PASSWORD}::::::\n"
                             f"{ANN}:{{PLAIN}}from dovecot::::::\n"
                             f"dave:{{PLAIN}}{PASSWORD}::::::nologin=y\n")
        passwords.chmod(0o644)
        config = self.folder / "dovecot.conf"
        config.write_text(f"""
base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = {self.folder}/log
protocols =
ssl = no
default_internal_user = dovecot
default_login_user = dovenull
auth_mechanisms = {self.mechanisms}
auth_failure_delay = 0 secs
passdb {{
  driver = passwd-file
  args = {passwords}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {self.socket} {{
    mode = 0666
  }}
}}
# No seconds of penalty for an address that has failed: they are not what is looked at.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(config)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        deadline = time.monotonic() + 30
        while not self.socket.exists():
            assert time.monotonic() < deadline and self.process.poll() is None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)

    def stop(self):
        """All of it: left alone, its auth process serves a client that it has for 30 s more."""
        if self.process is not None:
            terminate(self.process)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process = None


@contextlib.contextmanager
def asking_dovecot(folder, sink, mechanisms):
    if shutil.which("dovecot") is None or os.geteuid() != 0:
        pytest.skip("needs Dovecot, and root to start it")
    server = Dovecot(folder / "dovecot", mechanisms)
    made = World(folder, sink, {"dovecot": str(server.socket), "file": str(folder / "users")})
    ctl(made.users, "add", ANN, "from=*", "--no-password")
    made.dovecot = server
    server.start()
    try:
        with made.relay:
            yield made
    finally:
        server.stop()


@pytest.fixture
def dovecot(folder, sink):
    with asking_dovecot(folder, sink, "plain login") as made:
        yield made


@pytest.fixture
def scramming(folder, sink):
    """One that does SCRAM, too. The workers know as soon as they are connected."""
    with asking_dovecot(folder, sink, "plain login scram-sha-256") as made:
        wait_for_scram(made)
        yield made


def wait_for_scram(world):
    deadline = time.monotonic() + 30
    known = 0
    while known < 8:  # sessions in a row, that each worker has had some
        with world.connect() as client:
            known = known + 1 if "SCRAM-SHA-256" in client.esmtp_features["auth"] else 0
        assert time.monotonic() < deadline


def plain(world, user, password):
    with world.connect() as client:
        return client.docmd("AUTH", "PLAIN " + base64.b64encode(
            f"\0{user}\0{password}".encode()).decode())[0]


def test_dovecot_is_asked(dovecot):
    with dovecot.connect() as client:
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    assert plain(dovecot, "carol", PASSWORD) == 235
    assert dovecot.relay.log.wait("auth_ok")["user"] == "carol"
    assert plain(dovecot, "carol", "gue55ed") == 535
    assert plain(dovecot, "nobody", PASSWORD) == 535
    with_swaks(dovecot, "LOGIN", False, ANN, "from dovecot")
    assert dovecot.sink.wait(1)[0].sender == ANN
    assert dovecot.relay.metrics().sum("ringpost_dovecot_failures_total") == 0


def test_dovecot_comes_and_goes(dovecot):
    assert plain(dovecot, "carol", PASSWORD) == 235
    dovecot.dovecot.stop()
    dovecot.relay.log.wait("dovecot_failed")
    assert plain(dovecot, "carol", PASSWORD) == 454
    dovecot.dovecot.start()
    deadline = time.monotonic() + 30
    while plain(dovecot, "carol", PASSWORD) != 235:  # within a moment it is tried again
        assert time.monotonic() < deadline
    with dovecot.relay.connect() as client:
        client.greet()
    dovecot.relay.stop()


def scram_first(client, user=ANN):
    """Begins an exchange; returns the nonces, and what the server needs to be answered with."""
    code, text = client.docmd("AUTH", "SCRAM-SHA-256 " + base64.b64encode(
        f"n,,n={user},r=ours".encode()).decode())
    assert code == 334, text
    return base64.b64decode(text).decode()


def scram_answer(server_first, password, user=ANN):
    fields = dict(part.split("=", 1) for part in server_first.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]),
                                 int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    final = f"c=biws,r={fields['r']}"
    message = f"n={user},r=ours,{server_first},{final}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    return base64.b64encode(f"{final},p={proof}".encode()).decode(), \
        "v=" + base64.b64encode(server).decode()


def test_scram_is_passed_through_to_dovecot(scramming):
    with scramming.connect() as client:
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        answer, signature = scram_answer(scram_first(client), "from dovecot")
        code, text = client.docmd(answer)
        # Dovecot has the verifier, and proves it.
        assert (code, base64.b64decode(text).decode()) == (334, signature)
        assert client.docmd("")[0] == 235
        client.sendmail(ANN, ["one@else.test"], BODY)
    assert scramming.sink.wait(1)[0].sender == ANN
    event = scramming.relay.log.wait("auth_ok")
    assert (event["user"], event["mechanism"]) == (ANN, "SCRAM-SHA-256")
    with_msmtp(scramming, "SCRAM-SHA-256", False, ANN, "from dovecot")
    scramming.sink.wait(2)
    assert plain(scramming, "carol", PASSWORD) == 235  # the others go on as before
    assert "from dovecot" not in scramming.relay.log_path.read_text()


def test_scram_through_dovecot_fails_as_it_should(scramming):
    with scramming.connect() as client:
        assert client.docmd(scram_answer(scram_first(client), "gue55ed")[0])[0] == 535
        event = scramming.relay.log.wait("auth_failed")
        assert (event["user"], event["reason"]) == (ANN, "refused by Dovecot"), event
        # Another try in the same session, one given up, one that is no SCRAM, then the right one.
        scram_first(client)
        assert client.docmd("*")[0] == 501
        scram_first(client)
        assert client.docmd(base64.b64encode(b"hello").decode())[0] in (501, 535)
        answer, _ = scram_answer(scram_first(client), "from dovecot")
        assert client.docmd(answer)[0] == 334 and client.docmd("")[0] == 235
    client = scramming.connect()
    scram_first(client)
    client.close()
    with scramming.connect() as client:
        scram_first(client)
        assert client.docmd(base64.b64encode(b"x" * 3000).decode())[0] == 501
    with scramming.connect() as client:
        code, text = client.docmd("AUTH", "SCRAM-SHA-256 " + base64.b64encode(
            b"n,,n=nobody@example.test,r=ours").decode())
        assert code == 334 or code == 535, text
    assert plain(scramming, "carol", PASSWORD) == 235


def test_dovecot_goes_away_in_the_middle_of_scram(scramming):
    with scramming.connect() as client:
        answer, _ = scram_answer(scram_first(client), "from dovecot")
        scramming.dovecot.stop()
        scramming.relay.log.wait("dovecot_failed")
        assert client.docmd(answer)[0] == 454
        scramming.dovecot.start()
        deadline = time.monotonic() + 30
        while plain(scramming, "carol", PASSWORD) != 235:
            assert time.monotonic() < deadline
    wait_for_scram(scramming)
    with scramming.connect() as client:
        answer, _ = scram_answer(scram_first(client), "from dovecot")
        assert client.docmd(answer)[0] == 334 and client.docmd("")[0] == 235


def test_exchanges_at_the_same_time_are_told_apart(scramming):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(scramming.connect()) for _ in range(10)]
        firsts = [scram_first(client) for client in clients]
        for n, (client, first) in enumerate(zip(clients, firsts)):
            answer, signature = scram_answer(first, "from dovecot" if n % 2 else "gue55ed")
            code, text = client.docmd(answer)
            assert code == (334 if n % 2 else 535), (n, text)
            if n % 2:
                assert base64.b64decode(text).decode() == signature
                assert client.docmd("")[0] == 235


def test_many_at_a_time_are_told_apart(dovecot):
    codes = {}

    def one(number):
        codes[number] = plain(dovecot, "carol", PASSWORD if number % 2 else f"gue55ed{number}")
    threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {n: 235 if n % 2 else 535 for n in range(20)}
