# SPDX-License-Identifier: Apache-2.0
"""The daemon as operators hold it: reload, drain, metrics, health."""
import os
import pathlib
import socket
import subprocess

import pytest

from daemon import Ringpost, wait_connectable
from sink import STALL, Sink

BODY = b"Subject: hi\r\n\r\nhello\r\n"


def send(relay, **more):
    with relay.connect() as client:
        client.greet()
        reply = client.mail(body=BODY, **more)
        assert reply[0] == 250, reply


@pytest.mark.smoke
def test_reload_takes_the_new_route(relay, sink):
    with Sink() as second:
        send(relay)
        sink.wait(1)
        relay.change({"routes": [{"domain": "*", "to": second.url}]})
        relay.reload()
        relay.log.wait("config_loaded", file=str(relay.config_path))
        send(relay)
        second.wait(1)
        assert len(sink.mails) == 1


def test_reload_reopens_the_log(relay):
    old = relay.log_path.with_suffix(".1")
    relay.log_path.rename(old)
    relay.reload()
    relay.log.wait("log_reopened", file=str(relay.log_path))
    send(relay)
    relay.log.wait("received")
    assert relay.log_path.exists()
    assert '"event":"received"' not in old.read_text()


@pytest.mark.parametrize("changes, word", [
    ({"workers": 1}, "workers"),
    ({"queue": {"spool": {"segment_size": "32MiB"}}}, "queue.spool.segment_size"),
])
def test_reload_says_what_needs_a_restart(relay, changes, word):
    relay.change(changes)
    relay.reload()
    event = relay.log.wait("config_refused")
    assert word in event["restart"], event
    send(relay)


def test_reload_of_a_broken_file_changes_nothing(relay, sink):
    relay.config_path.write_text("hostname: [\n")
    relay.reload()
    event = relay.log.wait("config_refused")
    assert f"{relay.config_path}:" in event["error"], event
    send(relay)
    sink.wait(1)


def wait_refusing(relay):
    """Until nobody listens there any more: asked again after each answer."""
    for _ in range(10000):
        try:
            socket.create_connection((relay.host, relay.port), 5).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # it was in the line of a listener that closed
    raise AssertionError("it still listens")


@pytest.mark.smoke
def test_drain_lets_a_mail_in_hand_finish(folder, sink):
    with Ringpost(folder / "relay", routes=[{"domain": "*", "to": sink.url}]) as relay:
        with relay.connect() as client:
            client.greet()
            for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<one@example.test>", "DATA"):
                assert client.command(line)[0] in (250, 354)
            client.write(BODY)
            relay.process.terminate()
            wait_refusing(relay)
            client.write(b".\r\n")
            assert client.reply()[0] == 250
            assert (client.reply() or (421,))[0] == 421
        assert relay.process.wait(60) == 0
    # Delivered before the end or kept: in no case gone.
    if not sink.mails:
        with relay:
            sink.wait(1)
    assert len(sink.mails) == 1


def test_drain_ends_although_a_peer_stalls(folder):
    with Sink(faults={"final": STALL}) as sink:
        relay = Ringpost(folder / "relay", {"timeouts": {"drain": "1s"}},
                         [{"domain": "*", "to": sink.url}])
        with relay:
            send(relay)
            sink.wait_for(lambda s: s.stalled)
        sink.faults.clear()
        with relay:
            sink.wait(1)


def test_idle_sessions_are_told(relay):
    with relay.connect() as client:
        client.greet()
        relay.process.terminate()
        assert client.reply()[0] == 421
        assert client.reply() is None
    assert relay.process.wait(60) == 0


def promtool():
    unpacked = pathlib.Path(os.environ.get("RINGPOST_PEERS", "/nowhere")) / "usr/bin/promtool"
    return str(unpacked) if unpacked.exists() else "promtool"


def test_metrics_are_what_prometheus_reads(relay, sink):
    send(relay)
    sink.wait(1)
    metrics = relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue")
    done = subprocess.run([promtool(), "check", "metrics"], input=metrics.text, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert metrics.sum("ringpost_mails_accepted_total") == 1
    assert all(sample.name.startswith("ringpost_") for sample in metrics.samples)


def test_health(relay):
    assert relay.http("/healthz")[0] == 200
    assert relay.http("/readyz")[0] == 200
    assert relay.http("/nothing")[0] == 404


def test_health_answers_before_mail_is_taken(folder):
    """Readiness is what /readyz says; the listener of metrics itself is up earlier."""
    relay = Ringpost(folder / "relay")
    relay.launch()
    wait_connectable(relay.host, relay.metrics_port, relay.process)
    assert relay.http("/healthz")[0] == 200
    relay.wait_ready()
    with relay.connect() as client:
        client.greet()
    relay.stop()
    relay.log.close()
