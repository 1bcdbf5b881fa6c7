# SPDX-License-Identifier: Apache-2.0
"""Every limit answers in SMTP, is counted, and heals by itself."""
import collections
import contextlib
import socket
import threading

import pytest

import ports
from corpus import lines_of
from daemon import Ringpost
from sink import CLOSE, EXTENSIONS, Sink

BODY = b"Subject: hi\r\n\r\nhello\r\n"


@pytest.fixture
def limited(folder, sink, request):
    routes = [{"domain": "*", "to": sink.url}]
    with Ringpost(folder / "relay", request.param, routes) as running:
        yield running


def hits(relay, name):
    return relay.metrics().sum("ringpost_limit_hits_total", limit=name)


def limit(**options):
    return pytest.mark.parametrize("limited", [{"limits": options}], indirect=True)


@limit(connections_per_client=3)
def test_connections_of_a_client(limited):
    with contextlib.ExitStack() as open_ones:
        for _ in range(3):
            open_ones.enter_context(limited.connect()).greet()
        with limited.connect() as fourth:
            assert fourth.reply()[0] == 421
            assert fourth.reply() is None
        assert hits(limited, "connections_per_client") == 1
    limited.wait_metric(lambda m: m.sum("ringpost_connections", side="receive") == 0, "no client")
    with limited.connect() as again:
        again.greet()


@limit(connections=5)
def test_connections_in_all(limited):
    with contextlib.ExitStack() as open_ones:
        for _ in range(5):
            open_ones.enter_context(limited.connect()).greet()
        with limited.connect() as more:
            assert more.reply()[0] == 421
        assert hits(limited, "connections") == 1


@limit(connection_rate_per_client=5)
def test_rate_of_a_client(limited):
    codes = []
    for _ in range(8):
        with limited.connect() as client:
            codes.append(client.reply()[0])
    assert codes == [220] * 5 + [421] * 3
    assert hits(limited, "connection_rate_per_client") == 3


@limit(connections_per_client=1, connection_rate_per_client=1, exempt=["127.0.0.0/8"])
def test_exempt_clients(limited):
    with limited.connect() as one, limited.connect() as two:
        one.greet()
        two.greet()


@limit(recipients_max=100)
def test_recipients_of_a_mail(limited, sink):
    with limited.connect() as client:
        client.greet()
        assert client.command("MAIL FROM:<a@client.test>")[0] == 250
        for n in range(100):
            assert client.command(f"RCPT TO:<r{n}@example.test>")[0] == 250
        code, text = client.command("RCPT TO:<more@example.test>")
        assert (code, text[:5]) == (452, "4.5.3"), text
        assert client.command("DATA")[0] == 354
        client.write(BODY + b".\r\n")
        assert client.reply()[0] == 250
    assert len(sink.wait(1)[0].recipients) == 100
    assert hits(limited, "recipients") == 1


@limit(errors_max=5)
def test_errors(limited):
    with limited.connect() as client:
        client.greet()
        codes = [(client.command("NONSENSE") or (0,))[0] for _ in range(6)]
        assert codes[:5] == [500] * 5 and codes[5] == 421, codes
        assert client.reply() is None
    assert hits(limited, "errors") == 1


@limit(junk_max=10, errors_max=5)
def test_junk(limited):
    with limited.connect() as client:
        client.greet()
        # EHLO was the first of the ten.
        assert [client.command("NOOP")[0] for _ in range(10)] == [250] * 9 + [421]
        assert client.reply() is None
    assert hits(limited, "junk") == 1


@limit(mails_max=3)
def test_mails_over_a_connection(limited, sink):
    with limited.connect() as client:
        client.greet()
        for _ in range(3):
            assert client.mail(body=BODY)[0] == 250
        assert client.mail(body=BODY)[0] == 421
    sink.wait(3)
    assert hits(limited, "mails") == 1


def test_mails_in_the_queue(folder):
    port = ports.free_port()
    with Ringpost(folder / "relay", {"workers": 1, "queue": {"mails_max": 1000}},
                  [{"domain": "*", "to": f"smtp://{ports.address()}:{port}"}]) as relay:
        with relay.connect() as client:
            client.greet()
            for _ in range(1000):
                assert client.mail(body=BODY)[0] == 250
            reply = client.mail(body=BODY)
            assert (reply[0], reply[1][:5]) == (452, "4.3.1")
            assert "as many mails as it may" in reply[1]
        assert hits(relay, "queue_mails") == 1
        assert hits(relay, "memory_budget") == 0
        with Sink(port=port) as sink:
            sink.wait(1000, 60)
            relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
            with relay.connect() as client:
                client.greet()
                assert client.mail(body=BODY)[0] == 250


@limit(message_size_max="64KiB")
def test_size_of_a_message(limited):
    with limited.connect() as client:
        client.greet()
        reply = client.mail(body=b"\r\n" + b"x\r\n" * 30000)
        assert (reply[0], reply[1][:5]) == (552, "5.3.4")
        assert client.mail(body=BODY)[0] == 250
    assert hits(limited, "message_size") == 1


@limit(command_size_max="2KiB")
def test_length_of_a_command(limited):
    with limited.connect() as client:
        client.greet()
        code, text = client.command("NOOP " + "x" * 3000)
        assert (code, text[:5]) == (500, "5.5.2"), text
        assert client.command("NOOP")[0] == 250
    assert hits(limited, "command_size") == 1


@pytest.mark.parametrize("limited", [{"timeouts": {"receive": {"command": "1s"}}}], indirect=True)
def test_a_silent_client_is_told_and_left(limited):
    with limited.connect() as client:
        client.greet()
        assert client.reply()[0] == 421
        assert client.reply() is None
    assert limited.metrics().sum("ringpost_timeouts_total", phase="receive_command") == 1


@pytest.mark.parametrize("limited", [
    {"memory": {"clients": {"count": 4}, "peers": {"count": 4}},
     "limits": {"connections_per_client": 0, "connection_rate_per_client": 0}}], indirect=True)
def test_four_buffers_and_a_thousand_stalled_clients(limited, sink):
    """Clients that stop in the middle of a mail hold no buffer of the ring, and starve nobody."""
    with contextlib.ExitStack() as stalled:
        for _ in range(1000):
            client = stalled.enter_context(limited.connect())
            client.greet()
            client.write("MAIL FROM:<a@client.test>\r\nRCPT TO:<one@example.test>\r\nDATA\r\n")
            assert [client.reply()[0] for _ in range(3)] == [250, 250, 354]
            client.write("Subject: never\r\n\r\nhalf a li")
        with limited.connect() as healthy:
            healthy.greet()
            for _ in range(20):
                assert healthy.mail(body=BODY)[0] == 250
        sink.wait(20)
    assert len(sink.mails) == 20


def test_a_stalled_destination_gives_up_the_memory(folder, sink):
    """Bodies of mails that wait for a sink that stands still leave the memory; mails for another
    are delivered from it meanwhile, and what was dropped arrives whole once its sink goes on."""
    gate = threading.Event()
    bodies = [b"X-Number: %d\r\n\r\n" % n + lines_of(60000 + n) for n in range(200)]
    stalled = Sink(faults={"mail": lambda *_: None if gate.wait() else CLOSE})
    with stalled:
        routes = [{"domain": "slow.test", "to": stalled.url}, {"domain": "*", "to": sink.url}]
        # Half of it is for bodies: 200 mails of 60 KB are more than three quarters of 8 MiB.
        config = {"workers": 1, "memory": {"budget": "16MiB"}}
        with Ringpost(folder / "relay", config, routes) as running:
            try:
                with running.connect() as client:
                    client.greet()
                    for body in bodies:
                        reply = client.mail(recipients=["one@slow.test"], body=body)
                        assert reply[0] == 250, reply
                    running.wait_metric(lambda m: m.sum("ringpost_bodies_dropped_total") > 0,
                                        "bodies are dropped")
                    for _ in range(20):
                        assert client.mail(body=BODY)[0] == 250
                sink.wait(20)
                assert not stalled.mails
                assert running.metrics().sum("ringpost_bodies_loaded_total") == 0
            finally:
                gate.set()
            arrived = {mail.content[mail.content.find(b"X-Number"):]
                       for mail in stalled.wait(len(bodies), 60)}
            assert arrived == set(bodies)
            assert len(stalled.mails) == len(bodies)
            assert running.metrics().sum("ringpost_bodies_loaded_total") > 0


@pytest.mark.parametrize("limited", [
    {"workers": 1, "delivery": {"mails_per_connection": 10, "idle": "5m"}}], indirect=True)
def test_mails_over_a_connection_to_a_next_hop(limited, sink):
    """A connection that has carried all it may is closed at once, for that reason."""
    with limited.connect() as client:
        client.greet()
        for _ in range(50):
            assert client.mail(body=BODY)[0] == 250
        mails = sink.wait(50)
    assert max(collections.Counter(mail.session for mail in mails).values()) <= 10
    full = sum(n == 10 for n in collections.Counter(mail.session for mail in mails).values())
    assert full > 0
    limited.wait_metric(
        lambda m: m.sum("ringpost_connections_closed_total", reason="used_up") == full,
        "used-up connections are closed")
    assert limited.metrics().sum("ringpost_connections_closed_total", reason="idle") == 0


def test_the_end_of_data_finds_room_behind_any_body(folder):
    """Stuffed bodies that fill both output buffers of a connection to the last byte."""
    extensions = [e for e in EXTENSIONS if e != "CHUNKING"]
    with Sink(extensions=extensions) as sink:
        routes = [{"domain": "*", "to": sink.url}]
        with Ringpost(folder / "relay", {"workers": 1}, routes) as running:
            # Our trace field in front takes 100 to 400 bytes of 2 * 32 KiB.
            bodies = [b"..\r\n" + lines_of(size - 200)[:-2] + b"x" * (200 + size % 86) + b"\r\n"
                      for size in range(2 * 32768 - 600, 2 * 32768, 3)]
            with running.connect() as client:
                client.greet()
                for body in bodies:
                    assert client.mail(body=body)[0] == 250
            mails = sink.wait(len(bodies))
            arrived = {mail.content[mail.content.find(b"\r\n.\r\n") + 2:] for mail in mails}
            assert arrived == {body[1:] for body in bodies}


def test_a_command_cut_off_by_the_end_of_the_stream(folder, sink):
    """A client that ends in the middle of a line is gone: its session does not stay until the
    timeout for a command."""
    with Ringpost(folder / "relay", {}, [{"domain": "*", "to": sink.url}]) as relay:
        with relay.connect(timeout_s=30) as client:
            client.greet()
            client.write(b"NOOP without an end")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.reply() is None
        relay.wait_metric(lambda m: m.sum("ringpost_connections", side="receive") == 0,
                          "no session")


def test_bodies_of_nothing_but_dots_go_on_at_any_room(folder):
    """A dot that must be doubled needs two bytes of room: with one, sending waits for more."""
    extensions = [e for e in EXTENSIONS if e != "CHUNKING"]
    with Sink(extensions=extensions) as sink:
        routes = [{"domain": "*", "to": sink.url}]
        with Ringpost(folder / "relay", {"workers": 1}, routes) as running:
            bodies = [b"X-Length: " + b"x" * n + b"\r\n\r\n" + b"..\r\n" * 60000
                      for n in range(8)]
            with running.connect() as client:
                client.greet()
                for body in bodies:
                    assert client.mail(body=body)[0] == 250
            mails = sink.wait(len(bodies))
            arrived = {mail.content[mail.content.find(b"X-Length"):] for mail in mails}
            assert arrived == {body.replace(b"\r\n..", b"\r\n.") for body in bodies}
