# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments under load, with a real disk and real sockets: nothing that got a 250
is lost, and a mail arrives twice only where its outcome could not be durable yet.

RINGPOST_KILL_ROUNDS rounds (3), RINGPOST_KILL_SEED (printed; random by default)."""
import os
import pathlib
import random
import select
import subprocess
import sys
import time

import ports
from daemon import Lines, Ringpost, terminate
from kill.account import Kill, account, read_arrivals, read_facts
from watch import Watch

HERE = pathlib.Path(__file__).parent
ROUNDS = int(os.environ.get("RINGPOST_KILL_ROUNDS", "3"))


def start_python(script, *arguments, **pipes):
    return subprocess.Popen([sys.executable, str(script), *map(str, arguments)],
                            stdout=subprocess.PIPE, text=True, **pipes)


def longest_commit_s(relay, seen):
    """The longest commit that the log tells of, in events after the first `seen`."""
    events = relay.log.events()
    commits = [e["commit"] for e in events[seen:] if e.get("event") == "received"]
    return max(commits, default=0.0), len(events)


def kill_in_the_middle(relay, progress, randomly, accepted):
    """Kills after a random number of further mails, at a random point between two of them."""
    goal = accepted + randomly.randrange(100, 2000)
    count = int(progress.wait_for(lambda line: int(line) >= goal, 120, f"{goal} accepted mails"))
    never = select.poll()
    never.poll(randomly.random() * 20)  # 0 to 20 ms: the moment itself is what is random here
    return relay.kill(), count


def tell(load, word):
    load.stdin.write(word + "\n")
    load.stdin.flush()


def wait_until_all_arrived(folder, timeout_s):
    promised = set(read_facts(folder / "facts")["accepted"])
    watch = Watch(folder)
    try:
        watch.wait_for(lambda: promised <= set(read_arrivals(folder / "arrivals")), timeout_s,
                       "every accepted mail at the sink")
    except AssertionError:
        pass  # the account says which
    finally:
        watch.close()


def test_nothing_accepted_is_lost(folder):
    seed = int(os.environ.get("RINGPOST_KILL_SEED", random.randrange(1 << 31)))
    print(f"seed {seed}, rounds {ROUNDS}")
    randomly = random.Random(seed)
    sink_port = ports.free_port()
    records = folder / "records"
    records.mkdir()
    sink = start_python(HERE.parent / "sink.py", "--address", ports.address(), "--port",
                        sink_port, "--log", records / "arrivals")
    Lines(sink.stdout).wait_for(lambda line: line == "listening\n", 30, "sink")
    relay = Ringpost(folder / "relay", routes=[
        {"domain": "*", "to": f"smtp://{ports.address()}:{sink_port}"}]).start()
    load = start_python(HERE / "load.py", "--host", relay.host, "--port", relay.port, "--log",
                        records / "facts", "--seed", seed, stdin=subprocess.PIPE)
    progress, kills, accepted, seen = Lines(load.stdout), [], 0, 0
    doubtful = []  # recipients that each start counted as possible duplicates
    try:
        for _ in range(ROUNDS):
            tell(load, "up")
            at_ns, accepted = kill_in_the_middle(relay, progress, randomly, accepted)
            commit_s, seen = longest_commit_s(relay, seen)
            kills.append(Kill(at_ns, time.monotonic_ns(), commit_s))
            relay.start(timeout_s=60)
            doubtful.append(int(relay.metrics().sum("ringpost_duplicates_possible_total",
                                                    cause="owner_died")))
        tell(load, "up")
        tell(load, "stop")
        assert load.wait(60) == 0
        wait_until_all_arrived(records, 120)
        relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == 0, "an empty queue", 60)
        relay.stop()
    finally:
        for process in (load, relay.process, sink):
            terminate(process)
        relay.log.close()
    found = account(read_facts(records / "facts"), read_arrivals(records / "arrivals"), kills)
    print(found.show())
    print("longest commit by round, ms:", [round(k.longest_commit_s * 1000, 1) for k in kills])
    assert found.lost == []
    assert found.unexplained == []
    print(f"{len(found.duplicates)} duplicates, at most {doubtful} were counted as possible")
    assert len(found.duplicates) <= sum(doubtful)
    assert found.accepted > 100 * ROUNDS
