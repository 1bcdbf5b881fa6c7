# SPDX-License-Identifier: Apache-2.0
"""Every dialogue of tests/script against the daemon: the same replies, the same mails."""
import contextlib
import json

import pytest

import corpus
import script
from daemon import Ringpost, merge
from sink import Sink

SENTINEL = "sentinel@client.test"


class Pair:
    """A daemon of one configuration and its sink. One worker and one connection keep the order of
    mails, so when a mail sent last has arrived, all before it have."""

    def __init__(self, folder, changes):
        self.sink = Sink()
        self.relay = Ringpost(folder, merge(script.BASE, changes))
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.stack.enter_context(self.sink)
        self.relay.config["routes"] = [{"domain": "*", "to": self.sink.url, "connections": 1}]
        self.relay.write_config()
        self.stack.enter_context(self.relay)
        return self

    def __exit__(self, *what):
        return self.stack.__exit__(*what)

    def closed(self, reason):
        return self.relay.metrics().sum("ringpost_connections_closed_total", reason=reason)

    def take_mails(self):
        """What has arrived since the last call."""
        with self.relay.connect() as client:
            client.greet()
            assert client.mail(sender=SENTINEL)[0] == 250
        self.sink.wait_for(lambda s: any(m.sender == SENTINEL for m in s.mails))
        mails = [mail for mail in self.sink.mails if mail.sender != SENTINEL]
        self.sink.mails.clear()
        return mails


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """One pair a configuration, started when a script first needs it."""
    running = {}
    with contextlib.ExitStack() as stack:
        def pair_of(changes):
            key = json.dumps(changes, sort_keys=True)
            if key not in running:
                folder = tmp_path_factory.mktemp("scripts") / "relay"
                running[key] = stack.enter_context(Pair(folder, changes))
            return running[key]
        yield pair_of


def matches(line, exact, wanted):
    # The receiver's own test has no limit of mails, the daemon always has one.
    if exact and not wanted.startswith(b"250 LIMITS"):
        return line == wanted
    return line.startswith(wanted)


def play(client, groups):
    for said, replies in groups:
        client.socket.sendall(said)
        for exact, wanted in replies:
            line = client.file.readline()
            assert line.endswith(b"\r\n"), (line, wanted)
            assert matches(line[:-2], exact, wanted), (line, wanted)


def has_ended(client):
    """The daemon has closed; a reset is an end, too, where it did not read all that we sent."""
    try:
        return client.file.readline() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("case", script.all_scripts(), ids=lambda case: case.name)
def test_script(case, pairs):
    reason = case.skip_reason()
    if reason:
        pytest.skip(reason)
    pair = pairs(case.configuration())
    before = pair.closed(case.close) if case.close else 0
    with pair.relay.connect() as client:
        play(client, case.groups)
        if case.close:
            assert has_ended(client)
    if case.close:
        pair.relay.wait_metric(
            lambda m: m.sum("ringpost_connections_closed_total", reason=case.close) == before + 1,
            f"a connection closed for {case.close}")
    mails = pair.take_mails()
    if case.commits_none():
        assert not mails
    if case.commits():
        assert len(mails) == case.commits()
    assert not {mail.sender for mail in mails} & set(case.senders())
    bodies = [corpus.without_trace(mail.content) for mail in mails]
    for wanted in case.bodies:
        assert wanted in bodies, (wanted, bodies)
