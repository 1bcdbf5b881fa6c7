# SPDX-License-Identifier: Apache-2.0
"""A real redis-server on a loopback port of its own, in a folder of its own."""
import contextlib
import pathlib
import shutil
import signal
import socket
import subprocess

import ports
from daemon import terminate, wait_connectable, wait_polling

SAFE = {"appendonly": "yes", "appendfsync": "always", "save": '""'}


def is_installed():
    return shutil.which("redis-server") is not None


def wait_until(wanted, redis, what, timeout_s=30):
    """The first true value of wanted(), while the server lives; it may refuse to say meanwhile."""
    def ask():
        with contextlib.suppress(OSError, ValueError):
            return wanted()
        return None
    return wait_polling(ask, redis.process, what, timeout_s)


class Redis:
    """options: lines of its configuration, over SAFE, which keeps what it has said yes to."""

    def __init__(self, folder, options=None, host=None, port=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port = host or ports.address(), port or ports.free_port()
        self.options = {**SAFE, **(options or {})}
        self.sentinel = []  # lines that make it a Sentinel, which keeps no data
        self.process = None

    @property
    def server(self):
        return f"{self.host}:{self.port}"

    def start(self):
        lines = [f"bind {self.host}", f"port {self.port}", f"dir {self.folder}", "daemonize no",
                 *([*self.sentinel, "protected-mode no"] if self.sentinel else
                   [f"{key} {value}" for key, value in self.options.items()])]
        path = self.folder / "redis.conf"
        path.write_text("\n".join(lines) + "\n")
        with open(self.folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                ["redis-server", str(path), *(["--sentinel"] if self.sentinel else [])],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_connectable(self.host, self.port, self.process)
        wait_until(lambda: "loading:1" not in self.ask("INFO", "persistence"), self,
                   "it has read its data")
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            terminate(self.process)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def ask(self, *arguments):
        """One command; text, number, None, or a list of these. An error is raised."""
        with socket.create_connection((self.host, self.port), 30) as s, s.makefile("rb") as answer:
            parts = [str(a).encode() for a in arguments]
            s.sendall(b"*%d\r\n" % len(parts) + b"".join(
                b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            return read_answer(answer)


def read_answer(stream):
    line = stream.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind == b"-":
        raise AssertionError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"+":
        return rest.decode()
    if int(rest) < 0:
        return None
    if kind == b"*":
        return [read_answer(stream) for _ in range(int(rest))]
    value = stream.read(int(rest))
    stream.read(2)
    return value.decode(errors="surrogateescape")
