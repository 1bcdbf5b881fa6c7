# SPDX-License-Identifier: Apache-2.0
"""Recipients are asked for as mail is delivered: under the route's rules about TLS, and with its
password. Where these cannot be met nobody is asked for, and the client hears why."""
import hashlib
import shutil

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import peers
from authority import Authority
from daemon import Ringpost
from dns_tree import Tree
from sink import Sink
from test_tls_out import (CERTIFICATES, HOST, PASSWORD, POLICIES, AuthService, Broken,
                          TlsSmarthost, expected, make, needs_root, postfix, route, settings,
                          write_secrets)

USERS = [f"ann@{policy.replace(' ', '-')}.test" for policy in POLICIES + ["dane", "smtps"]]
# How the client is told what is wrong with a certificate.
REASONS = {"expired": "expired", "self-signed": "self-signed", "wrong name": "hostname mismatch"}


@pytest.fixture
def authority(folder):
    made = Authority(folder / "authority")
    made.folder.chmod(0o755)
    return made


def asking(folder, authority, routes, **more):
    """A relay that asks the next hop of each route for the recipients of its domain."""
    changes = settings(folder, authority, workers=1, **more)
    changes["relay"] = {"networks": [], "recipients_look": "1s", "callout": {"deadline": "10s"},
                        "domains": [{"name": row["domain"], "recipients": "callout"}
                                    for row in routes]}
    return Ringpost(folder / "relay", changes, routes)


def ask(relay, address):
    with relay.connect() as client:
        client.greet()
        assert client.command("MAIL FROM:<a@client.test>")[0] == 250
        return client.command(f"RCPT TO:<{address}>")


def handshakes(relay, *results):
    return sum(relay.metrics().sum("ringpost_peer_tls_handshakes_total", result=result)
               for result in results or ("full", "resumed", "failed"))


def start_peer(name, certificate):
    if name == "dovecot":
        return peers.Dovecot(users=USERS, certificate=certificate)
    made = postfix(certificate)
    made.users = USERS
    return made


@needs_root
@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.parametrize("server", ["postfix", "dovecot"])
def test_every_policy_meets_every_certificate(folder, authority, server, kind):
    certificate = make(authority, kind)
    with start_peer(server, certificate) as peer:
        routes = [route(peer, policy, certificate) for policy in POLICIES]
        with asking(folder, authority, routes) as relay:
            for policy in POLICIES:
                domain = policy.replace(" ", "-") + ".test"
                before = handshakes(relay)
                code, text = ask(relay, f"ann@{domain}")
                result, _ = expected(policy, kind)
                assert handshakes(relay) - before == (policy != "none"), policy
                if result == "delivered":
                    assert code == 250, (policy, text)
                    code, text = ask(relay, f"nobody@{domain}")
                    assert code == 550 and text.startswith("5.1.1"), (policy, text)
                    continue
                assert code == 451 and text.startswith("4.4.3"), (policy, text)
                assert "TLS: " in text, text
                if policy == "verify":
                    assert REASONS[kind] in text, text
                told = relay.log.wait_events(1, "callout_failed", destination=routes[
                    POLICIES.index(policy)]["to"])
                assert told[0]["host"] == HOST and told[0]["error"].startswith("TLS: "), told
                level = "fingerprint" if policy.endswith("print") else policy
                told = relay.log.wait_events(1, "peer_tls_failed", policy=level)
                assert (told[0]["host"], told[0]["plain"]) == (HOST, 0), told
            if server == "postfix":
                # Anonymous: whom it serves by TLS. None for who was refused after the handshake.
                peers.wait_for_log(peer, "TLS connection established from")


@needs_root
@pytest.mark.parametrize("policy", ["verify", "auto"])
def test_smtps_is_tls_from_the_first_byte_on(folder, authority, policy):
    certificate = make(authority, "good")
    with postfix(certificate, smtpd_tls_wrappermode="yes") as peer:
        peer.scheme = "smtps"
        row = {**route(peer, policy, certificate), "domain": "smtps.test"}
        with asking(folder, authority, [row]) as relay:
            assert ask(relay, "ann@smtps.test")[0] == 250
            assert handshakes(relay, "full") == 1


@pytest.mark.parametrize("policy, code", [("may", 250), ("encrypt", 451)])
def test_a_host_without_starttls(folder, authority, policy, code):
    with Sink() as sink:
        row = {"domain": "a.test", "to": f"smtp://{HOST}:{sink.port}", "tls": policy}
        with asking(folder, authority, [row]) as relay:
            reply = ask(relay, "ann@a.test")
            assert reply[0] == code, reply
            said = [line for session in sink.sessions for _, line in session.commands]
            assert any(line.startswith("RCPT") for line in said) == (code == 250), said
            if code == 451:
                assert "does not offer STARTTLS" in reply[1], reply


@pytest.mark.parametrize("how", [b"", b"250 what?\r\n", b"\x15\x03\x03\x00\x02\x02\x28", None],
                         ids=["closes", "plain text", "alert", "stalls"])
def test_broken_tls_is_left_out_where_it_may_be(folder, authority, how):
    """In the same RCPT; and it is remembered."""
    with Broken(how) as sink:
        async def stall(session):
            sink.tries += 1
            await session.say("220 2.0.0 go on")
            await sink.closing.wait()
        if how is None:
            sink.starttls = stall
        rows = [{"domain": "may.test", "to": f"smtp://{HOST}:{sink.port}"},
                {"domain": "encrypt.test", "to": f"smtp://{HOST}:{sink.port}", "tls": "encrypt"}]
        relay = asking(folder, authority, rows)
        relay.change({"relay": {"callout": {"deadline": "2s", "idle": "1s"}}})
        with relay:
            assert ask(relay, "ann@may.test")[0] == 250
            assert sink.tries == 1
            told = relay.log.wait_events(1, "peer_tls_failed")
            assert told[0]["host"] == HOST and 3500 < told[0]["plain"] <= 3600, told
            assert told[0]["destination"] == rows[0]["to"] and told[0]["why"], told
            assert not relay.log.events("callout_failed")
            relay.wait_metric(lambda m: m.sum("ringpost_connections_closed_total",
                                              reason="idle") == 1, "the end of the idle one")
            assert ask(relay, "bob@may.test")[0] == 250
            assert sink.tries == 1 and len(relay.log.events("peer_tls_failed")) == 1
            code, text = ask(relay, "ann@encrypt.test")
            assert code == 451 and "TLS: " in text, text
            assert sink.tries == 2


def test_another_host_is_asked(folder, authority):
    """The first one's certificate is another's."""
    with TlsSmarthost(make(authority, "wrong name")) as bad, \
            TlsSmarthost(make(authority, "good")) as good:
        row = {"domain": "a.test", "tls": "verify",
               "to": [f"smtp://{HOST}:{bad.port}", f"smtp://{HOST}:{good.port}"]}
        with asking(folder, authority, [row]) as relay:
            assert ask(relay, "ann@a.test")[0] == 250
            assert handshakes(relay, "failed") == 1 and handshakes(relay, "full") == 1


def test_words_slipped_in_before_the_handshake_are_nobodys(folder, authority):
    """An answer to a RCPT that was not sent yet: it must not be taken for one."""
    inject = b"250 x\r\n250 ok\r\n550 5.1.1 no\r\n"
    with TlsSmarthost(make(authority, "good"), inject=inject) as host:
        row = {"domain": "a.test", "to": f"smtp://{HOST}:{host.port}", "tls": "verify"}
        with asking(folder, authority, [row]) as relay:
            assert ask(relay, "ann@a.test")[0] == 250


# ---- DANE ----

def tlsa(certificate):
    der = certificate.certificate.public_bytes(Encoding.DER)
    return "3 0 1 " + hashlib.sha256(der).hexdigest()


DANE = {"right": (250, None), "wrong": (451, "TLS: "), "none": (451, "it has no TLSA records"),
        "unsigned": (451, "no address of it that DNSSEC secures")}


@needs_root
@pytest.mark.parametrize("records", DANE)
@pytest.mark.parametrize("tls", ["dane", "auto"])
def test_records_of_the_next_hop_count(folder, authority, tls, records):
    certificate = make(authority, "self-signed")
    with start_peer("postfix", certificate) as peer, Tree(folder / "tree") as tree:
        name = f"_{peer.port}._tcp.mx TLSA "
        lines = [f"mx A {peer.host}"]
        if records != "none":
            lines.append(name + ("3 0 1 " + "0f" * 32 if records == "wrong" else tlsa(certificate)))
        tree.zone("hop.test", "\n".join(lines), signed=records != "unsigned")
        tree.publish()
        row = {"domain": "dane.test", "to": f"smtp://mx.hop.test:{peer.port}", "tls": tls}
        relay = asking(folder, authority, [row])
        relay.config["dns"] = tree.options
        relay.write_config()
        with relay:
            code, text = ask(relay, "ann@dane.test")
            wanted = DANE[records]
            # Left to itself, a host that publishes nothing is believed with any certificate.
            if tls == "auto" and records in ("none", "unsigned"):
                wanted = (250, None)
            assert code == wanted[0], text
            if wanted[1]:
                assert wanted[1] in text, text
            else:
                assert handshakes(relay, "full") == 1
                assert ask(relay, "nobody@dane.test")[0] == 550


# ---- who we are ----

@needs_root
@pytest.mark.skipif(shutil.which("dovecot") is None, reason="needs Dovecot")
@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_the_password_of_the_route_is_used(folder, authority, mechanism):
    certificate = make(authority, "good")
    with AuthService(folder / "auth", mechanism) as auth, \
            postfix(certificate, smtpd_sasl_auth_enable="yes", smtpd_sasl_type="dovecot",
                    smtpd_sasl_path=str(auth.socket), smtpd_tls_auth_only="yes",
                    smtpd_recipient_restrictions="permit_sasl_authenticated, reject") as peer:
        secrets = write_secrets(folder, "ann@example.org")
        row = route(peer, "verify", certificate, auth="smarthost")
        with asking(folder, authority, [row], secrets=str(secrets)) as relay:
            assert ask(relay, "ann@verify.test")[0] == 250
            who = f"sasl_method={mechanism.upper()}, sasl_username=ann@example.org"
            peers.wait_for_log(peer, who)
            write_secrets(folder, "ann@example.org", "wrong")
            relay.stop()  # the connection that is up would serve on
            relay.start()
            code, text = ask(relay, "bob@verify.test")
            assert code == 451 and "535" in text, text
            told = relay.log_path.read_text()
            assert PASSWORD not in told and "wrong" not in told
