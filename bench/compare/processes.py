# SPDX-License-Identifier: Apache-2.0
"""Process trees: who descends from whom, and the end of what is left of one."""
import os
import select
import signal


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


def descendants(root):
    """Handles (pidfd) of all below root: a handle never means another process later."""
    parent = parents()
    found, edge = [], {root}
    while edge:
        edge = {pid for pid, up in parent.items() if up in edge}
        found += edge
    handles = []
    for pid in found:
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
