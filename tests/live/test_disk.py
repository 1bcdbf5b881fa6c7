# SPDX-License-Identifier: Apache-2.0
"""The disk below the spool: 250 waits for it, a full one is 452 and heals, damage is found."""
import select
import socket

import corpus
import ports
from daemon import Ringpost, terminate
from loopdisk import LoopDisk
from sink import Sink

BODY = b"Subject: hi\r\n\r\nhello\r\n"


def begin_mail(client, number):
    """All but the reply to the end of the data."""
    for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<one@example.test>", "DATA"):
        reply = client.command(line)
        assert reply[0] in (250, 354), reply
    client.write(b"X-Mail-Id: %d\r\n" % number + BODY + b".\r\n")


def readable(clients, timeout_s):
    return select.select([client.socket for client in clients], [], [], timeout_s)[0]


def test_no_250_leaves_before_the_disk_has_it(loops, folder):
    """The spool on a disk that is frozen: silence for as long as it is, every 250 right after."""
    with LoopDisk(folder, 512) as disk, Sink() as sink:
        relay = Ringpost(folder / "relay", routes=[{"domain": "*", "to": sink.url}],
                         spool=disk.path / "spool")
        with relay:
            clients = [relay.connect(60) for _ in range(20)]
            for number, client in enumerate(clients):
                client.greet()
                begin_mail(client, number)
                assert client.reply()[0] == 250  # the disk works before
            sink.wait(20)
            disk.freeze()
            try:
                for number, client in enumerate(clients):
                    begin_mail(client, 100 + number)
                # Three seconds in which the first byte of any reply would end the wait.
                assert readable(clients, 3) == [], "a reply came although nothing can be written"
                assert relay.http("/healthz")[0] == 200  # waiting, not stuck
            finally:
                disk.thaw()
            for client in clients:
                assert client.reply()[0] == 250
                client.close()
            sink.wait(40)


def fill(relay, content, mails_max=2000):
    """Sends until 452; returns how many were accepted."""
    with relay.connect() as client:
        client.greet()
        for accepted in range(mails_max):
            reply = client.mail(body=content)
            if reply[0] != 250:
                assert reply[0] == 452 and reply[1].startswith("4.3.1"), reply
                return accepted
    raise AssertionError(f"the disk took {mails_max} mails without an end")


def test_a_full_disk_is_452_and_heals(loops, folder):
    port = ports.free_port()
    changes = {"workers": 1, "queue": {"spool": {"segment_size": "4MiB", "free_min": "0B"}}}
    content = corpus.text("fill", corpus.lines_of(200 << 10))
    with LoopDisk(folder, 192) as disk:
        with Ringpost(folder / "relay", changes, spool=disk.path / "spool",
                      routes=[{"domain": "*", "to": f"smtp://{ports.address()}:{port}"}]) as relay:
            accepted = fill(relay, content)
            assert accepted > 50
            assert relay.metrics().sum("ringpost_limit_hits_total", limit="queue_disk") >= 1
            # Outcomes still find room: the host comes back, all leaves, mail is taken again.
            with Sink(port=port) as sink:
                sink.wait(accepted, 120)
                relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
                assert len(sink.mails) == accepted
                assert all(corpus.without_trace(m.content) == content for m in sink.mails)
                sink.mails.clear()
                with relay.connect() as client:
                    client.greet()
                    assert client.mail(body=content)[0] == 250
                sink.wait(1)


def damage(spool, marker):
    """Flips one bit of the marker, which stands in one place of the spool's files."""
    places = []
    for path in sorted(spool.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            at = data.find(marker)
            while at >= 0:
                places.append((path, at))
                at = data.find(marker, at + 1)
    assert len(places) == 1, places
    path, at = places[0]
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([marker[0] ^ 1]))


def queue_up(relay, count, marker):
    with relay.connect() as client:
        client.greet()
        for number in range(count):
            content = b"X-Mail-Id: %d\r\n\r\n%s-%d-end\r\n" % (number, marker, number)
            assert client.mail(body=content)[0] == 250


def names(sink):
    return sorted(int(m.content.split(b"X-Mail-Id: ")[1].split(b"\r\n")[0]) for m in sink.mails)


def damaged_start(folder, port, victim):
    """Twenty mails, a SIGKILL, one mail's bytes damaged; then the relay is started again. Until
    the kill the host never greets, so no outcome is written behind the mails."""
    relay = Ringpost(folder / "relay", {"workers": 1},
                     [{"domain": "*", "to": f"smtp://{ports.address()}:{port}"}])
    relay.start()
    try:
        with socket.create_server((ports.address(), port)):
            queue_up(relay, 20, b"unmistakable")
            relay.kill()
        damage(relay.spool, b"unmistakable-%d-end" % victim)
        relay.start()
    except BaseException:
        terminate(relay.process)
        raise
    return relay


def test_a_flipped_byte_in_an_old_record_is_reported(folder):
    port = ports.free_port()
    relay = damaged_start(folder, port, victim=7)
    with Sink(port=port) as sink:
        sink.wait(19)
        event = relay.log.wait("spool_corrupt")
        assert event["file"] and event["offset"] >= 0, event
        metrics = relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
        assert metrics.sum("ringpost_spool_corrupt_batches_total") == 1
        assert names(sink) == [n for n in range(20) if n != 7]
        relay.stop()
        relay.log.close()


def test_a_torn_tail_is_no_corruption(folder):
    """The last batch: no later one says that it was acknowledged, so it never ended."""
    port = ports.free_port()
    relay = damaged_start(folder, port, victim=19)
    with Sink(port=port) as sink:
        sink.wait(19)
        metrics = relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "empty queue")
        assert metrics.sum("ringpost_spool_torn_tails_total") == 1
        assert metrics.sum("ringpost_spool_corrupt_batches_total") == 0
        assert names(sink) == list(range(19))
        relay.stop()
        relay.log.close()
