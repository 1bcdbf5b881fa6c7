# SPDX-License-Identifier: Apache-2.0
"""Process trees: who descends from whom, and the end of what is left of one."""
import os
import select
import signal
import socket
import struct
import time


def parents():
    """Of every process, its parent."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    # The name in parentheses may hold anything; what follows its end does not.
                    found[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def below(root):
    """All that descend from root."""
    parent = parents()
    found, edge = [], {root}
    while edge:
        edge = {pid for pid, up in parent.items() if up in edge}
        found += edge
    return found


def descendants(root):
    """Handles (pidfd) of all below root: a handle never means another process later."""
    handles = []
    for pid in below(root):
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            pass
    return handles


def end(handles, patience_s=10):
    """Ends what the handles stand for: SIGTERM, and SIGKILL after a while. Closes the handles."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for handle in handles:
            try:
                signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                pass
        if all_ended(handles, patience_s):
            break
    for handle in handles:
        os.close(handle)


def all_ended(handles, timeout_s):
    for handle in handles:
        watch = select.poll()
        watch.register(handle, select.POLLIN)
        if not watch.poll(timeout_s * 1000):
            return False
    return True


def wait_disconnected(host, port, patience_s):
    """Until no socket of this machine is connected to host:port, but for those that linger only in
    the kernel (TIME_WAIT). Returns after a while all the same."""
    packed = struct.unpack("=I", socket.inet_aton(host))[0]
    wanted = f"{packed:08X}:{port:04X}"
    time_wait = "06"
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with open("/proc/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file][1:]
        if not any(row[2] == wanted and row[3] != time_wait for row in rows):
            return True
        select.select([], [], [], 0.05)  # the table has no event
    return False
