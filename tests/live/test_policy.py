# SPDX-License-Identifier: Apache-2.0
"""What the relay takes and refuses at its front, over real sockets: who may relay, sizes, loops,
line ends that must not end a message, and what it announces."""
import re

import pytest

from daemon import Ringpost

BODY = b"Subject: hi\r\n\r\nhello\r\n"


@pytest.fixture
def stranger(folder, sink):
    """A relay for which we are no client of its own: only example.test is open to us."""
    changes = {"relay": {"networks": ["10.0.0.0/8"]}, "limits": {"message_size_max": "1MiB"}}
    with Ringpost(folder / "relay", changes, [{"domain": "*", "to": sink.url}]) as running:
        yield running


@pytest.mark.smoke
def test_relaying_is_denied_to_strangers(stranger, sink):
    with stranger.connect() as client:
        client.greet()
        assert client.command("MAIL FROM:<a@client.test>")[0] == 250
        code, text = client.command("RCPT TO:<someone@elsewhere.test>")
        assert (code, text[:5]) == (554, "5.7.1"), text
        # Ways around it that other relays once fell for.
        for path in ("<someone%elsewhere.test@[127.0.0.1]>", "<@example.test:a@elsewhere.test>",
                     "<a@sub.example.test>", "<a@elsewhere.test.>"):
            code, text = client.command(f"RCPT TO:{path}")
            assert code in (501, 550, 553, 554), (path, text)
        assert client.command("RCPT TO:<one@example.test>")[0] == 250
        assert client.command("DATA")[0] == 354
        client.write(BODY + b".\r\n")
        assert client.reply()[0] == 250
    assert sink.wait(1)[0].recipients == ["one@example.test"]


def test_what_it_announces(relay):
    with relay.connect() as client:
        offered = {line.split()[0]: line for line in client.greet()}
    wanted = {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES",
              "CHUNKING", "LIMITS"}
    assert set(offered) == wanted
    assert offered["SIZE"] == f"SIZE {50 << 20}"
    assert "RCPTMAX=1000" in offered["LIMITS"] and "MAILMAX=10000" in offered["LIMITS"]


def test_the_received_field_names_both_sides(relay, sink):
    with relay.connect() as client:
        client.greet("client.test")
        assert client.mail(body=BODY)[0] == 250
    content = sink.wait(1)[0].content.decode()
    unfolded = re.sub(r"\r\n[ \t]+", " ", content).split("\r\n")[0]
    wanted = (r"Received: from client\.test \(.*\[127\.0\.0\.1\]\) by relay\.test .*"
              r"with E?SMTP id \S+.*; \w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}")
    assert re.match(wanted, unfolded), unfolded


@pytest.mark.parametrize("data, code", [
    (b"\r\nhello\n.\nMAIL FROM:<evil@client.test>\r\n", "5.6.11"),
    (b"\r\nhello\r\n.\nMAIL FROM:<evil@client.test>\r\n", "5.6.11"),
    (b"\r\nhello\n.\r\nMAIL FROM:<evil@client.test>\r\n", "5.6.11"),
    (b"\r\nhello\r.\rMAIL FROM:<evil@client.test>\r\n", "5.6.11"),
    (b"\r\nhello\r.\r\nMAIL FROM:<evil@client.test>\r\n", "5.6.11"),
    (b"\r\nhello\0\r\n", "5.6"),
], ids=["lf-dot-lf", "crlf-dot-lf", "lf-dot-crlf", "cr-dot-cr", "cr-dot-crlf", "nul"])
@pytest.mark.parametrize("chunked", [False, True], ids=["data", "bdat"])
def test_no_deviant_line_end_ends_a_message(relay, sink, data, code, chunked):
    with relay.connect() as client:
        client.greet()
        assert client.command("MAIL FROM:<a@client.test>")[0] == 250
        assert client.command("RCPT TO:<one@example.test>")[0] == 250
        if chunked:
            client.write(b"BDAT %d LAST\r\n" % len(data) + data)
        else:
            assert client.command("DATA")[0] == 354
            client.write(data + b".\r\n")
        reply = client.reply()
        assert reply[0] == 550 and reply[1].startswith(code), reply
        # One reply and no more: nothing inside the message was taken for a command.
        assert client.command("NOOP")[0] == 250
        assert client.mail(body=BODY)[0] == 250
    assert [m.sender for m in sink.wait(1)] == ["a@client.test"]


def test_bdat_without_a_final_line_end_is_given_one(relay, sink):
    with relay.connect() as client:
        client.greet()
        client.command("MAIL FROM:<a@client.test>")
        client.command("RCPT TO:<one@example.test>")
        client.write(b"BDAT 10\r\nX-A: b\r\n\r\nBDAT 3 LAST\r\ncut")
        assert client.reply()[0] == 250
        assert client.reply()[0] == 250
    assert sink.wait(1)[0].content.endswith(b"X-A: b\r\n\r\ncut\r\n")


def test_sizes(stranger):
    with stranger.connect() as client:
        client.greet()
        code, text = client.command(f"MAIL FROM:<a@client.test> SIZE={2 << 20}")
        assert (code, text[:5]) == (552, "5.3.4"), text
        # Undeclared: enforced while the data streams, and the session goes on after it.
        reply = client.mail(body=b"\r\n" + b"x" * 76 + b"\r\n" * (1 << 20))
        assert (reply[0], reply[1][:5]) == (552, "5.3.4"), reply
        assert client.mail(body=BODY)[0] == 250


def test_a_loop_is_cut(relay, sink):
    trace = b"".join(b"Received: from hop%d by hop%d\r\n" % (n, n + 1) for n in range(51))
    with relay.connect() as client:
        client.greet()
        reply = client.mail(body=trace + BODY)
        assert (reply[0], reply[1][:5]) == (554, "5.4.6"), reply
        assert client.mail(body=trace[:trace.index(b"Received: from hop40 ")] + BODY)[0] == 250
    assert len(sink.wait(1)) == 1


@pytest.mark.parametrize("line, code", [
    ("VRFY one", 252), ("HELP", 214), ("NOOP anything", 250), ("RSET", 250), ("EXPN list", 502),
    ("NONSENSE", 500), ("DATA", 503), ("RCPT TO:<a@example.test>", 503),
    ("MAIL FROM:<a@client.test> FOO=bar", 555), ("MAIL FROM:a@client.test@b", 501),
    ("MAIL FROM:<a@client.test> BODY=8BITMIME RET=HDRS ENVID=QQ314159", 250),
    ("MAIL FROM:<>", 250), ('MAIL FROM:<"a b"@[IPv6:::1]>', 250),
])
def test_replies(relay, line, code):
    with relay.connect() as client:
        client.greet()
        assert client.command(line)[0] == code


def test_a_pipelined_group_is_answered_in_order(relay, sink):
    with relay.connect() as client:
        client.greet()
        client.write("MAIL FROM:<a@client.test>\r\nRCPT TO:<one@example.test>\r\n"
                     "RCPT TO:<bad\r\nRCPT TO:<two@example.test>\r\nDATA\r\n")
        assert [client.reply()[0] for _ in range(5)] == [250, 250, 501, 250, 354]
        client.write(BODY + b".\r\nMAIL FROM:<b@client.test>\r\nRCPT TO:<postmaster>\r\nDATA\r\n")
        assert [client.reply()[0] for _ in range(4)] == [250, 250, 250, 354]
        client.write(BODY + b".\r\nQUIT\r\n")
        assert [client.reply()[0] for _ in range(2)] == [250, 221]
    assert sink.wait(2)[0].recipients == ["one@example.test", "two@example.test"]


@pytest.mark.smoke
def test_a_mail_cut_at_every_byte(relay, sink):
    dialogue = [("EHLO client.test\r\n", 250), ("MAIL FROM:<a@client.test>\r\n", 250),
                ("RCPT TO:<one@example.test>\r\n", 250), ("DATA\r\n", 354),
                ("Subject: x\r\n\r\n..dot\r\n.\r\n", 250), ("QUIT\r\n", 221)]
    with relay.connect() as client:
        assert client.reply()[0] == 220
        for text, code in dialogue:
            for c in text:
                client.write(c)
            assert client.reply()[0] == code
    assert sink.wait(1)[0].content.endswith(b"Subject: x\r\n\r\n.dot\r\n")
