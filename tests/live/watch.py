# SPDX-License-Identifier: Apache-2.0
"""Waiting for files: the kernel's inotify, through libc, since Python has no module for it."""
import ctypes
import os
import select
import struct
import time

_libc = ctypes.CDLL(None, use_errno=True)
IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_MODIFY = 0x8, 0x80, 0x100, 0x2


class Watch:
    """Wakes up when something changes in one of the folders."""

    def __init__(self, *folders):
        self.fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self.fd >= 0
        for folder in folders:
            added = _libc.inotify_add_watch(self.fd, os.fsencode(str(folder)),
                                            IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_MODIFY)
            assert added >= 0, f"cannot watch {folder}: errno {ctypes.get_errno()}"
        self.closed = set()  # names of files that a writer has closed
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)

    def wait_for(self, wanted, timeout_s, what):
        """The first true value of wanted(), asked again after each change."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = wanted()
            if value:
                return value
            left_ms = int((deadline - time.monotonic()) * 1000)
            assert left_ms > 0, f"{what}: not within {timeout_s} s"
            if self.poll.poll(left_ms):
                self.read_events()

    def read_events(self):
        data = os.read(self.fd, 65536)
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            if mask & IN_CLOSE_WRITE:
                self.closed.add(os.fsdecode(data[16:16 + size].rstrip(b"\0")))
            data = data[16 + size:]

    def close(self):
        os.close(self.fd)
