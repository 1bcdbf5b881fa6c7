# SPDX-License-Identifier: Apache-2.0
"""A redis-server of our own on a unix socket, and a client that speaks its protocol (RESP2)."""
import mmap
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "queue/redis"
FUNCTIONS = (FOLDER / "functions.lua").read_bytes() + (FOLDER / "nodes.lua").read_bytes()
SHARES = (FOLDER / "shares.lua").read_bytes()


class RedisError(Exception):
    pass


def encode(arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if not isinstance(argument, bytes):
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


class Client:
    """call() asks for one thing; pipe() sends many and returns all replies, errors as objects."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server went away")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        assert kind == b"*", line
        return None if rest == b"-1" else [self.read() for _ in range(int(rest))]

    def pipe(self, commands):
        self.send(b"".join(encode(c) for c in commands))
        return [self.read() for _ in commands]

    def call(self, *arguments):
        reply = self.pipe([arguments])[0]
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def info(self, section):
        rows = self.call("INFO", section).decode().split("\r\n")
        return dict(row.split(":", 1) for row in rows if ":" in row)

    def load_functions(self):
        return self.call("FUNCTION", "LOAD", "REPLACE", FUNCTIONS)

    def load_shares(self):
        return self.call("FUNCTION", "LOAD", "REPLACE", SHARES)


START_MS = 1795767016160


class Clock:
    """The wall clock of a server, in ms; it stands still until it is moved (clock.c)."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "clock")
        with open(self.path, "wb") as file:
            file.write(bytes(8))
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 8)
        self.now = 0
        self.move(START_MS)

    def move(self, by):
        self.now += by
        self.memory[:] = struct.pack("<Q", self.now * 1000)

    def environment(self):
        return {"LD_PRELOAD": os.environ["RINGPOST_REDIS_CLOCK_LIBRARY"],
                "RINGPOST_REDIS_CLOCK": self.path}


class Server:
    """Started with a folder of its own, which goes with it."""

    def __init__(self, *options, has_clock=False):
        self.folder = tempfile.mkdtemp(prefix="ringpost-redis-")
        self.path = os.path.join(self.folder, "s")
        self.command = ["redis-server", "--port", "0", "--unixsocket", self.path,
                        "--dir", self.folder, "--save", "", "--logfile", "", *options]
        self.clock = Clock(self.folder) if has_clock else None
        self.process = None
        self.start()

    def start(self):
        environment = dict(os.environ, **(self.clock.environment() if self.clock else {}))
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, env=environment)
        for line in self.process.stdout:
            if b"ready to accept connections" in line.lower():
                return
        raise RuntimeError("redis-server did not start: " + " ".join(self.command))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def connect(self):
        return Client(self.path)

    def close(self):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class ModelClient(Client):
    """The modelled server of tests/fault (redis_pipe.c), of which this is the only client."""

    def __init__(self):
        self.process = subprocess.Popen([os.environ["RINGPOST_REDIS_MODEL"]],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.file = self.process.stdout

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class ModelClock:
    def __init__(self, client):
        self.client, self.now = client, 0
        self.move(START_MS)

    def move(self, by):
        self.now += by
        self.client.call("SIM", "CLOCK", self.now)
