# SPDX-License-Identifier: Apache-2.0
import pytest
from server import ModelClient, ModelClock, Server


@pytest.fixture(scope="session")
def real_server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def clocked_server():
    server = Server(has_clock=True)
    yield server
    server.close()


def emptied(server):
    client = server.connect()
    client.call("FLUSHALL")
    client.load_functions()
    return client


@pytest.fixture
def redis(real_server):
    """A client of a server with the machine's clock."""
    client = emptied(real_server)
    yield client
    client.close()


class Wakes:
    """Counts the messages of a channel. A last one of our own shows that there are no more."""

    def __init__(self, server, channel):
        self.server, self.channel = server, channel
        self.listener = server.connect()
        assert self.listener.call("SUBSCRIBE", channel)[0] == b"subscribe"

    def count(self, client, message, beginning=None):
        """Those that are `message`, or begin so; there must be no others."""
        client.call("PUBLISH", self.channel, "end")
        count = 0
        while True:
            kind, where, what = self.listener.read()
            assert (kind, where) == (b"message", self.channel.encode())
            if what == b"end":
                self.listener.close()
                return count
            assert what == message or beginning and what.startswith(beginning)
            count += 1


class ModelWakes:
    def __init__(self, client):
        self.before = client.call("SIM", "PUBLISHED")

    def count(self, client, message, beginning=None):
        return client.call("SIM", "PUBLISHED") - self.before


@pytest.fixture(params=["server", "model"])
def clocked(request):
    """A client of a server whose clock stands still, the clock, and what counts the messages of a
    channel; of a real server, and of the model of one that the simulation of tests/fault has."""
    if request.param == "server":
        server = request.getfixturevalue("clocked_server")
        client = emptied(server)
        yield client, server.clock, lambda channel: Wakes(server, channel)
    else:
        client = ModelClient()
        clock = ModelClock(client)
        client.load_functions()
        yield client, clock, lambda channel: ModelWakes(client)
    client.close()
