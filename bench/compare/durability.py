# SPDX-License-Identifier: Apache-2.0
"""Does a relay sync before it says 250? Asked of the kernel, with one mail.

The kernel's own trace of ext4 (tracefs, needs root) tells each sync of a file: fsync, fdatasync and
the sync behind a write with O_DSYNC or RWF_DSYNC, whether by system call or by io_uring, with the
file and its folder. Those in the relay's folder between the end of the mail's data and its 250 are
counted. strace sees the same of the relays that use system calls, but nothing of io_uring, whose
syncs the kernel makes in threads of its own.
"""
import contextlib
import os
import pathlib
import re
import subprocess
import tempfile
import time

import harness

EVENT = "events/ext4/ext4_sync_file_enter"
INSTANCE = "instances/ringpost-compare"


@contextlib.contextmanager
def tracefs():
    """The kernel's tracing, mounted where nobody else looks; None where there is none."""
    if os.geteuid() != 0:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tracefs", "nodev", folder],
                                 capture_output=True).returncode == 0
        try:
            root = pathlib.Path(folder)
            yield root if mounted and (root / EVENT).exists() else None
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def trace_of(root):
    """Traces all syncs of the machine, in an instance of its own."""
    instance = root / INSTANCE
    instance.mkdir()
    try:
        (instance / "trace_clock").write_text("mono")
        (instance / EVENT / "enable").write_text("1")
        yield instance
        (instance / EVENT / "enable").write_text("0")
    finally:
        instance.rmdir()


def parse_syncs(trace):
    """Of each sync the second of the monotonic clock, the file's inode and that of its folder."""
    pattern = r"\s(\d+\.\d+): ext4_sync_file_enter: dev \S+ ino (\d+) parent (\d+)"
    return [(float(when), int(file), int(parent))
            for when, file, parent in re.findall(pattern, trace)]


def folders_below(path):
    """Inodes of the folder and all folders below it."""
    found = set()
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.stat(folder).st_ino)
    return found


def send_one(address):
    """One mail; returns when its data had been sent but for the dot, and when 250 was there."""
    with harness.Client(*address) as client:
        client.greet()
        for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"):
            reply = client.command(line)
            if reply is None or reply[0] >= 400:
                raise harness.Failure(f"{line}: {reply}")
        client.write("Subject: one\r\n\r\n" + "durable?\r\n" * 100)
        before = time.monotonic()
        client.write(".\r\n")
        reply = client.reply()
        after = time.monotonic()
        if reply is None or reply[0] != 250:
            raise harness.Failure(f"end of data: {reply}")
        client.command("QUIT")
    return before, after


def count_syncs(relay):
    """How many syncs the running relay makes between the end of data and 250; None: unknown."""
    send_one((relay.host, relay.port))  # processes that serve a first mail are there then
    folders = folders_below(relay.folder)
    with tracefs() as root:
        if root is None:
            return None
        with trace_of(root) as instance:
            before, after = send_one((relay.host, relay.port))
            folders |= folders_below(relay.folder)
            trace = (instance / "trace").read_text()
    return sum(before <= when <= after and bool({file, parent} & folders)
               for when, file, parent in parse_syncs(trace))
