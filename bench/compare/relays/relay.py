# SPDX-License-Identifier: Apache-2.0
"""What a relay under comparison is: a folder, an address, a process to start and to end.

Each relay takes mail from loopback without a password and sends all of it to one next hop, the sink
of the load generator. It gets a folder of its own on a real disk; everything that it writes is
there, with the queue of every relay on one file system. It listens on an address of 127.0.0.0/8
that no other run uses. What it syncs before it says 250 is left as its makers ship it. It runs in a
cgroup of its own, by which its CPU time is known.

A class states its settings in set_up(), each with its reason; launch() starts the program in the
foreground. Orphans of a relay (Exim's deliveries) stay below its root process, so that what they
use is counted: it is made their subreaper.
"""
import contextlib
import ctypes
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time

import cgroup
import harness
import processes

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """For a child between fork and exec; it holds across exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Relay:
    name = ""      # in options, results and tables
    title = ""     # for the reader
    synced = ""    # what is on stable storage before 250, by default
    delivery = ""  # how it hands mail on
    needs_root = True
    pipelining = True  # is it offered to clients?
    own_session = True  # apart from the generator's

    def __init__(self, folder, sink):
        self.folder = pathlib.Path(folder)
        self.sink_host, self.sink_port = sink
        self.host, self.port = harness.address(), harness.free_port()
        self.process = self.cgroup = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def version(self):
        """The version that is installed; fails with the remedy where none is."""
        raise NotImplementedError

    def set_up(self):
        """Writes the configuration into the folder, which is new."""
        raise NotImplementedError

    def command(self):
        """What runs it in the foreground."""
        raise NotImplementedError

    def root_pid(self):
        """The process all others of this relay descend from, once it answers."""
        return self.process.pid

    def launch_beside(self, prepare):
        """Starts what it needs beside it; `prepare`: for the child between fork and exec."""

    def stop_beside(self):
        """Stops that, when the relay has ended."""

    def is_ready(self, _client):
        """Does it take mail? Asked of a client that was greeted, until it does."""
        return True

    def counters(self):
        """What has been counted so far and belongs into the tables as an amount a mail."""
        return {}

    def log(self):
        """The end of its log, for a failure's text."""
        return (self.folder / "output").read_text(errors="replace")[-4000:]

    def make_folder(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o755)

    def start(self):
        """Until it answers EHLO. Returns the root process's id."""
        self.cgroup = cgroup.Cgroup(self.name)

        def prepare():
            self.cgroup.join()
            adopt_orphans()

        self.launch_beside(prepare)
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.folder, start_new_session=self.own_session, preexec_fn=prepare)
        try:
            harness.wait_connectable(self.host, self.port, self.process)
            self.wait_ready()
        except (AssertionError, OSError, TypeError) as failure:  # TypeError: no reply at all
            self.stop()
            raise harness.Failure(f"{self.title}: {failure}\n{self.log()}") from None
        return self.root_pid()

    def wait_ready(self, patience_s=30):
        deadline = time.monotonic() + patience_s
        while True:
            with harness.Client(self.host, self.port) as client:
                client.greet()
                if self.is_ready(client):
                    client.command("QUIT")
                    return
            assert time.monotonic() < deadline, "it takes no mail"
            select.select([], [], [], 0.02)  # that it will has no event

    def stop(self):
        """SIGTERM to the root process, then to what it has left behind; SIGKILL where it hangs."""
        if self.process is None:
            return
        tree = processes.descendants(self.process.pid)
        harness.terminate(self.process, signal.SIGTERM)
        processes.end(tree)
        self.process = None
        self.stop_beside()
        self.cgroup.remove()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def running(self):
        """Set up, started; stopped and removed at the end."""
        self.make_folder()
        self.set_up()
        try:
            self.start()
            yield self
        finally:
            self.stop()
            self.remove()


def find_program(*candidates, remedy):
    for candidate in candidates:
        path = shutil.which(str(candidate)) or str(candidate)
        if os.access(path, os.X_OK):
            return path
    raise harness.Failure(f"{candidates[0]} is not there: {remedy}")


def own(path, user, mode=0o700):
    path.mkdir(parents=True, mode=mode)
    path.chmod(mode)
    shutil.chown(path, user)
    return path
