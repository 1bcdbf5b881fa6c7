# SPDX-License-Identifier: Apache-2.0
"""Recipients of our own domains are known before 250: from a file."""
import os
import threading

import pytest

from daemon import EXIT_CONFIG, Ringpost

BODY = b"Subject: hi\r\n\r\nhello\r\n"
LOOK = {"recipients_look": "1s"}


def replace(path, lines):
    """As the documentation asks for: written aside and renamed."""
    aside = path.with_suffix(".new")
    aside.write_text("".join(line + "\n" for line in lines))
    aside.rename(path)


def domains(recipients, **more):
    return {"relay": {"networks": ["10.0.0.0/8"], **LOOK, **more,
                      "domains": [{"name": "example.test", "recipients": recipients}]}}


@pytest.fixture
def listed(folder, sink):
    """A relay whose domain has a file of recipients."""
    path = folder / "users"
    replace(path, ["# people", "ann@example.test", "bob"])
    with Ringpost(folder / "relay", domains(str(path)), [{"domain": "*", "to": sink.url}]) as relay:
        relay.users = path
        yield relay


def ask(client, address):
    reply = client.command(f"RCPT TO:<{address}>")
    return reply[0], reply[1].split(" ")[0]


def begin(client):
    client.greet()
    assert client.command("MAIL FROM:<a@client.test>")[0] == 250


@pytest.mark.smoke
def test_only_who_is_listed_is_taken(listed, sink):
    event = listed.log.wait("recipients_loaded")
    assert (event["file"], event["recipients"]) == (str(listed.users), 2), event
    with listed.connect() as client:
        begin(client)
        for known in ("ann@example.test", "ANN@Example.Test", "bob@example.test",
                      "bob+lists@example.test", '"ann"@example.test', "postmaster@example.test",
                      "Postmaster"):
            assert ask(client, known) == (250, "2.1.5"), known
        for unknown in ("carol@example.test", "ann2@example.test", "abuse@example.test"):
            assert ask(client, unknown) == (550, "5.1.1"), unknown
        assert client.command("DATA")[0] == 354
        client.write(BODY + b".\r\n")
        assert client.reply()[0] == 250
    assert len(sink.wait(1)[0].recipients) == 7
    metrics = listed.metrics()
    assert metrics.sum("ringpost_recipients_looked_up_total", answer="known") == 5
    assert metrics.sum("ringpost_recipients_looked_up_total", answer="unknown") == 3
    assert metrics.sum("ringpost_recipients_listed") == 2
    refused = listed.log.wait("command_refused")
    assert (refused["code"], refused["command"]) == (550, "RCPT TO:<carol@example.test>"), refused


def test_a_changed_file_counts_in_sessions_that_are_open(listed):
    with listed.connect() as client:
        begin(client)
        assert ask(client, "carol@example.test")[0] == 550
        replace(listed.users, ["carol", "dave"])
        assert listed.log.wait("recipients_loaded", recipients=2, file=str(listed.users))
        listed.wait_metric(lambda m: m.sum("ringpost_recipients_reloads_total", result="ok") == 1,
                           "the reload")
        assert ask(client, "carol@example.test")[0] == 250
        assert ask(client, "ann@example.test")[0] == 550


@pytest.mark.parametrize("lines, error", [
    (["ann", "@example.test"], ":2: '@example.test' would take"),
    ([], "has no recipients"),
    (None, "No such file"),
], ids=["bad-line", "empty", "gone"])
def test_a_file_that_cannot_be_used_changes_nothing(listed, lines, error):
    if lines is None:
        listed.users.unlink()
    else:
        replace(listed.users, lines)
    event = listed.log.wait("recipients_refused")
    assert error in event["error"] and str(listed.users) in event["error"], event
    with listed.connect() as client:
        begin(client)
        assert ask(client, "bob@example.test")[0] == 250
        # A reload with it is refused, too, as one with any other broken file.
        listed.reload()
        assert error in listed.log.wait("config_refused")["error"]
        assert ask(client, "bob@example.test")[0] == 250
    # It heals by itself.
    replace(listed.users, ["carol"])
    listed.wait_metric(lambda m: m.sum("ringpost_recipients_listed") == 1, "the good file")
    assert len([e for e in listed.log.events("recipients_refused")
                if e["error"] == event["error"]]) == 1
    with listed.connect() as client:
        begin(client)
        assert ask(client, "carol@example.test")[0] == 250


def test_a_reload_reads_the_file(folder, sink):
    path = folder / "users"
    replace(path, ["ann"])
    changes = domains(str(path), recipients_look="1h")
    with Ringpost(folder / "relay", changes, [{"domain": "*", "to": sink.url}]) as relay:
        replace(path, ["ann", "bob"])
        relay.change({"relay": {"recipient_delimiter": ""}})
        relay.reload()
        relay.log.wait("config_loaded", file=str(relay.config_path))
        with relay.connect() as client:
            begin(client)
            assert ask(client, "bob@example.test")[0] == 250
            assert ask(client, "bob+x@example.test")[0] == 550


@pytest.mark.parametrize("lines, parts", [
    (["ann", "bob@"], (":2: 'bob@' is no address", "write one such as")),
    (None, ("No such file", "name a file that the relay's user can read")),
], ids=["bad-line", "missing"])
def test_a_start_with_a_bad_file_is_refused(folder, lines, parts):
    path = folder / "users"
    if lines is not None:
        replace(path, lines)
    relay = Ringpost(folder / "relay", domains(str(path)))
    for arguments in (("--check-config",), ()):
        done = relay.run(*arguments)
        assert done.returncode == EXIT_CONFIG, done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        for part in (str(path), *parts):
            assert part in done.stderr, done.stderr


def test_domains_that_take_all_are_warned_of(folder, sink):
    routes = [{"domain": "*", "to": sink.url}, {"domain": "away.test", "to": "discard"}]
    config = {"relay": {"domains": [{"name": "away.test"}, {"name": "a.test"},
                                    {"name": "b.test", "recipients": "any"}]}}
    with Ringpost(folder / "relay", config, routes) as relay:
        event = relay.log.wait("recipients_any")
        assert (event["level"], event["domains"], event["domain"]) == ("warning", 2, "a.test")


def test_files_change_under_load(folder, sink):
    """Who stands in every version of the file is never refused, however often it changes."""
    path = folder / "users"
    replace(path, ["always"] + [f"u{n}" for n in range(20000)])
    ended = threading.Event()
    refused, asked = [], [0] * 4

    def client_of(relay, number):
        while not ended.is_set():
            with relay.connect() as client:
                begin(client)
                for _ in range(200):
                    reply = ask(client, "always@example.test")
                    asked[number] += 1
                    if reply[0] != 250:
                        refused.append(reply)
                        return
                client.command("RSET")

    config = {**domains(str(path)), "limits": {"connection_rate_per_client": 0}}
    with Ringpost(folder / "relay", config, [{"domain": "*", "to": sink.url}]) as relay:
        clients = [threading.Thread(target=client_of, args=(relay, n)) for n in range(4)]
        for client in clients:
            client.start()
        try:
            for count in range(1, 6):
                replace(path, ["always"] + [f"u{n}" for n in range(20000 + count)])
                relay.reload() if count % 2 else None
                relay.log.wait("recipients_loaded", recipients=20001 + count)
        finally:
            ended.set()
            for client in clients:
                client.join()
        assert not refused and min(asked) > 0, (refused, asked)
        relay.wait_metric(lambda m: m.sum("ringpost_recipients_listed") == 20006, "the last one")


def test_a_million_recipients(folder, sink):
    """Time and memory are shown, not judged."""
    path = folder / "users"
    with open(path, "w", encoding="ascii") as out:
        out.writelines(f"first.last{n}@example.test\n" for n in range(1000000))
    with Ringpost(folder / "relay", domains(str(path)), [{"domain": "*", "to": sink.url}]) as relay:
        event = relay.log.wait("recipients_loaded", recipients=1000000)
        resident = relay.metrics().sum("ringpost_process_resident_memory_bytes")
        print(f"a million of {os.stat(path).st_size} bytes: {event['duration']} s, "
              f"{event['bytes']} bytes, resident {resident:.0f}")
        with relay.connect() as client:
            begin(client)
            for n in (0, 1, 499999, 999999):
                assert ask(client, f"First.Last{n}@example.test")[0] == 250
            assert ask(client, "first.last1000000@example.test")[0] == 550
