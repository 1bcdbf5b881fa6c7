# SPDX-License-Identifier: Apache-2.0
"""No secret shows anywhere: passwords of users, right and wrong, their verifiers, and passwords for
next hops, in whatever form they passed, are looked for in all that the relay says and keeps."""
import base64
import contextlib
import json
import os
import smtplib
import subprocess

import pytest

from test_auth import ANN, PASSWORD, World, ctl
from test_tls_out import HOST, TlsSmarthost, settings

TYPED = "0ops, typed into the name"  # a password where the name belongs
WRONG = "gue55ed-by-somebody"
SMARTHOST = "hush:of the smarthost"


def forms(secret):
    """As it may stand in a dialogue, a dump, or a URL."""
    data = secret.encode()
    yield secret
    yield secret.replace('"', '\\"')
    for text in (data, b"\0" + ANN.encode() + b"\0" + data, b"\0ann@example.org\0" + data):
        yield base64.b64encode(text).decode().rstrip("=")
    yield data.hex()


class Open(World):
    """As talkative as it can be: at level debug, with an admin socket and a smarthost with AUTH."""

    def __init__(self, folder, sink):
        super().__init__(folder, sink)
        self.socket = folder / "admin.sock"
        self.smarthost = TlsSmarthost(self.authority.issue(HOST), ("PLAIN", "LOGIN"))
        secrets = folder / "secrets"
        secrets.touch(0o600)
        secrets.write_text(f"smarthost ann@example.org {SMARTHOST}\n")
        peers = settings(folder, self.authority)
        self.relay.change({
            "dns": peers["dns"], "tls": peers["tls"], "secrets": str(secrets),
            "log": {"level": "debug"}, "admin": {"socket": str(self.socket)},
            "lockout": {"user_failures": 3}, "retry": {"schedule": ["1h"]},
            "routes": [{"domain": "*", "tls": "verify", "auth": "smarthost",
                        "to": f"smtp://{HOST}:{self.smarthost.port}"}]})
        ctl(self.users, "add", ANN, "--iterations", "4096", password=PASSWORD)

    def asked(self):
        """All that ringpostctl can be asked without changing anything, in both forms."""
        program = [os.environ["RINGPOSTCTL"], "--socket", str(self.socket)]
        mail = self.relay_json("queue", "list")["rows"][0]["id"]
        site = self.relay_json("site", "list")["rows"][0]["name"]
        for words in (["status"], ["queue", "list"], ["queue", "count", "sender"],
                      ["queue", "count", "reply"], ["queue", "show", mail], ["site", "list"],
                      ["site", "show", site], ["sts", "list"], ["lock", "list"],
                      ["explain", "u@else.test"]):
            for form in ([], ["--json"]):
                done = subprocess.run([*program, *words, *form], capture_output=True, text=True,
                                      timeout=60)
                assert done.returncode == 0, (words, done.stderr)
                yield " ".join(words + form), done.stdout
        done = subprocess.run([os.environ["RINGPOSTCTL"], "user", "list", "--file",
                               str(self.users)], capture_output=True, text=True, timeout=60)
        assert ANN in done.stdout
        yield "user list", done.stdout

    def relay_json(self, *words):
        done = subprocess.run([os.environ["RINGPOSTCTL"], "--socket", str(self.socket), *words,
                               "--json"], capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)

    def said(self):
        """Where, and what."""
        for path in ("/metrics", "/healthz", "/readyz"):
            yield path, self.relay.http(path)[1]
        for option in ("--print-config", "--check-config"):
            done = self.relay.run(option)
            assert done.returncode == 0, done.stderr
            yield option, done.stdout + done.stderr
        yield from self.asked()
        yield "the log", self.relay.log_path.read_text()
        yield "standard error", "".join(self.relay.errors.seen)
        for path in sorted(self.relay.spool.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes().decode("latin-1")


@pytest.fixture
def world(folder, sink):
    made = Open(folder, sink)
    with made.smarthost, made.relay:
        yield made


def log_in(world, mechanism, user, password):
    with world.connect() as client:
        client.esmtp_features["auth"] = mechanism
        with contextlib.suppress(smtplib.SMTPAuthenticationError):
            client.login(user, password)
            return client.sendmail(user, ["u@else.test"], b"Subject: hi\r\n\r\nhello\r\n")
    return None


def test_no_secret_shows(world):
    log_in(world, "PLAIN", ANN, PASSWORD)
    event = world.relay.log.wait("delivery", result="deferred")
    assert event["phase"] == "auth" and world.smarthost.auth, event
    for mechanism in ("PLAIN", "LOGIN"):
        log_in(world, mechanism, ANN, PASSWORD)
        log_in(world, mechanism, TYPED, WRONG)
    guesses = [f"{WRONG} {n}" for n in range(4)]  # the same one again would count once
    for guess in guesses:
        log_in(world, "PLAIN", ANN, guess)
    world.relay.log.wait("login_locked")
    world.relay.wait_metric(lambda m: m.sum("ringpost_auth_failed_total") >= 4, "failures")
    verifier = world.users.read_text()
    secrets = [form for secret in (PASSWORD, TYPED, WRONG, SMARTHOST, *guesses)
               for form in forms(secret)]
    # Salt, stored key and server key of SCRAM.
    secrets += [word for word in verifier.replace("$", " ").replace(":", " ").split()
                if len(word) >= 20 and "@" not in word]
    assert len(secrets) > 4 * 6, verifier
    places = list(world.said())
    assert len(places) > 25 and sum(len(text) > 0 for _, text in places) > 20, places
    for where, text in places:
        for secret in secrets:
            assert secret not in text, (where, secret)


def test_the_search_finds_what_is_there(world):
    """It is not blind: a name that may be shown is found in most places."""
    log_in(world, "PLAIN", ANN, PASSWORD)
    world.relay.log.wait("delivery", result="deferred")
    found = [where for where, text in world.said() if ANN in text]
    assert "the log" in found and "user list" in found and "queue list" in found, found
    assert any("spool" in where for where in found), found
