# SPDX-License-Identifier: Apache-2.0
"""Clients behind a proxy that speaks the PROXY protocol, as HAProxy does."""
import ipaddress
import socket
import struct

import pytest

from daemon import Client, Ringpost

PROXY = "127.0.0.77"
BODY = b"Subject: hi\r\n\r\nhello\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def text(source, target="198.51.100.9", source_port=40000, target_port=25):
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {target} {source_port} {target_port}\r\n".encode()


def binary(source, target="198.51.100.9", source_port=40000, target_port=25, tlvs=b""):
    source, target = ipaddress.ip_address(source), ipaddress.ip_address(target)
    family = 0x11 if source.version == 4 else 0x21
    rest = source.packed + target.packed + struct.pack("!HH", source_port, target_port) + tlvs
    return SIGNATURE + struct.pack("!BBH", 0x21, family, len(rest)) + rest


LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)


@pytest.fixture
def relay(folder, sink):
    # 2 connections of a client, so that the limits show whom they count.
    config = {"relay": {"networks": ["192.0.2.0/24", "2001:db8::/32", PROXY]},
              "log": {"level": "debug"},
              "limits": {"connections_per_client": 2},
              "timeouts": {"receive": {"proxy": "2s"}}}
    running = Ringpost(folder / "relay", config, routes=[{"domain": "*", "to": sink.url}])
    running.config["listeners"][0]["proxy_from"] = [PROXY]
    running.write_config()
    with running:
        yield running


def connect(relay, source=PROXY):
    client = Client.__new__(Client)
    client.socket = socket.create_connection((relay.host, relay.port), 30, (source, 0))
    client.file = client.socket.makefile("rb")
    return client


@pytest.mark.parametrize("header, address, received", [
    (text("192.0.2.1"), "192.0.2.1:40000", b"[192.0.2.1]"),
    (text("2001:db8::7", "2001:db8::1"), "[2001:db8::7]:40000", b"[IPv6:2001:db8::7]"),
    (binary("192.0.2.1"), "192.0.2.1:40000", b"[192.0.2.1]"),
    (binary("2001:db8::7", "2001:db8::1", tlvs=b"\x04\0\x40" + bytes(64)),
     "[2001:db8::7]:40000", b"[IPv6:2001:db8::7]"),
    (LOCAL, None, PROXY.encode()),
    (b"PROXY UNKNOWN\r\n", None, PROXY.encode()),
])
def test_the_address_that_is_told_counts(relay, sink, header, address, received):
    with connect(relay) as client:
        client.write(header)
        client.greet()
        # Networks are those of the client: anywhere.test is no domain of ours.
        assert client.mail(recipients=["one@anywhere.test"], body=BODY)[0] == 250
        own = "%s:%s" % client.socket.getsockname()
    assert received in sink.wait(1)[0].content.split(b"\r\n\tby")[0]
    for event in ("connected", "received"):
        assert relay.log.wait(event)["peer"] == (address or own)


def test_networks_are_those_of_the_client(relay):
    with connect(relay) as client:
        client.write(text("203.0.113.5"))
        client.greet()
        assert client.mail(recipients=["one@anywhere.test"])[0] == 554


def test_limits_are_those_of_the_client(relay):
    with connect(relay) as one, connect(relay) as two, connect(relay) as three:
        for client in (one, two):
            client.write(text("192.0.2.1"))
            client.greet()
        three.write(binary("192.0.2.1"))
        assert three.reply()[0] == 421
        with connect(relay) as other:
            other.write(text("192.0.2.2"))
            other.greet()


@pytest.mark.parametrize("header", [text("192.0.2.1"), binary("192.0.2.1")])
def test_a_header_in_pieces(relay, header):
    with connect(relay) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            client.write(bytes([byte]))
        client.greet()
        assert client.mail(recipients=["one@anywhere.test"], body=BODY)[0] == 250


@pytest.mark.parametrize("header", [text("192.0.2.1"), LOCAL])
def test_who_speaks_ahead_of_the_greeting_is_still_seen(relay, header):
    with connect(relay) as client:
        client.write(header + b"EHLO client.test\r\n")
        code, said = client.reply()
        assert (code, said[:5]) == (554, "5.5.0")
        assert client.reply() is None


@pytest.mark.parametrize("first, why", [
    (b"EHLO client.test\r\n", "no PROXY header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "two addresses and two ports"),
    (SIGNATURE + b"\x31", "not known"),
    (b"\x16\x03\x01\x02\x00", "no PROXY header"),
])
def test_without_a_good_header_it_is_closed(relay, first, why):
    with connect(relay) as client:
        client.write(first)
        assert client.reply() is None
    event = relay.log.wait("proxy_refused")
    assert why in event["error"] and event["peer"].startswith(PROXY + ":")
    assert event["listener"] == f"{relay.host}:{relay.port}"
    relay.log.wait("disconnected", reason="proxy_header")
    metrics = relay.metrics()
    assert metrics.sum("ringpost_connections_refused_total", reason="proxy_header") == 1
    assert metrics.sum("ringpost_connections", side="receive") == 0


def test_a_silent_proxy_is_left(relay):
    with connect(relay) as client:
        client.write(text("192.0.2.1")[:-1])
        assert client.reply() is None
    assert relay.log.wait("proxy_refused")["error"] == "no PROXY header in time"
    assert relay.metrics().sum("ringpost_timeouts_total", phase="receive_proxy") == 1


def test_a_health_check_that_says_nothing_is_no_event(relay):
    connect(relay).close()
    relay.log.wait("disconnected", reason="peer_closed")
    assert relay.log.events("proxy_refused") == []


@pytest.mark.parametrize("header", [text("192.0.2.1"), binary("192.0.2.1")])
def test_others_may_not_send_it(relay, header):
    with connect(relay, "127.0.0.78") as client:
        assert client.reply()[0] == 220
        client.write(header + b"\r\n")
        assert client.reply()[0] == 500
        client.write("EHLO client.test\r\n")
        while client.reply()[0] != 250:
            pass
        assert client.mail(recipients=["one@anywhere.test"])[0] == 554  # no network of ours


def test_a_drain_does_not_wait_for_proxies(relay):
    with connect(relay) as client:
        client.write(b"PROXY")
        relay.stop(timeout_s=20)
        assert client.reply() is None
