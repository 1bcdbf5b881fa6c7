# SPDX-License-Identifier: Apache-2.0
"""The kill test's own teeth: the account sees what is lost or doubled, and the load client tells
the truth about a server that is killed. The sink stands in for the daemon; it notes a mail before
it says 250, so nothing may be lost between the two."""
import pathlib
import subprocess
import sys

import pytest

import ports
from daemon import Lines, terminate
from kill.account import Kill, account, read_arrivals, read_facts

HERE = pathlib.Path(__file__).parent
MS = 1_000_000


def facts(**kinds):
    return {"accepted": {}, "refused": {}, "broken": {}, **kinds}


def test_a_lost_mail_is_lost():
    found = account(facts(accepted={"a": 1, "b": 2}), {"a": [3]}, [])
    assert found.lost == ["b"]


def test_an_arrival_without_a_250_is_neither_lost_nor_doubled():
    found = account(facts(accepted={"a": 1}, broken={"b": 2}), {"a": [3], "b": [4]}, [])
    assert (found.lost, found.duplicates, found.unacknowledged) == ([], [], ["b"])


@pytest.mark.parametrize("first_ms, second_ms, explained", [
    (950, 1500, True),    # 50 ms before the kill
    (881, 1500, True),    # inside 2 * 10 ms + 100 ms
    (879, 1500, False),   # a millisecond too early: its outcome had time to be durable
    (1100, 1500, True),   # a reply to a process that was dead already
    (1300, 1500, False),  # after the restart: the new process sent it twice by itself
    (950, 990, False),    # twice before the kill
])
def test_a_duplicate_needs_a_kill_right_after_its_first_arrival(first_ms, second_ms, explained):
    kills = [Kill(at_ns=1000 * MS, restarted_ns=1200 * MS, longest_commit_s=0.010)]
    found = account(facts(accepted={"a": 1}), {"a": [second_ms * MS, first_ms * MS]}, kills)
    assert found.duplicates == ["a"]
    assert (found.unexplained == []) == explained


def start_sink(port, folder):
    process = subprocess.Popen(
        [sys.executable, str(HERE.parent / "sink.py"), "--address", ports.address(),
         "--port", str(port), "--log", str(folder / "arrivals")], stdout=subprocess.PIPE, text=True)
    Lines(process.stdout).wait_for(lambda line: line == "listening\n", 30, "sink")
    return process


def test_the_load_client_tells_the_truth_about_a_killed_server(folder):
    port = ports.free_port()
    server = start_sink(port, folder)
    load = subprocess.Popen(
        [sys.executable, str(HERE / "load.py"), "--host", ports.address(), "--port", str(port),
         "--log", str(folder / "facts"), "--connections", "5"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    progress = Lines(load.stdout)
    try:
        for goal in (200, 400):
            load.stdin.write("up\n")
            load.stdin.flush()
            progress.wait_for(lambda line: int(line) >= goal, 60, f"{goal} accepted mails")
            server.kill()
            server.wait()
            server = start_sink(port, folder)
        load.stdin.write("stop\n")
        load.stdin.close()
        assert load.wait(60) == 0
    finally:
        for process in (load, server):
            terminate(process)
    found = account(read_facts(folder / "facts"), read_arrivals(folder / "arrivals"), [])
    print(found.show())
    assert found.accepted >= 400
    assert (found.lost, found.duplicates) == ([], [])
    assert found.broken >= 1, "the kills hit no mail at all: the load was too light"
