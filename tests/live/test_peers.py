# SPDX-License-Identifier: Apache-2.0
"""The stand-ins and the corpus, without a relay: every client against our sink, every server fed by
smtplib. What these change or refuse by their nature is named in their lists, and is asserted here
in both directions, so that a difference found behind the relay is the relay's."""
import pytest

import clients
import corpus
import peers
from sink import EXTENSIONS, Sink


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_client_sends_the_corpus_as_it_is(name, folder):
    altered = {}
    with Sink() as sink:
        for case in corpus.all_cases():
            clients.CLIENTS[name](sink.host, sink.port, case, folder)
            mail = sink.wait(1)[-1]
            content = corpus.difference(case.expected, mail.content)
            if content or mail.sender != case.sender \
                    or sorted(mail.recipients) != sorted(case.recipients):
                altered[case.name] = content or f"envelope {mail.sender} {mail.recipients}"
            sink.mails.clear()
            sink.raw.clear()
    assert set(altered) == set(clients.ALTERS.get(name, {})), altered


@pytest.mark.parametrize("name", peers.SERVERS)
def test_server_keeps_the_corpus_as_it_is(name, folder):
    altered, refused = {}, {}
    with peers.SERVERS[name]() as peer:
        send = clients.with_lmtp if peer.scheme == "lmtp" else clients.with_smtplib
        for case in corpus.all_cases():
            try:
                send(peer.host, peer.port, case, folder)
            except clients.Refused as why:
                refused[case.name] = why
                continue
            copies = 1 if peer.copies_per_mail else len(case.recipients)
            for copy in peer.take(copies):
                found = corpus.difference(case.expected, corpus.without_trace(copy, peer.adds))
                if found:
                    altered[case.name] = found
    assert set(altered) == set(peer.ALTERS), altered
    assert set(refused) == set(peer.REFUSES), refused


def test_sink_takes_bdat_as_data(folder):
    """The sink's own second way in, which no client here uses: chunks, cut anywhere."""
    from daemon import Client
    content = corpus.text("bdat", corpus.every_dot())
    assert "CHUNKING" in EXTENSIONS
    with Sink() as sink, Client(sink.host, sink.port) as client:
        client.greet()
        for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"):
            assert client.command(line)[0] == 250
        for at in range(0, len(content), 7):
            piece = content[at:at + 7]
            client.write(b"BDAT %d\r\n" % len(piece) + piece)
            assert client.reply()[0] == 250
        assert client.command("BDAT 0 LAST")[0] == 250
        assert sink.wait(1)[0].content == content


def test_difference_is_seen():
    """The comparison itself can fail: one byte, one line, one missing end."""
    case = corpus.small_cases()[0]
    trace = b"Received: from a\r\n\tby b\r\n"
    assert corpus.difference(case.expected, corpus.without_trace(trace + case.expected)) is None
    for damaged in (case.expected[:-2], case.expected + b"\r\n", b"\r\n" + case.expected,
                    case.expected.replace(b"hello", b"hellO"), b"X-New: 1\r\n" + case.expected):
        assert corpus.difference(case.expected, corpus.without_trace(trace + damaged))
