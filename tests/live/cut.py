# SPDX-License-Identifier: Apache-2.0
"""A wire that can be cut: hands TCP connections on to another address, until it is told not to."""
import asyncio
import contextlib
import threading

import ports


class Wire:
    """cut() resets what is open and lets nobody in; freeze() keeps all open and moves no byte."""

    def __init__(self, host, port):
        self.target = host, port
        self.host, self.port = ports.address(), ports.free_port()
        self.loop = asyncio.new_event_loop()
        self.writers = set()
        self.is_cut = False
        self.flows = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    @property
    def server(self):
        return f"{self.host}:{self.port}"

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def begin(self):
        self.flows = asyncio.Event()
        self.flows.set()
        return await asyncio.start_server(self.serve, self.host, self.port)

    async def serve(self, reader, writer):
        if self.is_cut:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            self.writers |= {writer, far_writer}
            try:
                await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))
            finally:
                self.writers -= {writer, far_writer}
                far_writer.transport.abort()
        writer.transport.abort()

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def call(self, function):
        done = threading.Event()

        def run():
            function()
            done.set()
        self.loop.call_soon_threadsafe(run)
        assert done.wait(30)

    def cut(self):
        def now():
            self.is_cut = True
            for writer in list(self.writers):
                writer.transport.abort()
        self.call(now)

    def freeze(self):
        self.call(lambda: self.flows.clear())

    def mend(self):
        def now():
            self.is_cut = False
            self.flows.set()
        self.call(now)

    def __enter__(self):
        self.thread.start()
        self.server_object = asyncio.run_coroutine_threadsafe(self.begin(), self.loop).result(30)
        return self

    def __exit__(self, *_):
        self.cut()
        self.call(self.server_object.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
