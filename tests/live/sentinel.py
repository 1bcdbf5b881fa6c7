# SPDX-License-Identifier: Apache-2.0
"""What a Sentinel says to a client, and no more: who is the master, and when it is another one. Who
that is the test decides: there is no judging of servers, and no waiting for it."""
import socket
import threading

import ports


def encode(*words):
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%s\r\n" % (len(w), w) for w in (str(word).encode() for word in words))


class Sentinel:
    def __init__(self, name, master):
        self.name, self.master = name, master
        self.host, self.port = ports.address(), ports.free_port()
        self.listeners = []
        self.lock = threading.Lock()
        self.socket = None

    @property
    def server(self):
        return f"{self.host}:{self.port}"

    def __enter__(self):
        self.socket = socket.create_server((self.host, self.port))
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        with self.lock:
            for connection in self.listeners:
                connection.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection, connection.makefile("rb") as stream:
                while line := stream.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        size = int(stream.readline()[1:])
                        words.append(stream.read(size + 2)[:-2].decode())
                    self.answer(connection, [word.upper() for word in words])
        except OSError:
            pass

    def answer(self, connection, words):
        with self.lock:
            if words[0] == "SENTINEL":
                connection.sendall(encode(self.master.host, self.master.port))
            elif words[0] == "SUBSCRIBE":
                self.listeners.append(connection)
                connection.sendall(b"*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n")
            elif words[0] == "PING":
                connection.sendall(encode("pong", "") if connection in self.listeners
                                   else b"+PONG\r\n")
            else:
                connection.sendall(b"-ERR unknown command\r\n")

    def switch(self, master):
        with self.lock:
            old, self.master = self.master, master
            text = f"{self.name} {old.host} {old.port} {master.host} {master.port}"
            for connection in self.listeners:
                try:
                    connection.sendall(encode("message", "+switch-master", text))
                except OSError:
                    pass
