# SPDX-License-Identifier: Apache-2.0
"""TLS with clients: STARTTLS and implicit, which versions, ciphers and certificates, resumption,
reload, and what is told of failures."""
import os
import pathlib
import smtplib
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

import authority as ca
import ports
from daemon import EXIT_CONFIG, Client, Log, Ringpost

BODY = b"Subject: hi\r\n\r\nhello\r\n"
GONE = (OSError, ssl.SSLError)


class Authority(ca.Authority):
    """With keys of RSA, certificates that end soon, and fixed places."""

    def put(self, name, *names, bits=0, days=30):
        """Writes NAME.pem and NAME.key, by renaming; returns the entry of tls.certificates."""
        secret = rsa.generate_private_key(65537, bits) if bits else \
            ec.generate_private_key(ec.SECP256R1())
        now = ca.datetime.datetime.utcnow()
        certificate = x509.CertificateBuilder() \
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])) \
            .issuer_name(self.certificate.subject).public_key(secret.public_key()) \
            .serial_number(x509.random_serial_number()) \
            .not_valid_before(now - 90 * ca.DAY).not_valid_after(now + days * ca.DAY) \
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False) \
            .sign(self.secret, hashes.SHA256())
        made = self.write(certificate, secret)
        entry = {"chain": str(self.folder / f"{name}.pem"), "key": str(self.folder / f"{name}.key")}
        os.rename(made.key, entry["key"])
        os.rename(made.chain, entry["chain"])
        return entry


@pytest.fixture
def authority(folder):
    return Authority(folder / "authority")


class TlsRelay(Ringpost):
    """Has a second listener, with implicit TLS."""

    def __init__(self, folder, certificates, config=None, **more):
        super().__init__(folder, config, **more)
        self.tls_port = ports.free_port()
        self.config["listeners"].append(
            {"address": f"{self.host}:{self.tls_port}", "tls": "implicit"})
        self.config.setdefault("tls", {}).update(certificates=certificates, look="1s")
        self.config["log"]["level"] = "debug"
        self.write_config()


@pytest.fixture
def relay(folder, sink, authority):
    certificates = [authority.put("ec", "relay.test", "localhost"),
                    authority.put("rsa", "relay.test", bits=2048),
                    authority.put("other", "other.test", "*.wild.test")]
    with TlsRelay(folder / "relay", certificates,
                  routes=[{"domain": "*", "to": sink.url}]) as running:
        yield running


def trusting(authority, **attributes):
    context = ssl.create_default_context(cafile=authority.file)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def careless(**attributes):
    context = ssl._create_unverified_context()
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


class TlsClient(Client):
    def __init__(self, relay, context, name="relay.test", session=None, source=None):
        plain = socket.create_connection((relay.host, relay.tls_port), 30, source)
        self.socket = context.wrap_socket(plain, server_hostname=name, session=session)
        self.file = self.socket.makefile("rb")

    def subject(self):
        certificate = x509.load_der_x509_certificate(self.socket.getpeercert(True))
        return certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def secure(client, context, name="relay.test"):
    """STARTTLS on a Client that has greeted."""
    assert client.command("STARTTLS")[0] == 220
    client.socket = context.wrap_socket(client.socket, server_hostname=name)
    client.file = client.socket.makefile("rb")
    return client


def s_client(relay, *arguments, port=None, text="QUIT\r\n"):
    """openssl s_client; what it said and its status."""
    run = subprocess.run(
        ["openssl", "s_client", "-connect", f"{relay.host}:{port or relay.tls_port}",
         "-servername", "relay.test", *arguments],
        input=text, capture_output=True, text=True, timeout=60)
    return run.stdout + run.stderr, run.returncode


# --- both ways in --------------------------------------------------------------------------------

@pytest.mark.parametrize("way", ["starttls", "implicit"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_mail_over_tls(relay, sink, authority, way, version):
    context = trusting(authority, maximum_version=version)
    if way == "starttls":
        client = smtplib.SMTP(relay.host, relay.port, "client.test", 30)
        client._host = "relay.test"
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=context)
        client.ehlo()
        assert not client.has_extn("starttls")
    else:
        client = smtplib.SMTP("", 0, "client.test", 30)
        client.sock = context.wrap_socket(
            socket.create_connection((relay.host, relay.tls_port), 30),
            server_hostname="relay.test")
        assert client.getreply()[0] == 220
        client.ehlo()
    with client:
        client.sendmail("a@client.test", ["one@example.test"], BODY)
    received = sink.wait(1)[0].content.split(b"\r\n\tfor")[0]
    cipher = "TLS_AES_128_GCM_SHA256" if version == ssl.TLSVersion.TLSv1_3 \
        else "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    name = "TLSv1.3" if version == ssl.TLSVersion.TLSv1_3 else "TLSv1.2"
    assert b" with ESMTPS id " in received
    assert f"({name} {cipher})".encode() in received
    event = relay.log.wait("received", protocol="ESMTPS")
    assert (event["tls"], event["cipher"]) == (name, cipher)
    started = [e for e in relay.log.events("tls_started")][-1]
    assert started["group"] == "X25519" and started["server_name"] == "relay.test"
    assert relay.log.wait("disconnected", tls=name)["mails"] == 1
    metrics = relay.metrics()
    assert metrics.sum("ringpost_tls_receive_handshakes_total", version=name[4:]) == 1
    assert metrics.sum("ringpost_tls_receive_handshake_seconds_count") == 1
    assert metrics.sum("ringpost_tls_receive_failures_total") == 0


def test_plain_text_stays_plain_text(relay, sink):
    with relay.connect() as client:
        assert "STARTTLS" in client.greet()
        assert client.mail(body=BODY)[0] == 250
    assert b" with ESMTP id " in sink.wait(1)[0].content
    assert "tls" not in relay.log.wait("received")


def test_large_mails_arrive_whole(relay, sink, authority):
    line = bytes(range(48, 123)) + b"\r\n"
    body = b"Subject: large\r\n\r\n" + line * (8 * 1024 * 1024 // len(line))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with TlsClient(relay, trusting(authority, maximum_version=version)) as client:
            client.greet()
            assert client.mail(body=body)[0] == 250
    for mail in sink.wait(2, timeout_s=60):
        assert mail.content.endswith(body)


def test_what_is_said_ahead_of_tls_is_forgotten(relay, authority):
    """RFC 3207 4.2, and the injection of commands behind STARTTLS in one write."""
    with relay.connect() as client:
        client.greet()
        secure(client, trusting(authority))
        assert client.command("MAIL FROM:<a@client.test>")[0] == 503  # it wants EHLO again
        assert client.command("EHLO client.test")[0] == 250
        assert client.command("STARTTLS")[0] >= 500
    with relay.connect() as client:
        client.greet()
        client.write(b"STARTTLS\r\nMAIL FROM:<evil@client.test>\r\n")
        code, _ = client.reply()
        if code == 220:  # then the rest must never be seen
            client.socket = trusting(authority).wrap_socket(client.socket,
                                                            server_hostname="relay.test")
            client.file = client.socket.makefile("rb")
            assert client.command("RCPT TO:<one@example.test>")[0] == 503
        else:
            assert code == 554
            assert client.reply() is None


def test_openssl_s_client(relay, authority):
    for arguments in ([], ["-starttls", "smtp"]):
        port = relay.port if arguments else relay.tls_port
        said, status = s_client(relay, *arguments, "-CAfile", str(authority.file),
                                "-verify_return_error", "-brief", port=port)
        assert status == 0 and "Verification: OK" in said
        assert "Server Temp Key: X25519" in said


# --- what is spoken ------------------------------------------------------------------------------

def test_old_versions_are_refused(relay):
    for version, works in (("-tls1", False), ("-tls1_1", False), ("-tls1_2", True),
                           ("-tls1_3", True)):
        said, status = s_client(relay, version, "-cipher", "ALL:@SECLEVEL=0")
        assert (status == 0) == works, said
        assert works or "alert protocol version" in said
    failures = relay.log.wait_events(2, "tls_failed")
    assert [e["reason"] for e in failures] == ["version", "version"]
    assert failures[0]["error"] == "the client has no version of TLS that is allowed here"
    assert failures[0]["listener"] == f"{relay.host}:{relay.tls_port}"
    assert relay.metrics().sum("ringpost_tls_receive_failures_total", reason="version") == 2


def test_min_version(folder, authority):
    certificates = [authority.put("ec", "relay.test")]
    with TlsRelay(folder / "relay", certificates, {"tls": {"min_version": "1.3"}}) as relay:
        assert s_client(relay, "-tls1_2")[1] != 0
        assert s_client(relay, "-tls1_3")[1] == 0


def scan(relay):
    """Every cipher of TLS 1.2 that this OpenSSL has: those that are taken."""
    names = subprocess.run(["openssl", "ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
                           capture_output=True, text=True, check=True).stdout.strip().split(":")
    taken = set()
    for name in names:
        if name.startswith("TLS_"):
            continue
        context = careless(maximum_version=ssl.TLSVersion.TLSv1_2)
        try:
            context.set_ciphers(f"{name}:@SECLEVEL=0")
        except ssl.SSLError:
            continue  # Python's build does not have it
        try:
            with TlsClient(relay, context) as client:
                assert client.socket.cipher()[0] == name
                taken.add(name)
        except GONE:
            pass
    assert len(names) > 60
    return taken


AEAD = {f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA") for cipher in
        ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")}


def test_ciphers(relay):
    assert scan(relay) == AEAD
    # The library offers a cipher that needs a secret of both (PSK, SRP) by giving up at once.
    relay.log.wait_events(1, "tls_failed", reason="cipher")
    failures = {e["reason"] for e in relay.log.events("tls_failed")}
    assert failures <= {"cipher", "protocol"}, failures


def test_ciphers_for_old_clients(folder, authority):
    certificates = [authority.put("ec", "relay.test"),
                    authority.put("rsa", "relay.test", bits=2048)]
    with TlsRelay(folder / "relay", certificates, {"tls": {"ciphers": "compatible"}}) as relay:
        taken = scan(relay)
    assert AEAD < taken
    assert {"AES128-SHA", "AES256-SHA256", "ECDHE-RSA-AES128-SHA"} < taken
    assert not [name for name in taken
                if any(bad in name for bad in ("NULL", "ADH", "AECDH", "RC4", "DES", "PSK", "MD5",
                                               "SEED", "IDEA"))]


def test_renegotiation_is_refused(relay):
    said, _ = s_client(relay, "-tls1_2", text="R\nQUIT\r\n")
    assert "RENEGOTIATING" in said and "no renegotiation" in said


def test_groups(relay):
    for group, works in (("X25519", True), ("P-256", True), ("P-521", False), ("X448", False)):
        assert (s_client(relay, "-groups", group)[1] == 0) == works


# --- which certificate ---------------------------------------------------------------------------

def test_the_name_asked_for_chooses(relay):
    for name, subject in (("relay.test", "ec"), ("RELAY.test", "ec"), ("other.test", "other"),
                          ("a.wild.test", "other"), ("unknown.test", "ec"), (None, "ec")):
        with TlsClient(relay, careless(), name) as client:
            assert client.subject() == subject


def test_rsa_beside_ecdsa(relay):
    said, status = s_client(relay, "-sigalgs", "rsa_pss_rsae_sha256:rsa_pkcs1_sha256", "-brief")
    assert status == 0 and "CN = rsa" in said
    said, status = s_client(relay, "-brief")
    assert status == 0 and "CN = ec" in said


def test_a_client_certificate_is_told(folder, sink, authority):
    certificates = [authority.put("ec", "relay.test")]
    mine = authority.put("a client", "client.test")
    running = TlsRelay(folder / "relay", certificates, routes=[{"domain": "*", "to": sink.url}])
    running.config["listeners"][1]["client_certificates"] = "ask"
    running.write_config()
    with running as relay:
        context = trusting(authority)
        with TlsClient(relay, context) as client:
            client.greet()  # it need not have one
        context.load_cert_chain(mine["chain"], mine["key"])
        with TlsClient(relay, context) as client:
            client.greet()
            assert client.mail(body=BODY)[0] == 250
        event = relay.log.wait("tls_client")
        shown = x509.load_pem_x509_certificate(pathlib.Path(mine["chain"]).read_bytes())
        assert event["fingerprint"].replace(":", "").lower() == \
            shown.fingerprint(hashes.SHA256()).hex()
        assert event["subject"] == "CN=a client"
        assert len(relay.log.events("tls_client")) == 1


# --- resumption and reload -----------------------------------------------------------------------

def visit(relay, context, session):
    """A short session; whether it resumed, and the session to go on with."""
    with TlsClient(relay, context, session=session) as client:
        client.greet()  # the ticket of TLS 1.3 comes ahead of the banner
        return client.socket.session_reused, client.socket.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_by_all_workers(relay, authority, version):
    context = trusting(authority, maximum_version=version)
    _, session = visit(relay, context, None)
    for _ in range(20):  # the kernel spreads them over both
        resumed, session = visit(relay, context, session)
        assert resumed
    entry = authority.put("other", "other.test")
    relay.log.wait("tls_certificate", file=entry["chain"], names=1)
    resumed, session = visit(relay, context, session)
    assert resumed
    assert relay.metrics().sum("ringpost_tls_receive_resumed_total") == 21


@pytest.mark.parametrize("way", ["SIGHUP", "look"])
def test_certificates_are_reloaded_under_sessions(relay, authority, way):
    context = trusting(authority)
    with TlsClient(relay, context) as before:
        before.greet()
        assert before.command("MAIL FROM:<a@client.test>")[0] == 250
        authority.put("ec", "relay.test", "more.test", "third.test")
        if way == "SIGHUP":
            relay.reload()
        relay.log.wait("tls_certificate", names=3)
        relay.wait_metric(lambda m: m.sum("ringpost_tls_reloads_total", result="ok") +
                          m.sum("ringpost_config_reloads_total", result="ok") >= 1, "a reload")
        with TlsClient(relay, context, "more.test") as after:
            after.greet()
        assert before.command("RCPT TO:<one@example.test>")[0] == 250
        before.write(b"DATA\r\n")
        assert before.reply()[0] == 354
        before.write(BODY + b".\r\n")
        assert before.reply()[0] == 250


def test_a_bad_file_changes_nothing(relay, authority):
    chain = pathlib.Path(authority.folder / "ec.pem")
    good = chain.read_bytes()
    chain.write_text("nothing of use")
    event = relay.log.wait("tls_refused")
    assert str(chain) in event["error"] and "PEM" in event["error"]
    assert relay.metrics().sum("ringpost_tls_reloads_total", result="refused") == 1
    with TlsClient(relay, trusting(authority)) as client:
        client.greet()
    relay.reload()
    assert str(chain) in relay.log.wait("config_refused")["error"]
    with TlsClient(relay, trusting(authority)) as client:
        client.greet()
    chain.write_bytes(good)
    relay.log.wait("tls_certificate", file=str(chain))
    assert len(relay.log.events("tls_refused")) == 1


def test_certificates_that_end_soon_are_told_of(folder, authority):
    certificates = [authority.put("soon", "relay.test", days=5),
                    authority.put("late", "late.test", days=-1),
                    authority.put("good", "good.test", days=300)]
    with TlsRelay(folder / "relay", certificates) as relay:
        relay.log.wait("start")
        warned = {e["name"]: e["expired"] for e in relay.log.events("tls_expires")}
        assert warned == {"relay.test": False, "late.test": True}
        late = x509.load_pem_x509_certificate(pathlib.Path(certificates[1]["chain"]).read_bytes())
        assert relay.metrics().sum("ringpost_tls_certificate_expiry_seconds") == \
            late.not_valid_after.replace(tzinfo=ca.datetime.timezone.utc).timestamp()


def test_a_slow_key_is_told_of(folder, authority):
    certificates = [authority.put("large", "relay.test", bits=4096)]
    with TlsRelay(folder / "relay", certificates) as relay:
        event = relay.log.wait("tls_slow_key")
        assert event["bits"] == 4096 and event["microseconds"] > 0
        with TlsClient(relay, trusting(authority)) as client:
            client.greet()
        assert relay.metrics().sum("ringpost_tls_helped_total") == 1


def test_handshakes_with_a_slow_key_hold_up_nobody(folder, authority):
    """Twenty at a time, over and over, with 4096 bits: helpers make the signatures, more than may
    wait for them at a time, and mail over plain sessions passes between."""
    certificates = [authority.put("large", "relay.test", bits=4096)]
    config = {"helpers": {"threads": 1, "jobs_max": 4}}
    with TlsRelay(folder / "relay", certificates, config,
                  routes=[{"domain": "*", "to": "discard"}]) as relay:
        stop = threading.Event()
        made = [0] * 20

        def shake_hands(n):
            while not stop.is_set():
                with TlsClient(relay, trusting(authority)) as client:
                    client.greet()
                made[n] += 1

        threads = [threading.Thread(target=shake_hands, args=(n,)) for n in range(len(made))]
        for thread in threads:
            thread.start()
        with Client(relay.host, relay.port) as client:
            client.greet()
            for _ in range(50):
                assert client.mail()[0] == 250
        while min(made) == 0:
            assert any(thread.is_alive() for thread in threads)
            threads[0].join(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        metrics = relay.metrics()
        assert metrics.sum("ringpost_tls_receive_handshakes_total") == sum(made)
        assert metrics.sum("ringpost_tls_helped_total") == sum(made)
        assert metrics.sum("ringpost_tls_receive_failures_total") == 0


# --- what fails ----------------------------------------------------------------------------------

def test_failures_are_told_in_words(relay, authority):
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsClient(relay, ssl.create_default_context())
    event = relay.log.wait("tls_failed")
    assert event["reason"] == "certificate"
    assert event["error"] == "the client does not accept our certificate (of an unknown authority)"
    assert event["server_name"] == "relay.test"

    with Client(relay.host, relay.tls_port) as client:
        client.write("EHLO client.test\r\n")
        assert client.file.read() == b""
    event = relay.log.wait("tls_failed")
    assert event["reason"] == "plain_text"
    assert event["error"] == "the client speaks plain text where TLS is expected"

    Client(relay.host, relay.tls_port).close()
    assert relay.log.wait("tls_failed")["reason"] == "closed"

    plain = socket.create_connection((relay.host, relay.port), 30)
    with pytest.raises(GONE):
        trusting(authority).wrap_socket(plain, server_hostname="relay.test")
    event = relay.log.wait("tls_failed")
    assert event["reason"] == "unexpected" and "tls: implicit" in event["error"]
    metrics = relay.metrics()
    for reason in ("certificate", "plain_text", "closed", "unexpected"):
        assert metrics.sum("ringpost_tls_receive_failures_total", reason=reason) == 1


def test_a_silent_client_is_left(folder, authority):
    certificates = [authority.put("ec", "relay.test")]
    config = {"timeouts": {"receive": {"handshake": "1s"}}}
    with TlsRelay(folder / "relay", certificates, config) as relay:
        with Client(relay.host, relay.tls_port) as client:
            assert client.file.read() == b""
        assert relay.log.wait("tls_failed")["reason"] == "timeout"
        with relay.connect() as client:
            client.greet()
            assert client.command("STARTTLS")[0] == 220
            assert client.file.read() == b""
        assert relay.log.wait("tls_failed")["reason"] == "timeout"
        phase = "receive_handshake"
        assert relay.metrics().sum("ringpost_timeouts_total", phase=phase) == 2


def test_limits_come_before_the_handshake(folder, authority):
    certificates = [authority.put("ec", "relay.test")]
    config = {"limits": {"connections_per_client": 2}}
    with TlsRelay(folder / "relay", certificates, config) as relay:
        context = trusting(authority)
        with TlsClient(relay, context) as one, TlsClient(relay, context):
            one.greet()
            with pytest.raises(GONE):
                TlsClient(relay, context)
        assert relay.log.wait("connection_refused")["reason"] == "connections_per_client"
        assert relay.metrics().sum("ringpost_tls_receive_handshakes_total") == 2


def test_tls_behind_a_proxy_header(folder, authority):
    """The hello arrives together with the header."""
    certificates = [authority.put("ec", "relay.test")]
    running = TlsRelay(folder / "relay", certificates)
    running.config["listeners"][1]["proxy_from"] = ["127.0.0.77"]
    running.write_config()
    with running as relay:
        plain = socket.create_connection((relay.host, relay.tls_port), 30, ("127.0.0.77", 0))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="relay.test")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        plain.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 465\r\n" + outgoing.read())
        while True:
            try:
                banner = tls.read()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
        assert banner.startswith(b"220 ")
        assert relay.log.wait("tls_started")["peer"] == "192.0.2.1:40000"
        plain.close()


def test_a_drain_says_goodbye_inside_of_tls(relay, authority):
    silent = Client(relay.host, relay.tls_port)  # its handshake has not begun
    with TlsClient(relay, trusting(authority)) as client:
        client.greet()
        relay.stop()
        assert client.reply()[0] == 421
        assert client.file.read() == b""  # and close_notify: no ragged end
    silent.close()


# --- files and secrets ---------------------------------------------------------------------------

def test_a_key_that_others_can_read_is_refused(folder, authority):
    entry = authority.put("ec", "relay.test")
    os.chmod(entry["key"], 0o644)
    relay = TlsRelay(folder / "relay", [entry])
    for arguments in (["--check-config"], []):
        run = relay.run(*arguments)
        assert run.returncode == EXIT_CONFIG
        assert entry["key"] in run.stderr and "chmod 600" in run.stderr
    os.chmod(entry["key"], 0o600)
    assert relay.run("--check-config").returncode == 0


def test_tls_without_a_certificate_is_an_error(folder):
    relay = TlsRelay(folder / "relay", [])
    run = relay.run("--check-config")
    assert run.returncode == EXIT_CONFIG
    assert "listeners[1].tls" in run.stderr or "listeners" in run.stderr
    assert "there is no certificate" in run.stderr


def test_listeners_say_what_they_do(relay, folder):
    relay.log.wait("start")
    said = {e["address"]: e["tls"] for e in relay.log.events("listening")}
    assert said == {f"{relay.host}:{relay.port}": "starttls",
                    f"{relay.host}:{relay.tls_port}": "implicit"}


@pytest.mark.parametrize("wanted", [False, True])
def test_memory_is_kept_to_itself(folder, authority, root, wanted):
    """As another process of the same user sees it, and as the kernel would dump it."""
    entry = authority.put("ec", "relay.test")
    running = TlsRelay(folder / "relay", [entry], {"user": "nobody", "core_dumps": wanted})
    del running.config["allow_root"]
    running.write_config()
    running.log = Log(running.log_path)
    subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)
    with running as relay:
        look = subprocess.run(
            ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
             "head", "-c", "1", f"/proc/{relay.process.pid}/auxv"], capture_output=True)
        assert (look.returncode == 0) == wanted, look.stderr
        limits = pathlib.Path(f"/proc/{relay.process.pid}/limits").read_text()
        core = [line.split() for line in limits.splitlines() if "core file" in line][0]
        assert wanted or core[4:6] == ["0", "0"]
        assert relay.metrics().sum("ringpost_process_open_fds") > 5


def test_no_secret_is_told(relay, authority):
    """The key's text and parts of it are in no event, metric or answer."""
    with TlsClient(relay, trusting(authority)) as client:
        client.greet()
    entry = authority.put("ec", "relay.test")
    relay.log.wait("tls_certificate", file=entry["chain"], key="EC", names=1)
    said = relay.log_path.read_text() + relay.metrics().text
    for name in ("ec", "rsa", "other"):
        key = (authority.folder / f"{name}.key").read_bytes()
        secret = serialization.load_pem_private_key(key, None)
        numbers = secret.private_numbers()
        value = getattr(numbers, "private_value", None) or numbers.d
        for text in (f"{value:x}", str(value), *key.decode().split("\n")[1:-2]):
            assert text not in said
