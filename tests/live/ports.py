# SPDX-License-Identifier: Apache-2.0
"""Loopback addresses and ports that no other test run uses.

Every process has an address of its own in 127.0.0.0/8, made of its process id, so two runs at the
same time cannot take each other's port between choosing and binding it. Clients that connect to it
appear as 127.0.0.1, which keeps their ephemeral ports out of the way too.
"""
import os
import socket

_used = set()


def address(number=0):
    """A loopback address of this process's own; there are three (0, 1, 2), for hosts that must
    have the same port. Never 127.0.x.y, where other things live."""
    assert number < 3
    pid = os.getpid()
    return f"127.{64 * (number + 1) + (pid >> 16 & 63)}.{pid >> 8 & 255}.{max(pid & 255, 1)}"


def free_port(host=None):
    host = host or address()
    while True:
        with socket.socket() as s:
            s.bind((host, 0))
            port = s.getsockname()[1]
        if (host, port) not in _used:
            _used.add((host, port))
            return port
