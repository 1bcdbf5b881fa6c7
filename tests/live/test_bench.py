# SPDX-License-Identifier: Apache-2.0
"""ringpost-bench: what it says became of the mails, around relays that lie, ringpostd, and alone.

The program is taken from the environment variable RINGPOST_BENCH. A relay that lies is a Sink whose
on_mail forwards as it likes; it is called before the reply to the end of data leaves."""
import collections
import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import threading

import pytest

import corpus
import ports
from authority import Authority
from daemon import Lines, Log, Ringpost, terminate
from sink import EXTENSIONS, Gone, Sink

Run = collections.namedtuple("Run", "status result output errors")
FIELD = re.compile(rb"X-Ringpost-Bench: ([0-9a-f]{8})-([0-9]{10})\r\n")
HERE = os.path.dirname(__file__)


def program():
    path = os.environ.get("RINGPOST_BENCH", "")
    assert path and os.access(path, os.X_OK), "set RINGPOST_BENCH to the path of ringpost-bench"
    return path


def address(host=None):
    host = host or ports.address()
    return f"{host}:{ports.free_port(host)}"


def bench(*arguments, folder=None, timeout_s=120):
    """Runs it to its end. With a folder: with --json there."""
    words = [program(), *map(str, arguments)]
    path = folder / f"result-{len(list(folder.iterdir()))}.json" if folder else None
    if path:
        words[2:2] = ["--json", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s)
    result = json.loads(path.read_text()) if path and path.exists() else None
    print(done.stdout, done.stderr)
    return Run(done.returncode, result, done.stdout, done.stderr)


class Bench:
    """A bench that runs on: `with Bench("sink", ...) as sink: ...`; end() gives its Run."""

    def __init__(self, *arguments, folder):
        self.json = folder / f"running-{len(list(folder.iterdir()))}.json"
        self.words = [program(), arguments[0], "--json", str(self.json), *map(str, arguments[1:])]
        self.run = None

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.errors = Lines(self.process.stderr)
        return self

    def wait_progress(self, what):
        """The next line of progress that begins so: then it is under way."""
        return self.errors.wait_for(lambda line: line.startswith(what), 60, f"progress of {what}")

    def end(self, number=signal.SIGINT):
        if self.run is None:
            status = terminate(self.process, number)
            result = json.loads(self.json.read_text()) if self.json.exists() else None
            self.errors.thread.join(10)
            self.run = Run(status, result, self.process.stdout.read(), "".join(self.errors.seen))
        return self.run

    def __exit__(self, *_):
        if self.process.poll() is None:
            terminate(self.process, signal.SIGKILL)
        self.process.stdout.close()


class Forward:
    """Hands mails on to the bench's sink over one connection."""

    def __init__(self, target):
        self.host, _, port = target.partition(":")
        self.port = int(port)
        self.client = None

    def __call__(self, mail):
        if self.client is None:
            self.client = smtplib.SMTP(self.host, self.port, timeout=30)
        self.client.sendmail(mail.sender, mail.recipients, mail.content)


def run_around(lie, messages, folder, *more):
    """A relay that does `lie(forward, mail)` with each mail; loaded by `run`."""
    target = address()
    forward = Forward(target)
    with Sink(on_mail=lambda mail: lie(forward, mail), keep=False) as relay:
        return bench("run", "--relay", f"{relay.host}:{relay.port}", "--sink", target, "--messages",
                     messages, "--connections", 5, "--baseline", "0s", "--settle", "300ms", *more,
                     folder=folder)


def is_open(where):
    host, _, port = where.partition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        return True
    except OSError:
        return False


# ---- around a relay that lies ----

def test_an_honest_relay(folder):
    run = run_around(lambda forward, mail: forward(mail), 40, folder, "--recipients", 3)
    totals = run.result["totals"]
    assert run.status == 0
    assert totals["mails_accepted"] == 40 and totals["recipients_accepted"] == 120
    assert totals["recipients_delivered"] == 120
    assert (totals["lost"], totals["duplicated"], totals["foreign"]) == (0, 0, 0)
    assert "lost 0" in run.output


def test_mails_that_are_forgotten_are_lost(folder):
    """It says 250 to all and forgets every fourth."""
    count = 0

    def forget(forward, mail):
        nonlocal count
        count += 1
        if count % 4:
            forward(mail)

    run = run_around(forget, 40, folder, "--drain", "500ms")
    assert run.status == 1
    assert run.result["totals"]["mails_accepted"] == 40
    assert run.result["totals"]["lost"] == 10
    assert run.result["totals"]["recipients_delivered"] == 30
    assert "lost 10" in run.output


def test_duplicates_are_counted(folder):
    def twice(forward, mail):
        forward(mail)
        forward(mail)

    run = run_around(twice, 40, folder)
    assert run.status == 0
    assert run.result["totals"]["duplicated"] == 40
    assert run.result["totals"]["recipients_delivered"] == 40
    assert run.result["totals"]["lost"] == 0


def test_duplicates_that_come_behind_the_last_mail_are_counted(folder):
    held = []

    def later(forward, mail):
        held.append(mail)
        forward(mail)
        if len(held) == 40:
            threading.Timer(0.2, lambda: [forward(again) for again in held]).start()

    run = run_around(later, 40, folder, "--settle", "2s")
    assert run.result["totals"]["duplicated"] == 40
    # They do not count as time in which mails were delivered.
    assert run.status == 0 and run.result["totals"]["lost"] == 0


def test_what_was_never_acknowledged_and_arrives(folder):
    """It delivers and drops the connection instead of the 250, every second time."""
    count = 0

    def drop(forward, mail):
        nonlocal count
        count += 1
        forward(mail)
        if count % 2:
            raise Gone

    run = run_around(drop, 40, folder, "--mode", "lockstep")
    totals = run.result["totals"]
    assert run.status == 0
    assert totals["mails_in_doubt"] == totals["unacknowledged_delivered"] == 20
    assert totals["mails_accepted"] == 20 and totals["lost"] == 0
    assert totals["recipients_delivered"] == 40
    assert totals["connection_errors"] == 20
    assert "20 times: the server closed the connection" in run.output


def test_doubtful_arrivals_do_not_make_up_for_what_is_missing(folder):
    """Half are delivered and dropped, the other half accepted and forgotten."""
    count = 0

    def drop(forward, mail):
        nonlocal count
        count += 1
        if count % 2:
            forward(mail)
            raise Gone

    run = run_around(drop, 40, folder, "--mode", "lockstep", "--drain", "300ms")
    totals = run.result["totals"]
    assert run.status == 1
    assert (totals["lost"], totals["unacknowledged_delivered"]) == (20, 20)


def test_mails_of_others_are_foreign(folder):
    def add(forward, mail):
        forward(mail)
        forward(mail._replace(content=b"Subject: of somebody else\r\n\r\nhello\r\n"))

    run = run_around(add, 20, folder)
    assert run.status == 0
    assert run.result["totals"]["foreign"] == 20
    assert run.result["totals"]["duplicated"] == run.result["totals"]["lost"] == 0


def test_refusals_are_no_losses(folder):
    target = address()
    forward = Forward(target)
    faults = {"rcpt": lambda session, to: "550 5.1.1 nobody" if "<r1." in to else None}
    with Sink(on_mail=forward, faults=faults, keep=False) as relay:
        run = bench("run", "--relay", f"{relay.host}:{relay.port}", "--sink", target, "--messages",
                    20, "--connections", 2, "--recipients", 2, "--baseline", "0s", "--settle", "0s",
                    folder=folder)
    totals = run.result["totals"]
    assert run.status == 0
    assert totals["recipients_offered"] == 40
    assert totals["recipients_accepted"] == totals["recipients_delivered"] == 20


# ---- around ringpostd ----

def ringpost(folder, target, scheme="smtp", config=None):
    route = {"domain": "*", "to": f"{scheme}://{target}"}
    return Ringpost(folder / "relay", config, routes=[route])


def around_ringpost(relay, target, folder, *more):
    return bench("run", "--relay", f"{relay.host}:{relay.port}", "--sink", target, *more, "--",
                 *relay.command(), folder=folder)


@pytest.mark.parametrize("way", [[], ["--mode", "lockstep"], ["--bdat"]])
def test_ringpostd_is_started_loaded_measured_and_ended(way, folder):
    target = address()
    relay = ringpost(folder, target)
    run = around_ringpost(relay, target, folder, "--messages", 500, "--recipients", 2,
                          "--baseline", "200ms", "--interval", "100ms",
                          "--size", "1KiB:90,50KiB..100KiB:10", *way)
    result = run.result
    totals = result["totals"]
    assert run.status == 0
    assert totals["recipients_accepted"] == totals["recipients_delivered"] == 1000
    assert (totals["lost"], totals["duplicated"], totals["foreign"]) == (0, 0, 0)
    assert totals["unacknowledged_delivered"] == totals["connection_errors"] == 0
    assert [p["name"] for p in result["relay"]["processes"]] == ["ringpostd"]
    assert result["relay"]["user_s"] + result["relay"]["system_s"] > 0
    assert result["relay"]["pss_peak_bytes"] > 1 << 20
    assert result["latency_us"]["accept"]["count"] == 500
    assert result["latency_us"]["end_to_end"]["count"] == 1000
    assert result["rate"]["without_relay_before_per_s"] > 0
    assert result["rate"]["without_relay_after_per_s"] > 0
    assert len(result["series"]["t_s"]) > 0
    assert sum(result["series"]["delivered"]) > 0
    assert not is_open(f"{relay.host}:{relay.port}")
    assert '"event":"stop"' in relay.log_path.read_text().replace(" ", "")


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
def test_senders_of_many_domains_behind_a_proxy(client, folder):
    with Sink() as sink:
        relay = ringpost(folder, f"{sink.host}:{sink.port}",
                         config={"relay": {"domains": [{"name": "x.test", "recipients": "any"}]}})
        relay.config["listeners"][0].update(proxy_from=["127.0.0.0/8"], spf={"enabled": False})
        relay.write_config()
        told = f"[{client}]:4000" if ":" in client else f"{client}:4000"
        with relay:
            run = bench("source", "--relay", f"{relay.host}:{relay.port}", "--proxy", told,
                        "--from", "a@b.test", "--from-domains", 7, "--domain", "x.test",
                        "--messages", 50, folder=folder)
            senders = collections.Counter(m.sender for m in sink.wait(50))
            for _ in range(50):
                relay.log.wait("received", peer=told)
        assert run.status == 0
        assert senders == {f"a@d{n}.b.test": 8 if n == 0 else 7 for n in range(7)}


@pytest.mark.parametrize("fault", ["20%:defer", "20%:defer-data", "10%:drop=mail", "10%:drop=rcpt",
                                   "10%:drop=data", "10%:drop=body", "10%:drop=end",
                                   "10%:close=end", "30%:drop=connect", "30%:close=hello",
                                   "10%:late=300ms"])
def test_ringpostd_loses_nothing_to_a_faulty_sink(fault, folder):
    target = address()
    run = around_ringpost(ringpost(folder, target), target, folder, "--messages", 200, "--baseline",
                          "0s", "--fault", fault)
    totals = run.result["totals"]
    assert run.status == 0, run.output
    assert totals["recipients_accepted"] == totals["recipients_delivered"] == 200
    assert totals["lost"] == 0
    # A reset may take the reply to the mail in front with it, whose next envelope is out already.
    assert totals["duplicated"] == 0 or "drop=" in fault


def test_ringpostd_delivers_twice_only_what_got_no_reply(folder):
    target = address()
    run = around_ringpost(ringpost(folder, target), target, folder, "--messages", 200, "--baseline",
                          "0s", "--settle", "5s", "--fault", "10%:drop=reply")
    totals = run.result["totals"]
    assert run.status == 0, run.output
    assert totals["recipients_delivered"] == 200 and totals["lost"] == 0
    assert totals["duplicated"] > 0


def test_refused_for_good_is_lost_to_the_bench(folder):
    """Without bounces nobody hears of it; the bench says so."""
    target = address()
    run = around_ringpost(ringpost(folder, target), target, folder, "--messages", 50, "--baseline",
                          "0s", "--drain", "3s", "--recipients", 2, "--fault", "r1.*:refuse")
    totals = run.result["totals"]
    assert run.status == 1
    assert totals["recipients_accepted"] == 100
    assert totals["lost"] == totals["recipients_delivered"] == 50


def test_a_stalled_sink_is_given_up_and_tried_again(folder):
    target = address()
    relay = ringpost(folder, target, config={"timeouts": {"send": {"mail": "1s"}}})
    run = around_ringpost(relay, target, folder, "--messages", 50, "--baseline", "0s", "--fault",
                          "10%:stall=mail")
    assert run.status == 0, run.output
    assert run.result["totals"]["recipients_delivered"] == 50
    assert run.result["totals"]["duplicated"] == 0


def test_an_lmtp_sink_behind_ringpostd(folder):
    target = address()
    run = around_ringpost(ringpost(folder, target, "lmtp"), target, folder, "--sink-lmtp",
                          "--messages", 100, "--recipients", 5, "--baseline", "100ms", "--fault",
                          "10%:defer-data")
    totals = run.result["totals"]
    assert run.status == 0, run.output
    assert totals["recipients_delivered"] == 500
    assert totals["duplicated"] == totals["lost"] == 0


# ---- source and sink as two processes ----

def test_source_and_sink_agree(folder):
    where = address()
    with Bench("sink", "--sink", where, "--interval", "100ms", folder=folder) as sink:
        sink.wait_progress("sink")
        run = bench("source", "--relay", where, "--messages", 300, "--recipients", 2,
                    "--source-threads", 2, folder=folder)
        caught = sink.end()
    assert (run.status, caught.status) == (0, 0)
    assert run.result["totals"]["recipients_accepted"] == 600
    assert caught.result["totals"]["mails_caught"] == 300
    assert caught.result["totals"]["recipients_caught"] == 600
    assert caught.result["totals"]["bytes_caught"] == run.result["totals"]["bytes_offered"]
    assert sum(caught.result["series"]["delivered"]) > 0
    assert "300 mails, 600 recipients" in caught.output


USER, PASSWORD = "ann@relay.test", "correct horse battery staple"


def secure_relay(folder):
    """ringpostd with a certificate and a user, and a file with the user's password."""
    certificate = Authority(folder / "authority").issue("relay.test")
    password = folder / "password"
    password.write_text(PASSWORD + "\n")
    subprocess.run([os.environ["RINGPOSTCTL"], "user", "add", USER, "from=*", "--iterations",
                    "4096", "--file", folder / "users"], input=PASSWORD + "\n", text=True,
                   check=True, capture_output=True)
    host = ports.address()
    addresses = [f"{host}:{ports.free_port(host)}" for _ in range(2)]
    relay = Ringpost(folder / "relay", {
        "listeners": [{"address": where, "role": "submission", "tls": tls}
                      for where, tls in zip(addresses, ("starttls", "implicit"))],
        "tls": {"certificates": [{"chain": str(certificate.chain), "key": str(certificate.key)}]},
        "users": {"file": str(folder / "users")},
        "lockout": {"exempt": ["127.0.0.0/8"], "user_failures": 0, "delay": "0s"},
        "routes": [{"domain": "*", "to": "discard"}],
    })
    relay.addresses = addresses
    return relay, f"{USER}:{password}"


@pytest.mark.parametrize("tls, listener", [("starttls", 0), ("implicit", 1)])
@pytest.mark.parametrize("mode", ["pipelined", "lockstep"])
def test_a_source_uses_tls_and_logs_in(tls, listener, mode, folder):
    relay, login = secure_relay(folder)
    with relay:
        run = bench("source", "--relay", relay.addresses[listener], "--tls", tls, "--login", login,
                    "--from", USER, "--mode", mode, "--messages", 200, "--connections", 4,
                    "--size", "1KiB..100KiB", folder=folder)
        assert run.status == 0 and run.result["totals"]["mails_accepted"] == 200
        received = relay.log.wait("received")
        assert received["user"] == USER and received["tls"] == "TLSv1.3"


def test_logins_and_connections_are_loads_of_their_own(folder):
    relay, login = secure_relay(folder)
    wrong = folder / "wrong"
    wrong.write_text("wrong\n")
    with relay:
        where = ["--relay", relay.addresses[1], "--tls", "implicit", "--messages", 20,
                 "--connections", 2]
        good = bench("source", *where, "--mode", "login", "--login", login, folder=folder)
        assert good.result["totals"]["mails_accepted"] == 20
        bad = bench("source", *where, "--mode", "login", "--login", f"{USER}:{wrong}",
                    folder=folder)
        assert bad.result["totals"]["mails_refused"] == 20
        assert "535" in bad.output
        made = bench("source", *where, "--mode", "connect", folder=folder)
        assert made.result["totals"]["mails_accepted"] == 20
        assert made.result["totals"]["connections"] >= 20


def test_source_speaks_lmtp_to_a_unix_socket(folder):
    where = f"unix:{folder}/lmtp"
    with Bench("sink", "--sink", where, "--lmtp", "--fault", "r2.*:defer-data", "--interval",
               "100ms", folder=folder) as sink:
        sink.wait_progress("sink")
        run = bench("source", "--relay", where, "--lmtp", "--messages", 100, "--recipients", 3,
                    folder=folder)
        caught = sink.end(signal.SIGTERM)
    assert run.result["totals"]["mails_accepted"] == 100
    assert run.result["totals"]["recipients_accepted"] == 200
    assert caught.result["totals"]["recipients_caught"] == 200


def test_a_source_gives_up_a_server_that_stalls(folder):
    where = address()
    with Bench("sink", "--sink", where, "--fault", "100%:stall=end", "--interval", "100ms",
               folder=folder) as sink:
        sink.wait_progress("sink")
        run = bench("source", "--relay", where, "--seconds", "300ms", "--timeout", "200ms",
                    "--connections", 3, "--mode", "lockstep", folder=folder)
    assert run.result["totals"]["mails_accepted"] == 0
    assert run.result["totals"]["mails_in_doubt"] == run.result["totals"]["mails_offered"] > 0
    assert "times: no reply in time" in run.output


def test_an_open_loop_keeps_its_rate(folder):
    where = address()
    with Bench("sink", "--sink", where, "--interval", "100ms", folder=folder) as sink:
        sink.wait_progress("sink")
        run = bench("source", "--relay", where, "--rate", 300, "--seconds", "2s", folder=folder)
    totals = run.result["totals"]
    assert run.status == 0
    assert 599 <= totals["mails_offered"] + totals["mails_not_offered"] <= 602
    assert totals["mails_accepted"] == totals["mails_offered"] > 300


def test_an_open_loop_counts_from_when_mails_were_due(folder):
    """One connection; the 78th mail is held up for a second, and all that become due meanwhile are
    late, although each of them is answered at once when its turn comes."""
    where = address()
    with Bench("sink", "--sink", where, "--fault", "*.user77@*:late=1s@end", "--interval", "100ms",
               folder=folder) as sink:
        sink.wait_progress("sink")
        run = bench("source", "--relay", where, "--rate", 200, "--messages", 400,
                    "--connections", 1, "--mode", "lockstep", folder=folder)
    accept = run.result["latency_us"]["accept"]
    assert run.status == 0 and accept["count"] == 400
    assert accept["max"] >= 990_000
    late = sum(count for bound, count in accept["buckets"] if bound > 500_000)
    assert late >= 100, accept


@pytest.mark.parametrize("way", [[], ["--bdat"], ["--mode", "lockstep"]])
def test_a_corpus_arrives_byte_for_byte(way, folder):
    mails = folder / "mails"
    mails.mkdir()
    cases = [case for case in corpus.small_cases() if case.content]
    for case in cases:
        (mails / case.name).write_bytes(case.content)
    (mails / "lf-only").write_bytes(b"Subject: lf\n\n.\n..\nno final newline")
    (mails / "inner").mkdir()
    expected = {case.expected: case.name for case in cases}
    expected[b"Subject: lf\r\n\r\n.\r\n..\r\nno final newline\r\n"] = "lf-only"
    with Sink() as sink:
        run = bench("source", "--relay", f"{sink.host}:{sink.port}", "--corpus", mails,
                    "--messages", 400, "--connections", 4, *way, folder=folder)
        arrived = sink.wait(400)
    assert run.status == 0 and run.result["totals"]["mails_accepted"] == 400
    assert run.result["totals"]["bytes_offered"] == sum(len(m.content) for m in arrived)
    seen, tags, numbers = set(), set(), set()
    for mail in arrived:
        field = FIELD.match(mail.content)
        assert field, mail.content[:100]
        tags.add(field[1])
        numbers.add(int(field[2]))
        content = mail.content[field.end():]
        assert content in expected, content[:200]
        seen.add(expected[content])
    assert seen == set(expected.values())
    assert len(tags) == 1 and numbers == set(range(400))
    verbs = {line.split(" ")[0] for session in sink.sessions for _, line in session.commands}
    assert ("BDAT" in verbs) == (way == ["--bdat"])


def test_sizes_and_domains_are_those_asked_for(folder):
    with Sink() as sink:
        run = bench("source", "--relay", f"{sink.host}:{sink.port}", "--size", "2KiB..4KiB",
                    "--messages", 300, "--domains", 3, "--zipf", 1, "--domain", "x.test", "--from",
                    "a@b.test", "--hello", "me.test", folder=folder)
        arrived = sink.wait(300)
    assert run.status == 0
    assert all(2047 <= len(m.content) <= 4096 for m in arrived)
    assert {m.sender for m in arrived} == {"a@b.test"}
    assert {m.helo for m in arrived} == {"me.test"}
    domains = collections.Counter(m.recipients[0].split("@")[1] for m in arrived)
    assert set(domains) == {"d0.x.test", "d1.x.test", "d2.x.test"}
    assert domains["d0.x.test"] > domains["d2.x.test"]


def test_a_server_without_pipelining_is_not_talked_over(folder):
    extensions = tuple(e for e in EXTENSIONS if e != "PIPELINING")
    with Sink(extensions=extensions) as sink:
        where = f"{sink.host}:{sink.port}"
        run = bench("source", "--relay", where, "--messages", 50, folder=folder)
        assert len(sink.wait(50)) == 50
    assert run.status == 0


# ---- interruptions and ends ----

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_a_run_with_a_summary(number, folder):
    target = address()
    forward = Forward(target)
    with Sink(on_mail=forward, keep=False) as relay, \
            Bench("run", "--relay", f"{relay.host}:{relay.port}", "--sink", target, "--seconds",
                  "10m", "--connections", 3, "--interval", "50ms", "--baseline", "0s",
                  folder=folder) as running:
        running.wait_progress("run")
        run = running.end(number)
    totals = run.result["totals"]
    assert run.status == 0
    assert totals["mails_offered"] > 0 and totals["lost"] == 0
    assert totals["mails_offered"] == totals["mails_accepted"] == totals["recipients_delivered"]
    assert "offered" in run.output and "lost 0" in run.output


def test_an_interrupt_before_the_load_ends_it_there(folder):
    with Bench("run", "--relay", address(), "--sink", address(), "--seconds", "1s", "--baseline",
               "10m", "--interval", "50ms", folder=folder) as running:
        running.wait_progress("before")
        run = running.end()
    assert run.status == 1 and run.result is None
    assert "interrupted before the relay was loaded" in run.errors


def test_a_second_interrupt_ends_the_waiting(folder):
    """The relay forgets all; nobody wants to wait for ten minutes."""
    with Sink(on_mail=lambda mail: None, keep=False) as relay, \
            Bench("run", "--relay", f"{relay.host}:{relay.port}", "--sink", address(), "--messages",
                  10, "--interval", "50ms", "--baseline", "0s", "--drain", "10m",
                  folder=folder) as running:
        running.wait_progress("run")
        running.process.send_signal(signal.SIGINT)
        running.wait_progress("run")
        run = running.end()
    assert run.status == 1
    assert run.result["totals"]["lost"] == run.result["totals"]["mails_accepted"]


DYING_RELAY = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
import sink
count = 0
def on_mail(mail):
    global count
    count += 1
    if count == 10:
        os._exit(3)
sink.Sink(host=sys.argv[2], port=int(sys.argv[3]), on_mail=on_mail, keep=False).start()
threading.Event().wait()
"""


def test_a_relay_that_dies_under_the_load_is_told(folder):
    host, _, port = address().partition(":")
    run = bench("run", "--relay", f"{host}:{port}", "--sink", address(), "--messages", 1000,
                "--interval", "50ms", "--baseline", "0s", "--", sys.executable, "-B", "-c",
                DYING_RELAY, HERE, host, port, folder=folder)
    assert run.status == 1
    assert "the relay has ended under the load" in run.errors
    assert run.result["totals"]["lost"] == run.result["totals"]["mails_accepted"] > 0


def test_what_a_script_leaves_behind_is_ended_too(folder):
    target = address()
    relay = ringpost(folder, target)
    script = '"$0" "$@" & wait'
    run = bench("run", "--relay", f"{relay.host}:{relay.port}", "--sink", target, "--messages", 10,
                "--baseline", "0s", "--settle", "0s", "--", "sh", "-c", script, *relay.command(),
                folder=folder)
    assert run.status == 0
    names = {p["name"] for p in run.result["relay"]["processes"]}
    assert names == {"sh", "ringpostd"}
    log = Log(relay.log_path)
    log.wait("stop")
    log.close()


# ---- what cannot begin ----

def test_a_command_that_does_not_exist(folder):
    run = bench("run", "--relay", address(), "--sink", address(), "--messages", 1, "--baseline",
                "0s", "--", "/nowhere/relay", folder=folder)
    assert run.status == 1
    assert "/nowhere/relay: No such file or directory" in run.errors
    assert "has ended instead of greeting" in run.errors


def test_somebody_else_at_the_address(folder):
    with Sink() as other:
        run = bench("run", "--relay", f"{other.host}:{other.port}", "--sink", address(),
                    "--messages", 1, "--baseline", "0s", "--", "true", folder=folder)
    assert run.status == 1
    assert "something listens already" in run.errors


def test_a_sink_address_that_is_taken(folder):
    with Sink() as other:
        run = bench("sink", "--sink", f"{other.host}:{other.port}", folder=folder)
    assert run.status == 1
    assert "cannot listen on" in run.errors


def test_a_result_that_cannot_be_written_is_told_before_the_load(folder):
    run = bench("run", "--relay", address(), "--sink", address(), "--messages", 1, "--json",
                "/nowhere/x.json", timeout_s=20)
    assert run.status == 1
    assert "--json /nowhere/x.json: No such file or directory" in run.errors


@pytest.mark.parametrize("words, text", [
    (["--fault", "often:drop"], "'drop' lacks its argument; write drop=PHASE"),
    (["--without", "TLS"], "--without 'TLS': the sink offers no such keyword"),
])
def test_what_the_sink_cannot_do_is_told(words, text, folder):
    run = bench("sink", "--sink", address(), *words, folder=folder)
    assert run.status == 2
    assert text in run.errors


@pytest.mark.parametrize("words, text", [
    (["--size", "1B"], "--size '1B' is not understood"),
    (["--corpus", "/nowhere"], "--corpus /nowhere: No such file or directory"),
    (["--from", "x", "--from-domains", 2], "--from-domains: --from 'x' must be name@domain"),
    (["--proxy", "unix:/x"], "--proxy: write an IP address with a port"),
    (["--mode", "fast"], "--mode 'fast': write pipelined, lockstep, login or connect"),
])
def test_what_the_source_cannot_do_is_told(words, text, folder):
    run = bench("source", "--relay", address(), "--messages", 1, *words, folder=folder)
    assert run.status == 2
    assert text in run.errors


# ---- results ----

def test_results_conform_to_what_the_report_reads(folder):
    target = address()
    forward = Forward(target)
    results = folder / "results"
    results.mkdir()
    with Sink(on_mail=forward, keep=False) as relay:
        where = f"{relay.host}:{relay.port}"
        for number in range(2):
            run = bench("run", "--relay", where, "--sink", target, "--messages", 20, "--label",
                        f"relay <{number}>", "--scenario", "tiny", "--baseline", "100ms",
                        "--settle", "0s", "--relay-pid", os.getpid(), "--json",
                        results / f"run{number}.json")
            assert run.status == 0
            forward.client = None
    with Bench("sink", "--sink", target, "--interval", "50ms", folder=folder) as sink:
        sink.wait_progress("sink")
        assert bench("source", "--relay", target, "--messages", 20, "--json",
                     results / "source.json").status == 0
        sink.end()
    page = folder / "page.html"
    run = bench("report", "--out", page, *sorted(results.iterdir()), sink.json)
    assert run.status == 0, run.errors
    assert page.stat().st_size > 10000
    run = json.loads((results / "run0.json").read_text())
    assert run["ringpost_bench"] == 1 and run["scenario"] == "tiny"
    lengths = {len(v) for k, v in run["series"].items() if k != "interval_s"}
    assert len(lengths) == 1
