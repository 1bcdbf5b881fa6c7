# SPDX-License-Identifier: Apache-2.0
"""Through the relay byte for byte: real clients in front, real servers behind, the whole corpus.

What arrives must be what the client sends, below our trace lines, with a missing final CRLF added.
A client that alters a case by its nature is measured against what it sends without the relay."""
import pytest

import clients
import corpus
import peers
from daemon import Ringpost
from sink import EXTENSIONS, Sink


def reference(name, case, folder):
    """What this client makes of the case: content, sender, recipients."""
    if case.name not in clients.ALTERS.get(name, {}):
        return case.expected, case.sender, list(case.recipients)
    with Sink() as direct:
        clients.CLIENTS[name](direct.host, direct.port, case, folder)
        mail = direct.wait(1)[0]
        return mail.content, mail.sender, mail.recipients


def take_all(sink, recipients):
    """The mails that carry these recipients, together; a mail may come in several transactions."""
    sink.wait_for(lambda s: sum(len(m.recipients) for m in s.mails) >= len(recipients), 60)
    mails = list(sink.mails)
    sink.mails.clear()
    sink.raw.clear()
    assert sorted(r for m in mails for r in m.recipients) == sorted(recipients)
    return mails


def check(case, wanted, mails):
    content, sender, _ = wanted
    for mail in mails:
        assert mail.content.startswith(b"Received: from "), mail.content[:200]
        found = corpus.difference(content, corpus.without_trace(mail.content))
        assert not found, f"{case.name}: {found}"
        assert mail.sender == sender, case.name


def route(target):
    return [{"domain": "*", "to": target}]


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_client(name, relay, sink, folder):
    for case in corpus.all_cases():
        refusal = clients.REFUSED.get(name, {}).get(case.name)
        if refusal:
            with pytest.raises(AssertionError, match=refusal):
                clients.CLIENTS[name](relay.host, relay.port, case, folder)
            continue
        wanted = reference(name, case, folder)
        clients.CLIENTS[name](relay.host, relay.port, case, folder)
        check(case, wanted, take_all(sink, wanted[2]))


def test_postfix_as_client(relay, sink, folder):
    with peers.Postfix(relay_to=(relay.host, relay.port)) as postfix:
        for case in corpus.all_cases():
            clients.with_smtplib(postfix.host, postfix.port, case, folder)
            check(case, (case.expected, case.sender, None), take_all(sink, case.recipients))


@pytest.mark.parametrize("extensions", [
    EXTENSIONS,
    tuple(e for e in EXTENSIONS if e != "CHUNKING"),
    tuple(e for e in EXTENSIONS if e not in ("CHUNKING", "PIPELINING")),
], ids=["bdat", "data", "data-step-by-step"])
def test_ways_of_sending(extensions, folder):
    with Sink(extensions=extensions) as sink, \
            Ringpost(folder / "relay", routes=route(sink.url)) as relay:
        for case in corpus.all_cases():
            clients.with_smtplib(relay.host, relay.port, case, folder)
            check(case, (case.expected, case.sender, None), take_all(sink, case.recipients))
        verbs = {line.split(" ")[0].upper() for s in sink.sessions for _, line in s.commands}
        assert ("BDAT" in verbs) == ("CHUNKING" in extensions)
        assert ("DATA" in verbs) == ("CHUNKING" not in extensions)


def test_lmtp_over_a_unix_socket(folder):
    with Sink(lmtp=True, path=folder / "lmtp") as sink, \
            Ringpost(folder / "relay", routes=route(f"lmtp://{folder}/lmtp")) as relay:
        for case in corpus.small_cases():
            clients.with_smtplib(relay.host, relay.port, case, folder)
            check(case, (case.expected, case.sender, None), take_all(sink, case.recipients))


@pytest.mark.parametrize("name", peers.SERVERS)
def test_server(name, folder):
    with peers.SERVERS[name]() as peer, \
            Ringpost(folder / "relay", routes=route(peer.url)) as relay:
        for case in corpus.all_cases():
            if case.name in peer.REFUSES:
                continue
            clients.with_smtplib(relay.host, relay.port, case, folder)
            copies = len(case.recipients)
            if peer.copies_per_mail:
                copies = (copies + 99) // 100  # delivery.recipients_max
            for copy in peer.take(copies):
                content = corpus.without_trace(copy, peer.adds)
                if case.name in peer.ALTERS:
                    content = content[:len(case.expected)]
                found = corpus.difference(case.expected, content)
                assert not found, f"{case.name}: {found}"


@pytest.mark.parametrize("name", [n for n, p in peers.SERVERS.items() if p.REFUSES])
def test_utf8_address_to_a_server_without_smtputf8_fails(name, folder):
    """5.6.7 (RFC 6531 4.2), not a retry for five days, and not a damaged address."""
    with peers.SERVERS[name]() as peer, \
            Ringpost(folder / "relay", routes=route(peer.url)) as relay:
        for case in corpus.small_cases():
            if case.name == "utf8-address":
                clients.with_smtplib(relay.host, relay.port, case, folder)
        outcome = relay.log.wait("delivery")
        assert (outcome["result"], outcome["enhanced"]) == ("failed", "5.6.7"), outcome


@pytest.mark.smoke
def test_smoke(relay, sink, folder):
    """One client, the small corpus: what the sanitizers watch."""
    for case in corpus.small_cases():
        clients.with_smtplib(relay.host, relay.port, case, folder)
        check(case, (case.expected, case.sender, None), take_all(sink, case.recipients))
