#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds many greeted SMTP sessions open and does nothing with them:

    idle_client.py HOST PORT COUNT [tls]

Prints "ready" when all have answered EHLO; ends when its standard input closes, and then fails if
one of the sessions was closed by the server meanwhile.
"""
import select
import socket
import ssl
import sys


def read_reply(client):
    data = b""
    while not (data.endswith(b"\r\n") and data.split(b"\r\n")[-2][3:4] == b" "):
        more = client.recv(4096)
        if not more:
            raise SystemExit(f"closed after {data!r}")
        data += more
    return data


def main():
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context = ssl._create_unverified_context() if sys.argv[4:] == ["tls"] else None
    clients = []
    for _ in range(count):
        client = socket.create_connection((host, port), 60)
        if context is not None:
            client = context.wrap_socket(client)
        clients.append(client)
        assert read_reply(client).startswith(b"220"), "no greeting"
        client.sendall(b"EHLO idle.test\r\n")
        assert read_reply(client).startswith(b"250"), "no EHLO"
    print("ready", flush=True)
    sys.stdin.read()
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    gone = len(poll.poll(0))
    return f"{gone} sessions were closed" if gone else 0


if __name__ == "__main__":
    sys.exit(main())
