# SPDX-License-Identifier: Apache-2.0
"""TLS and AUTH to next hops: real servers with certificates good and bad, under every policy that a
route may have; hosts that break the handshake; smarthosts that want a password."""
import hashlib
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import peers
import ports
from authority import Authority
from daemon import Ringpost, terminate, wait_connectable
from sink import Sink
from watch import Watch

HOST = "mail.peer.test"
BODY = b"Subject: hi\r\n\r\nhello\r\n"
PASSWORD = "p\u00e4ss w\u00f6rd"
CERTIFICATES = ["good", "expired", "self-signed", "wrong name"]
POLICIES = ["none", "may", "encrypt", "verify", "right print", "wrong print"]
# What a server's certificate is called where it is refused (RFC 8460 4.3).
RESULTS = {"expired": "certificate-expired", "self-signed": "certificate-not-trusted",
           "wrong name": "certificate-host-mismatch"}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="servers drop to users of their own")


@pytest.fixture
def authority(folder):
    made = Authority(folder / "authority")
    made.folder.chmod(0o755)
    return made


def make(authority, kind):
    if kind == "self-signed":
        return authority.self_signed(HOST)
    return authority.issue("www.peer.test" if kind == "wrong name" else HOST,
                           expired=kind == "expired")


def fingerprint(certificate):
    return hashlib.sha256(certificate.certificate.public_bytes(Encoding.DER)).hexdigest()


def settings(folder, authority, **more):
    """HOST is an address of our own."""
    hosts = folder / "hosts"
    hosts.write_text(f"{ports.address()} {HOST} other.peer.test\n")
    return {"dns": {"hosts_file": str(hosts), "forwarders": [f"{ports.address()}@9"],
                    "trust_anchors": "none"},
            "relay": {"domains": [], "recipients_look": "1s"},
            "tls": {"ca_file": str(authority.file)}, **more}


def route(peer, policy, certificate, **more):
    url = f"{peer.scheme}://{HOST}:{peer.port}"
    row = {"domain": policy.replace(" ", "-") + ".test", "to": url, "tls": policy, **more}
    if policy.endswith("print"):
        right = fingerprint(certificate)
        wrong = "00" * 32
        row["tls"] = "fingerprint"
        row["fingerprints"] = [wrong, right] if policy == "right print" else [wrong]
    return row


def send(relay, recipient, sender="a@client.test", count=1):
    with relay.connect() as client:
        client.greet()
        for _ in range(count):
            reply = client.mail(sender=sender, recipients=(recipient,), body=BODY)
            assert reply[0] == 250, reply


def start_peer(name, certificate):
    if name == "postfix":
        return postfix(certificate)
    if name == "dovecot":
        return peers.Dovecot(certificate=certificate)
    shutil.chown(certificate.key, "Debian-exim")
    return peers.Exim(settings={"tls_advertise_hosts": "*", "tls_certificate": certificate.chain,
                                "tls_privatekey": certificate.key})


def postfix(certificate, **more):
    return peers.Postfix(settings={
        "smtpd_tls_security_level": "may", "smtpd_tls_loglevel": "1",
        "smtpd_tls_chain_files": f"{certificate.key}, {certificate.chain}", **more})


def expected(policy, kind):
    """(result, tls_verified): what the table of policies and certificates says."""
    if policy == "none":
        return "delivered", None
    if policy in ("may", "encrypt"):
        return "delivered", "ca" if kind == "good" else "no"
    if policy == "right print":
        return "delivered", "fingerprint"
    if policy == "verify" and kind == "good":
        return "delivered", "ca"
    return "deferred", None


@needs_root
@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.parametrize("server", ["postfix", "exim", "dovecot"])
def test_every_policy_meets_every_certificate(folder, authority, server, kind):
    certificate = make(authority, kind)
    with start_peer(server, certificate) as peer:
        routes = [route(peer, policy, certificate) for policy in POLICIES]
        with Ringpost(folder / "relay", settings(folder, authority), routes) as relay:
            for policy in POLICIES:
                domain = policy.replace(" ", "-") + ".test"
                send(relay, f"one@{domain}")
                event = relay.log.wait("delivery", recipient=f"one@{domain}")
                result, verified = expected(policy, kind)
                assert event["result"] == result, (policy, event)
                level = "fingerprint" if policy.endswith("print") else policy
                assert event["tls_policy"] == level and event["tls_source"] == "route", event
                assert event.get("tls_verified") == verified, (policy, event)
                if verified:
                    assert re.fullmatch(r"TLSv1\.[23] TLS_\w+", event["tls"]), event
                    continue
                assert "tls" not in event, event
                if result == "delivered":
                    continue
                assert (event["code"], event["enhanced"]) == (451, "4.7.5"), event
                assert event["phase"] == "tls", event
                told = relay.log.wait_events(1, "peer_tls_failed", policy=level)
                assert told[0]["host"] == HOST, told
                wanted = RESULTS[kind] if policy == "verify" else "validation-failure"
                assert told[0]["result"] == wanted, told
                assert told[0]["plain"] == 0, told
            delivered = sum(expected(policy, kind)[0] == "delivered" for policy in POLICIES)
            assert len(peer.take(delivered)) == delivered
            metrics = relay.metrics()
            name = "ringpost_recipients_delivered_total"
            assert metrics.sum(name, protection="plain") == 1
            assert metrics.sum(name, protection="fingerprint") == 1
            assert metrics.sum(name) == delivered


@needs_root
def test_smtps_is_tls_from_the_first_byte_on(folder, authority):
    certificate = make(authority, "good")
    with postfix(certificate, smtpd_tls_wrappermode="yes") as peer:
        peer.scheme = "smtps"
        routes = [route(peer, "verify", certificate), route(peer, "auto", certificate)]
        with Ringpost(folder / "relay", settings(folder, authority), routes) as relay:
            for domain in ("verify.test", "auto.test"):
                send(relay, f"one@{domain}")
                event = relay.log.wait("delivery", recipient=f"one@{domain}")
                assert event["result"] == "delivered" and event["tls_verified"] == "ca", event
            peer.take(2)


@pytest.mark.parametrize("policy, result", [("may", "delivered"), ("encrypt", "deferred")])
def test_a_host_without_starttls(folder, authority, policy, result):
    with Sink() as sink:
        row = {"domain": "*", "to": f"smtp://{HOST}:{sink.port}", "tls": policy}
        with Ringpost(folder / "relay", settings(folder, authority), [row]) as relay:
            send(relay, "one@a.test")
            event = relay.log.wait("delivery")
            assert event["result"] == result and "tls" not in event, event
            if result == "deferred":
                assert (event["enhanced"], event["phase"]) == ("4.7.10", "ehlo"), event
                assert not sink.mails


# ---- hosts that break it ----

class Broken(Sink):
    """Offers STARTTLS and spoils the handshake: `how` is what it says in place of its hello."""

    def __init__(self, how):
        super().__init__(extensions=("PIPELINING", "STARTTLS"))
        self.how, self.tries = how, 0

    async def starttls(self, session):
        self.tries += 1
        await session.say("220 2.0.0 go on")
        await session.read_more()
        if self.how:
            await self.loop.sock_sendall(session.connection, self.how)


@pytest.mark.parametrize("how", [b"", b"250 what?\r\n", b"\x15\x03\x03\x00\x02\x02\x28"],
                         ids=["closes", "plain text", "alert"])
def test_broken_tls_is_left_out_where_it_may_be_and_that_is_remembered(folder, authority, how):
    with Broken(how) as sink:
        rows = [{"domain": "may.test", "to": f"smtp://{HOST}:{sink.port}"},
                {"domain": "encrypt.test", "to": f"smtp://{HOST}:{sink.port}", "tls": "encrypt"}]
        with Ringpost(folder / "relay", settings(folder, authority, workers=1), rows) as relay:
            send(relay, "one@may.test")
            event = relay.log.wait("delivery", recipient="one@may.test")
            assert event["result"] == "delivered" and "tls" not in event, event
            assert event["attempts"] == 1, event
            tries = sink.tries
            assert tries >= 1
            told = relay.log.events("peer_tls_failed")
            assert len(told) == 1 and 3500 < told[0]["plain"] <= 3600, told
            assert told[0]["why"], told
            # Remembered: no more handshakes, and no more events.
            send(relay, "two@may.test", count=3)
            sink.wait(4)
            assert sink.tries == tries
            assert len(relay.log.events("peer_tls_failed")) == 1
            send(relay, "one@encrypt.test")
            event = relay.log.wait("delivery", recipient="one@encrypt.test")
            assert event["result"] == "deferred" and event["enhanced"] == "4.7.5", event
            assert len(sink.mails) == 4


def test_another_host_is_better_than_plain_text(folder, authority):
    with Broken(b"") as broken, TlsSmarthost(authority.issue(HOST)) as good:
        row = {"domain": "*", "to": [f"smtp://{HOST}:{broken.port}", f"smtp://{HOST}:{good.port}"]}
        with Ringpost(folder / "relay", settings(folder, authority, workers=1), [row]) as relay:
            send(relay, "one@a.test", count=4)
            good.wait(4)
            for _ in range(4):
                relay.log.wait("delivery", result="delivered", tls_verified="ca")
            assert not broken.mails and broken.tries >= 1
            assert relay.metrics().sum("ringpost_recipients_delivered_total", protection="ca") == 4


def test_a_handshake_that_stalls_is_over_in_time(folder, authority):
    with Broken(None) as sink:
        async def stall(session):
            sink.tries += 1
            await session.say("220 2.0.0 go on")
            await sink.closing.wait()
        sink.starttls = stall
        row = {"domain": "*", "to": f"smtp://{HOST}:{sink.port}"}
        changes = settings(folder, authority, timeouts={"send": {"tls": "1s"}})
        with Ringpost(folder / "relay", changes, [row]) as relay:
            send(relay, "one@a.test")
            event = relay.log.wait("delivery")
            assert event["result"] == "delivered" and "tls" not in event, event
            assert "too long" in relay.log.wait_events(1, "peer_tls_failed")[0]["why"]
            assert relay.metrics().sum("ringpost_timeouts_total", phase="send_tls") == 1


# ---- a smarthost of our own ----

class TlsSmarthost:
    """STARTTLS, then AUTH by these mechanisms if any; remembers what it was told, and which
    connections resumed a session."""

    def __init__(self, certificate, mechanisms=(), inject=b""):
        self.mechanisms, self.inject = mechanisms, inject
        self.mails, self.reused, self.auth = [], [], []
        self.changed = threading.Condition()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self.listener = socket.create_server((ports.address(), 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            self.talk(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def talk(self, connection):
        stream, secure = connection.makefile("rwb"), False
        sender = None

        def say(text):
            stream.write(text if isinstance(text, bytes) else text.encode() + b"\r\n")
            stream.flush()

        say("220 smarthost.test")
        while line := stream.readline():
            verb = line.split()[0].upper().decode() if line.split() else ""
            if verb == "EHLO":
                offers = ["smarthost.test", "PIPELINING"] + ([] if secure else ["STARTTLS"])
                if secure and self.mechanisms:
                    offers.append("AUTH " + " ".join(self.mechanisms))
                say("\r\n".join(f"250{'-' if i + 1 < len(offers) else ' '}{offer}"
                                for i, offer in enumerate(offers)))
            elif verb == "STARTTLS":
                # What somebody in between slips in must not be taken for ours behind the handshake.
                say(b"220 go\r\n" + self.inject)
                connection = self.context.wrap_socket(connection, server_side=True)
                self.reused.append(connection.session_reused)
                stream, secure = connection.makefile("rwb"), True
            elif verb == "AUTH":
                self.auth.append(line.decode().strip())
                say("535 5.7.8 no such user")
            elif verb == "MAIL":
                sender = line.decode()
                say("250 ok")
            elif verb == "DATA":
                say("354 go")
                content = b""
                while not content.endswith(b"\r\n.\r\n"):
                    content += stream.readline()
                with self.changed:
                    self.mails.append((sender, secure))
                    self.changed.notify_all()
                say("250 ok")
            elif verb == "QUIT":
                return
            else:
                say("250 ok")

    def wait(self, count, timeout_s=30):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.mails) >= count, timeout_s), self.mails

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_sessions_are_resumed(folder, authority):
    with TlsSmarthost(authority.issue(HOST)) as host:
        row = {"domain": "*", "to": f"smtp://{HOST}:{host.port}", "tls": "verify"}
        changes = settings(folder, authority, workers=1, delivery={"mails_per_connection": 1})
        with Ringpost(folder / "relay", changes, [row]) as relay:
            for count in range(1, 6):
                send(relay, "one@a.test")
                host.wait(count)
                relay.log.wait("delivery", result="delivered", tls_verified="ca")
            assert host.reused == [False, True, True, True, True]
            name = "ringpost_peer_tls_handshakes_total"
            assert relay.metrics().sum(name, result="resumed") == 4
            assert relay.metrics().sum(name, result="full") == 1


def test_words_slipped_in_before_the_handshake_are_nobodys(folder, authority):
    inject = b"250-smarthost.test\r\n250 SIZE 1\r\n"
    with TlsSmarthost(authority.issue(HOST), inject=inject) as host:
        row = {"domain": "*", "to": f"smtp://{HOST}:{host.port}", "tls": "verify"}
        with Ringpost(folder / "relay", settings(folder, authority), [row]) as relay:
            send(relay, "one@a.test")
            event = relay.log.wait("delivery")
            assert event["result"] == "delivered", event
            host.wait(1)


# ---- who we are ----

def write_secrets(folder, user, password=PASSWORD):
    file = folder / "secrets"
    file.touch(0o600)
    file.write_text(f"# ours\nsmarthost {user} {password}\n")
    return file


class AuthService:
    """Dovecot's, with one user and these mechanisms."""

    def __init__(self, folder, mechanisms):
        self.folder = folder
        folder.mkdir(mode=0o755)
        self.socket = folder / "auth"
        passwords = folder / "passwd"
        passwords.write_text(f"ann@example.org:{{PLAIN}}{PASSWORD}::::::\n")
        passwords.chmod(0o644)
        config = folder / "dovecot.conf"
        config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
default_internal_user = dovecot
default_login_user = dovenull
auth_mechanisms = {mechanisms}
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
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
""")
        watch = Watch(folder)
        try:
            self.process = subprocess.Popen(["dovecot", "-F", "-c", str(config)],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            watch.wait_for(self.socket.exists, 30, "Dovecot's socket")
        finally:
            watch.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        terminate(self.process)


@needs_root
@pytest.mark.skipif(shutil.which("dovecot") is None, reason="needs Dovecot")
@pytest.mark.parametrize("mechanisms, used", [
    ("plain", "PLAIN"), ("login", "LOGIN"), ("scram-sha-256", "SCRAM-SHA-256"),
    ("plain login scram-sha-256", "SCRAM-SHA-256")])
def test_postfix_with_dovecot_lets_us_in(folder, authority, mechanisms, used):
    certificate = make(authority, "good")
    with AuthService(folder / "auth", mechanisms) as auth, \
            postfix(certificate, smtpd_sasl_auth_enable="yes", smtpd_sasl_type="dovecot",
                    smtpd_sasl_path=str(auth.socket), smtpd_tls_auth_only="yes",
                    smtpd_recipient_restrictions="permit_sasl_authenticated, reject") as peer:
        secrets = write_secrets(folder, "ann@example.org")
        rows = [route(peer, "verify", certificate, auth="smarthost")]
        changes = settings(folder, authority, secrets=str(secrets), workers=1,
                           delivery={"mails_per_connection": 1})
        with Ringpost(folder / "relay", changes, rows) as relay:
            send(relay, "one@verify.test", count=3)
            peer.take(3)
            peers.wait_for_log(peer, f"sasl_method={used}, sasl_username=ann@example.org")
            event = relay.log.wait("delivery")
            assert event["result"] == "delivered", event
            # The wrong password, in a file that is read again by itself: the mail waits.
            write_secrets(folder, "ann@example.org", "wrong")
            relay.log.wait("secrets_loaded")
            send(relay, "two@verify.test")
            event = relay.log.wait("delivery", recipient="two@verify.test", result="deferred")
            assert event["phase"] == "auth" and event["code"] == 535, event
            assert "auth=smarthost" in event["site"], event
            write_secrets(folder, "ann@example.org")
            peer.take(1)
            text = relay.log_path.read_text()
            assert PASSWORD not in text and "wrong" not in text


class DovecotSubmission:
    """Dovecot's submission service: STARTTLS, AUTH, and then on to a server of the test."""

    def __init__(self, folder, certificate, mechanisms, behind):
        self.folder, self.port, self.host = folder, ports.free_port(), ports.address()
        folder.mkdir(mode=0o755)
        box = folder / "box"
        box.mkdir()
        shutil.chown(box, "nobody", "nogroup")
        passwords = folder / "passwd"
        passwords.write_text(f"ann@example.org:{{PLAIN}}{PASSWORD}::::::\n")
        passwords.chmod(0o644)
        config = folder / "dovecot.conf"
        config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = submission
hostname = {HOST}
listen = {self.host}
ssl = required
ssl_cert = <{certificate.chain}
ssl_key = <{certificate.key}
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{box}
submission_relay_host = {behind.host}
submission_relay_port = {behind.port}
submission_relay_trusted = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0 secs
passdb {{
  driver = passwd-file
  args = {passwords}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={box}
}}
service submission-login {{
  inet_listener submission {{
    address = {self.host}
    port = {self.port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(config)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def log_path(self):
        return self.folder / "log"

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def __enter__(self):
        try:
            wait_connectable(self.host, self.port, self.process)
        except AssertionError as error:
            terminate(self.process)
            raise AssertionError(f"{error}\n{self.log()}") from None
        return self

    def __exit__(self, *_):
        terminate(self.process)


@needs_root
@pytest.mark.skipif(not pathlib.Path("/usr/lib/dovecot/submission").exists(),
                    reason="needs dovecot-submissiond")
@pytest.mark.parametrize("mechanisms, used", [
    ("plain", "PLAIN"), ("login", "LOGIN"), ("plain login scram-sha-256", "SCRAM-SHA-256")])
def test_dovecot_takes_our_mail_as_that_of_a_user(folder, authority, sink, mechanisms, used):
    certificate = make(authority, "good")
    with DovecotSubmission(folder / "dovecot", certificate, mechanisms, sink) as peer:
        secrets = write_secrets(folder, "ann@example.org")
        row = {"domain": "*", "to": f"smtp://{HOST}:{peer.port}", "tls": "verify",
               "auth": "smarthost"}
        changes = settings(folder, authority, secrets=str(secrets), workers=1)
        with Ringpost(folder / "relay", changes, [row]) as relay:
            send(relay, "one@a.test", count=3)
            try:
                mails = sink.wait(3)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{peer.log()}") from None
            assert [mail.recipients for mail in mails[:3]] == 3 * [["one@a.test"]]
            assert mails[0].content.count(b"Received: ") == 2, mails[0].content
            for _ in range(3):
                event = relay.log.wait("delivery")
                assert (event["result"], event["tls_verified"]) == ("delivered", "ca"), event
            peers.wait_for_log(peer, f"method={used}")
            peers.wait_for_log(peer, "user=<ann@example.org>")
            # Another password: the mail waits until it is the right one again.
            write_secrets(folder, "ann@example.org", "wrong")
            relay.log.wait("secrets_loaded")
            relay.stop()
            relay.start()
            send(relay, "two@a.test")
            event = relay.log.wait("delivery", recipient="two@a.test", result="deferred")
            assert (event["phase"], event["code"]) == ("auth", 535), event
            write_secrets(folder, "ann@example.org")
            sink.wait(4)
            assert PASSWORD not in relay.log_path.read_text()


def test_a_password_that_is_refused_is_told_by_its_name_alone(folder, authority):
    with TlsSmarthost(authority.issue(HOST), ("PLAIN", "LOGIN")) as host:
        secrets = write_secrets(folder, "ann@example.org", "geheim")
        row = {"domain": "*", "to": f"smtp://{HOST}:{host.port}", "tls": "verify",
               "auth": "smarthost"}
        changes = settings(folder, authority, secrets=str(secrets))
        with Ringpost(folder / "relay", changes, [row]) as relay:
            send(relay, "one@a.test")
            event = relay.log.wait("delivery")
            assert event["result"] == "deferred" and event["code"] == 535, event
            assert host.auth and host.auth[0].startswith("AUTH PLAIN "), host.auth
            text = relay.log_path.read_text()
            assert "auth=smarthost" in text and "geheim" not in text
            assert host.auth[0].split()[2] not in text
            assert not host.mails


def test_secrets_are_private_and_have_what_routes_name(folder, authority):
    secrets = write_secrets(folder, "ann@example.org")
    row = {"domain": "*", "to": f"smtp://{HOST}:25", "tls": "verify", "auth": "other"}
    relay = Ringpost(folder / "relay", settings(folder, authority, secrets=str(secrets)), [row])
    done = relay.run("--check-config")
    assert done.returncode == 78 and "'other' is no entry of" in done.stderr, done.stderr
    relay.config["routes"][0]["auth"] = "smarthost"
    relay.write_config()
    assert relay.run("--check-config").returncode == 0
    secrets.chmod(0o640)
    done = relay.run("--check-config")
    assert done.returncode == 78 and "chmod 600" in done.stderr, done.stderr
    assert PASSWORD not in done.stderr
    relay.config["routes"][0]["tls"] = "may"
    relay.write_config()
    done = relay.run("--check-config")
    assert done.returncode == 78 and "in the clear" in done.stderr, done.stderr
