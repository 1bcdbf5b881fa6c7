#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client under load that never sends a mail twice, and writes down what it was promised.

usage: load.py --host H --port P --log FILE [--connections N] [--seed S]

Each mail has an id of its own in X-Mail-Id. Where the connection breaks before the final reply, the
mail is given up; whether it arrives is then nobody's promise. The log has a line a fact, written at
once:
    accepted ID NS      the 250 after the data was read, at this time of the monotonic clock
    refused ID NS CODE  a 4xx or 5xx at any step
    broken ID NS        the connection broke before the final reply
    sending ID NS       the first byte of the mail's data is about to leave
Commands on standard input: "up" (the server is there, connect), "stop" (finish the mail in hand and
end). On standard output: the number of accepted mails, after every 20.
"""
import argparse
import asyncio
import os
import random
import sys
import time

# Mostly small, some larger than a commit's page, a few that go to a file of their own (256 KiB).
SIZES = [300] * 6 + [2000] * 6 + [20000] * 4 + [300 << 10]


class Load:
    def __init__(self, options):
        self.options = options
        self.log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.random = random.Random(options.seed)
        self.up = asyncio.Event()
        self.stopping = False
        self.count = self.accepted = 0
        self.filler = self.random.randbytes(max(SIZES)).hex().encode()

    def note(self, what, name, *more):
        line = " ".join((what, name, str(time.monotonic_ns()), *more)) + "\n"
        os.write(self.log, line.encode())

    def next_mail(self):
        self.count += 1
        name = f"{self.options.seed}-{self.count}"
        size = self.random.choice(SIZES)
        at = self.random.randrange(1000)
        lines = [self.filler[i:i + 76] for i in range(at, at + size, 76)]
        content = b"X-Mail-Id: %s\r\nSubject: load\r\n\r\n%s\r\n" % (name.encode(),
                                                                   b"\r\n".join(lines))
        return name, content

    async def reply(self, reader):
        while True:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("closed")
            if line[3:4] != b"-":
                return int(line[:3])

    async def send_one(self, reader, writer):
        name, content = self.next_mail()
        chunked = self.random.random() < 0.5
        try:
            head = b"MAIL FROM:<load@client.test>\r\nRCPT TO:<sink@example.test>\r\n"
            writer.write(head + (b"" if chunked else b"DATA\r\n"))
            codes = [await self.reply(reader) for _ in range(2 if chunked else 3)]
            refused = next((code for code in codes if code >= 400), None)
            if refused is None:
                self.note("sending", name)
                if chunked:
                    writer.write(b"BDAT %d LAST\r\n" % len(content) + content)
                else:
                    writer.write(content + b".\r\n")
                await writer.drain()
                code = await self.reply(reader)
                refused = code if code != 250 else None
        except (ConnectionError, OSError):
            self.note("broken", name)
            raise
        if refused is not None:
            self.note("refused", name, str(refused))
            writer.write(b"RSET\r\n")
            await self.reply(reader)
            return
        self.note("accepted", name)
        self.accepted += 1
        if self.accepted % 20 == 0:
            print(self.accepted, flush=True)

    async def session(self):
        """One connection until it breaks. False where none could be made."""
        try:
            reader, writer = await asyncio.open_connection(self.options.host, self.options.port)
        except OSError:
            return False
        try:
            greeting = await self.reply(reader)
            if greeting != 220:
                return False
            writer.write(b"EHLO client.test\r\n")
            await self.reply(reader)
            while not self.stopping:
                await self.send_one(reader, writer)
            writer.write(b"QUIT\r\n")
            await self.reply(reader)
        except (ConnectionError, OSError):
            pass
        finally:
            writer.close()
        return True

    async def connection(self):
        while not self.stopping:
            await self.up.wait()
            if not self.stopping and not await self.session():
                self.up.clear()  # the server is away until we are told "up" again

    async def commands(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while True:
            line = await reader.readline()
            if line.strip() == b"up":
                self.up.set()
            elif not line or line.strip() == b"stop":
                self.stopping = True
                self.up.set()
                return

    async def run(self):
        await asyncio.gather(self.commands(),
                             *(self.connection() for _ in range(self.options.connections)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    async def run():
        await Load(options).run()
    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
