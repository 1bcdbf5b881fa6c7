#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A catching SMTP and LMTP server: keeps what arrives byte for byte, and misbehaves when told.

In a test:        with Sink() as sink: ...; sink.wait(3); sink.mails[0].content
As a process:     sink.py --address A --port P [--log FILE] [--folder FOLDER]
                  Prints "listening" when it is; ends on SIGTERM.
  --log     one line an arrival, "ID MONOTONIC_NS", where ID is the value of the header X-Mail-Id
            and the time is that of handing the final reply to the kernel
  --folder  one file an arrival: the content, below X-Sink-Sender and X-Sink-Recipient lines

What it does not do: TLS, AUTH, checks of addresses. It accepts any line length and any size.
Faults are set by phase (connect, ehlo, helo, mail, rcpt, data, final) through `faults`: a reply
text ("450 4.2.0 later"), STALL (says nothing until the sink is closed), or CLOSE. A fault may also
be a function of the session and the argument that returns one of these, or None for business as
usual.
"""
import argparse
import asyncio
import collections
import os
import re
import signal
import socket
import sys
import threading
import time

import ports

STALL = object()
CLOSE = object()
EXTENSIONS = ("PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING",
              "DSN")

Mail = collections.namedtuple(
    "Mail", "sender recipients content helo parameters recipient_parameters session replied_ns")


class Gone(Exception):
    """The peer closed, or a fault of ours did."""


class Session:
    """One connection: a buffer of what was read, and the state of the transaction."""

    def __init__(self, sink, loop, connection, number):
        self.sink, self.loop, self.connection, self.number = sink, loop, connection, number
        self.buffer = bytearray()
        self.helo = ""
        self.commands = []  # (monotonic ns, line), for tests that look at order and timing
        self.reset()

    def reset(self):
        self.sender, self.parameters = None, []
        self.recipients, self.recipient_parameters = [], []
        self.content = bytearray()

    async def read_more(self):
        data = await self.loop.sock_recv(self.connection, 262144)
        if not data:
            raise Gone
        self.buffer += data

    async def read_line(self):
        while True:
            end = self.buffer.find(b"\n")
            if end >= 0:
                line = bytes(self.buffer[:end + 1])
                del self.buffer[:end + 1]
                return line.rstrip(b"\r\n")
            await self.read_more()

    async def read_exactly(self, size):
        while len(self.buffer) < size:
            await self.read_more()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def read_until_dot(self):
        """The content of DATA without its dots, up to CRLF . CRLF."""
        seen = 0
        while True:
            if self.buffer.startswith(b".\r\n"):
                raw, skip = b"", 3
                break
            end = self.buffer.find(b"\r\n.\r\n", max(seen - 4, 0))
            if end >= 0:
                raw, skip = bytes(self.buffer[:end + 2]), end + 5
                break
            seen = len(self.buffer)
            await self.read_more()
        del self.buffer[:skip]
        self.sink.note_data(self, raw)
        return re.sub(rb"(?m)^\.", b"", raw) if b"\r\n." in raw or raw[:1] == b"." else raw

    async def say(self, text):
        await self.loop.sock_sendall(self.connection, text.encode() + b"\r\n")

    async def fault(self, phase, argument=""):
        """True where a fault has taken the place of the usual reply."""
        what = self.sink.faults.get(phase)
        if callable(what):
            what = what(self, argument)
        if what is None:
            return False
        if what is CLOSE:
            raise Gone
        if what is STALL:
            self.sink.note_stall(self)
            await self.sink.closing.wait()
            raise Gone
        await self.say(what)
        return True

    async def run(self):
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) \
            if self.connection.family != socket.AF_UNIX else None
        if await self.fault("connect"):
            return
        await self.say("220 sink.test ready")
        while True:
            line = (await self.read_line()).decode("utf-8", "surrogateescape")
            self.commands.append((time.monotonic_ns(), line))
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            if verb == "QUIT":
                await self.say("221 2.0.0 bye")
                return
            handler = getattr(self, "on_" + verb.lower(), None)
            if handler is None:
                await self.say("502 5.5.1 not here")
            else:
                await handler(argument)

    async def on_ehlo(self, argument):
        if await self.fault("ehlo", argument):
            return
        self.helo = argument
        self.reset()
        lines = ["sink.test", *self.sink.extensions]
        await self.say("\r\n".join(f"250{'-' if i < len(lines) - 1 else ' '}{line}"
                                   for i, line in enumerate(lines)))

    on_lhlo = on_ehlo

    async def on_helo(self, argument):
        if await self.fault("helo", argument):
            return
        self.helo = argument
        self.reset()
        await self.say("250 sink.test")

    async def on_mail(self, argument):
        if await self.fault("mail", argument):
            return
        path, _, rest = argument[len("FROM:"):].strip().rpartition(">")
        self.reset()
        self.sender, self.parameters = path.lstrip("<"), rest.split()
        await self.say("250 2.1.0 ok")

    async def on_rcpt(self, argument):
        if self.sender is None:
            await self.say("503 5.5.1 MAIL first")
            return
        if await self.fault("rcpt", argument):
            return
        path, _, rest = argument[len("TO:"):].strip().rpartition(">")
        self.recipients.append(path.lstrip("<"))
        self.recipient_parameters.append(rest.split())
        await self.say("250 2.1.5 ok")

    async def on_data(self, _):
        if not self.recipients:
            await self.say("503 5.5.1 no recipients")
            return
        if await self.fault("data"):
            return
        await self.say("354 go on")
        self.content += await self.read_until_dot()
        await self.finish()

    async def on_bdat(self, argument):
        size, _, last = argument.partition(" ")
        self.content += await self.read_exactly(int(size))
        if not self.recipients:
            await self.say("503 5.5.1 no recipients")
        elif last.upper() == "LAST":
            self.sink.note_data(self, bytes(self.content))
            await self.finish()
        else:
            await self.say("250 2.0.0 ok")

    async def finish(self):
        if await self.fault("final"):
            self.reset()
            return
        copies = len(self.recipients) if self.sink.lmtp else 1
        # Noted before the reply is sent: a client that has the 250 finds the mail in the list.
        now = time.monotonic_ns()
        self.sink.note_mail(Mail(self.sender, list(self.recipients), bytes(self.content), self.helo,
                                 self.parameters, list(self.recipient_parameters), self, now))
        self.reset()
        await self.say("\r\n".join(["250 2.0.0 kept"] * copies))

    async def on_rset(self, _):
        self.reset()
        await self.say("250 2.0.0 ok")

    async def on_starttls(self, _):
        """A sink has no TLS; one that spoils it has a method for it."""
        if not hasattr(self.sink, "starttls"):
            await self.say("502 5.5.1 not here")
            return
        await self.sink.starttls(self)
        raise Gone

    async def on_noop(self, _):
        await self.say("250 2.0.0 ok")


class Sink:
    """The server, on a thread of its own. path: a unix socket instead of a port."""

    def __init__(self, lmtp=False, extensions=EXTENSIONS, faults=None, host=None, port=None,
                 path=None, on_mail=None, keep=True):
        self.lmtp, self.extensions, self.faults = lmtp, tuple(extensions), dict(faults or {})
        self.host, self.port = host or ports.address(), port
        self.path, self.on_mail, self.keep = path, on_mail, keep
        self.mails, self.sessions, self.stalled, self.raw = [], [], [], []
        self.changed = threading.Condition()
        self.tasks = set()

    @property
    def url(self):
        scheme = "lmtp" if self.lmtp else "smtp"
        return f"{scheme}://{self.path}" if self.path else f"{scheme}://{self.host}:{self.port}"

    def listen(self):
        if self.path:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.path))
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port or ports.free_port(self.host)))
            self.port = listener.getsockname()[1]
        listener.listen(1024)
        listener.setblocking(False)
        return listener

    def start(self):
        self.listener = self.listen()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.ready = threading.Event()
        self.thread.start()
        self.ready.wait()
        return self

    async def serve(self):
        self.loop = asyncio.get_running_loop()
        self.closing = asyncio.Event()
        accepting = self.loop.create_task(self.accept())
        self.ready.set() if hasattr(self, "ready") else None
        await self.closing.wait()
        accepting.cancel()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(accepting, *self.tasks, return_exceptions=True)
        self.listener.close()

    async def accept(self):
        while True:
            connection, _ = await self.loop.sock_accept(self.listener)
            connection.setblocking(False)
            task = self.loop.create_task(self.run_session(connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def run_session(self, connection):
        session = Session(self, self.loop, connection, len(self.sessions))
        if self.keep:
            with self.changed:
                self.sessions.append(session)
                self.changed.notify_all()
        try:
            await session.run()
        except (Gone, ConnectionError, BrokenPipeError):
            pass
        finally:
            connection.close()

    def note_data(self, session, raw):
        if self.keep:
            self.raw.append(raw)

    def note_stall(self, session):
        with self.changed:
            self.stalled.append(session)
            self.changed.notify_all()

    def note_mail(self, mail):
        if self.on_mail:
            self.on_mail(mail)
        if self.keep:
            with self.changed:
                self.mails.append(mail)
                self.changed.notify_all()

    def wait_for(self, what, timeout_s=30):
        """Waits until what(self) is true; fails the test with a picture of the sink otherwise."""
        with self.changed:
            if not self.changed.wait_for(lambda: what(self), timeout_s):
                raise AssertionError(
                    f"sink {self.url}: {len(self.mails)} mails from {len(self.sessions)} sessions,"
                    f" {len(self.stalled)} stalled, still not what was waited for")

    def wait(self, count, timeout_s=30):
        """Waits until that many mails are here, and returns them all."""
        self.wait_for(lambda s: len(s.mails) >= count, timeout_s)
        return list(self.mails)

    def close(self):
        self.loop.call_soon_threadsafe(self.closing.set)
        self.thread.join(10)
        assert not self.thread.is_alive(), "the sink's thread does not end"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


def write_mail(folder, number, mail):
    head = [f"X-Sink-Sender: <{mail.sender}>"]
    head += [f"X-Sink-Recipient: <{recipient}>" for recipient in mail.recipients]
    name = os.path.join(folder, f"{number:06d}.eml")
    with open(name + ".new", "wb") as out:
        out.write("".join(line + "\r\n" for line in head).encode("utf-8", "surrogateescape"))
        out.write(mail.content)
    os.rename(name + ".new", name)


def main():
    parser = argparse.ArgumentParser(description="catching SMTP sink")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lmtp", action="store_true")
    parser.add_argument("--log")
    parser.add_argument("--folder")
    options = parser.parse_args()
    log = open(options.log, "ab", buffering=0) if options.log else None
    count = 0

    def on_mail(mail):
        nonlocal count
        count += 1
        if log:
            match = re.search(rb"(?im)^X-Mail-Id: *(\S+)\r?$", mail.content)
            # One write a line: the reader never sees half of one, and a kill loses none.
            log.write(b"%s %d\n" % (match.group(1) if match else b"-", mail.replied_ns))
        if options.folder:
            write_mail(options.folder, count, mail)

    sink = Sink(options.lmtp, host=options.address, port=options.port, on_mail=on_mail, keep=False)
    sink.listener = sink.listen()

    async def run():
        server = asyncio.create_task(sink.serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: sink.closing.set())
        print("listening", flush=True)
        await server

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
