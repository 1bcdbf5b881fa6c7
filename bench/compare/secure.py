#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What TLS and passwords cost, on one machine with the generator.

    secure.py kept       mails over kept TLS 1.3 connections against plain ones, alternating
    secure.py connect    new TLS 1.3 connections a second, full handshakes, ECDSA
    secure.py idle       memory of an idle TLS session
    secure.py beside     latency of plain sessions beside handshakes and wrong passwords (root)

Each starts the release build of ringpostd. What is required is at the top of each function; the
exit status is 1 where it is missed. --out keeps the results.
"""
import argparse
import os
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import harness
from endure import bench, read, tell
from pairs import compare
from relays.ringpost import Ringpost

ROOT = pathlib.Path(__file__).resolve().parents[2]
USER, PASSWORD = "ann@relay.test", "correct horse battery staple"

LISTENERS = """listeners:
  - {{ address: "{address}", role: relay, tls: none }}
  - {{ address: "{secure}", role: relay, tls: implicit }}
  - {{ address: "{submission}", role: submission, tls: implicit }}
tls:
  certificates: [{{ chain: {folder}/cert.pem, key: {folder}/key.pem }}]
users: {{ file: {folder}/users }}
lockout: {{ exempt: [127.0.0.0/8], user_failures: 0, delay: 0s }}
"""


class SecureRingpost(Ringpost):
    """The same with a certificate, two more listeners and a user.

    It runs in the generator's session. Where the kernel groups by session (sched_autogroup), each
    session has its share of the processors first, and only within it does priority count: the
    relay's helpers, which are to run where nobody else wants to, would take a processor from the
    generator, in a session of its own, as if they were of its rank, and the latency that it
    measures would be its own. Where clients are on other machines there is no such other session.
    """

    own_session = False

    def set_up(self):
        super().set_up()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                        "/CN=relay.test", "-addext", "subjectAltName=DNS:relay.test",
                        "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"],
                       check=True, capture_output=True)
        (self.folder / "key.pem").chmod(0o600)
        subprocess.run([ROOT / "build/release/ringpostctl", "user", "add", USER, "--file",
                        self.folder / "users"], check=True, input=PASSWORD + "\n", text=True)
        file = self.folder / "ringpost.yaml"
        old = f'listeners:\n  - {{ address: "{self.address}", role: relay }}\n'
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, LISTENERS.format(
            address=self.address, secure=self.secure, submission=self.submission,
            folder=self.folder)))


def load(relay, file, *arguments):
    subprocess.run(bench(["run", "--sink", f"{relay.sink_host}:{relay.sink_port}", "--relay-pid",
                          relay.root_pid(), "--json", file, *arguments]), check=True)
    return read(file)


def source(file, *arguments):
    subprocess.run(bench(["source", "--json", file, *arguments]), check=True)
    return read(file)


def kept(relay, out, seconds):
    """At least 70 % of the rate of plain connections, 1 KiB; the median of five rounds decides,
    plain and TLS in alternation."""
    ways = {"plain": ("none", relay.address), "over TLS": ("implicit", relay.secure)}
    good = True
    for mode in ("pipelined", "lockstep"):
        def run(name, n, mode=mode):
            what, address = ways[name]
            return load(relay, out / f"{mode}-{what}-{n}.json", "--relay", address, "--tls", what,
                        "--mode", mode, "--seconds", f"{seconds or 5}s", "--baseline", "0s",
                        "--connections", 50, "--label", f"tls {what}", "--scenario",
                        f"1 KiB, {mode}")
        good &= compare(list(ways), run, 5, mode, 0.70)
    return good


def cpu_s(pid):
    """What a process has used so far, all of its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(relay, patience_s=60):
    """Until a fresh spool has written its segments: that is a cost of the start and not of what is
    measured."""
    before, deadline = -1, time.monotonic() + patience_s
    while time.monotonic() < deadline:
        blocks = sum(path.stat().st_blocks for path in (relay.folder / "spool").rglob("*"))
        if blocks == before:
            return
        before = blocks
        time.sleep(1)  # nothing tells when it is done


def connect(relay, out, seconds):
    """1500 a second, with the client on the same cores, on two threads: it takes more of them than
    the relay does."""
    source(out / "warm.json", "--relay", relay.secure, "--tls", "implicit", "--mode", "connect",
           "--seconds", "1s")
    settle(relay)
    used = -cpu_s(relay.root_pid())
    result = source(out / "connect.json", "--relay", relay.secure, "--tls", "implicit", "--mode",
                    "connect", "--connections", 32, "--source-threads", 2, "--seconds",
                    f"{seconds or 10}s")
    made = result["totals"]["mails_accepted"]
    rate = made / result["time"]["offer_s"]
    used += cpu_s(relay.root_pid())
    print(f"{result['totals']['connections']} connections, "
          f"{result['totals']['connection_errors']} errors; CPU time of one: client "
          f"{1e6 * result['load']['source_cpu_s'] / made:.0f} us, relay {1e6 * used / made:.0f} us")
    return tell("new TLS connections", f"{rate:.0f}/s", "at least 1500/s", rate >= 1500)


def pss_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise ValueError("no Pss")


def open_sessions(relay, count):
    host, port = relay.secure.rsplit(":", 1)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sessions = []
    for _ in range(count):
        s = context.wrap_socket(socket.create_connection((host, int(port))))
        assert s.recv(512).startswith(b"220")
        s.sendall(b"EHLO me\r\n")
        assert s.recv(2048).startswith(b"250")
        sessions.append(s)
    return sessions


def idle(relay, _out, _seconds):
    """At most 24 KiB of PSS a session, over 2000 of them beyond the first 200."""
    kept_open = open_sessions(relay, 200)
    before = pss_bytes(relay.root_pid())
    kept_open += open_sessions(relay, 2000)
    each = (pss_bytes(relay.root_pid()) - before) / 2000 / 1024
    for s in kept_open:
        s.close()
    return tell("an idle TLS session", f"{each:.1f} KiB", "at most 24 KiB", each <= 24)


# Who measures waits for nobody; who only makes noise has what is left. Elsewhere each of them is on
# a machine of its own, and only the relay's work is the relay's.
MEASURING = ["chrt", "--fifo", "10"]
NOISE = ["chrt", "--idle", "0"]


def plain(relay, file, seconds):
    """The latency of the reply to the end of data of plain sessions, 1000 mails a second."""
    subprocess.run(MEASURING + bench(
        ["run", "--sink", f"{relay.sink_host}:{relay.sink_port}", "--relay-pid", relay.root_pid(),
         "--json", file, "--relay", relay.address, "--mode", "lockstep", "--rate", 1000,
         "--seconds", f"{seconds}s", "--baseline", "0s"]), check=True, stdout=subprocess.DEVNULL)
    return read(file)["latency_us"]["accept"]


def beside(relay, out, seconds):
    """p99 of plain sessions beside 500 handshakes and 200 wrong passwords a second: at most twice
    what it is alone. Alone and beside in alternation; the medians of seven rounds decide."""
    password = relay.folder / "wrong"
    password.write_text("not the password\n")
    noise = [("handshakes", "accepted", ["--relay", relay.secure, "--mode", "connect", "--rate",
                                         500]),
             ("wrong passwords", "refused", ["--relay", relay.submission, "--mode", "login",
                                             "--rate", 200, "--login", f"{USER}:{password}"])]
    seconds = seconds or 10
    plain(relay, out / "warm.json", seconds)
    settle(relay)
    alone, together = [], []
    for number in range(7):
        alone.append(plain(relay, out / f"alone-{number}.json", seconds))
        others = [subprocess.Popen(NOISE + bench(
            ["source", "--tls", "implicit", "--connections", 50, "--seconds", f"{seconds + 3}s",
             "--json", out / f"{name}-{number}.json", *more]), stdout=subprocess.DEVNULL)
            for name, _, more in noise]
        together.append(plain(relay, out / f"beside-{number}.json", seconds))
        for process in others:
            process.wait()
        rates = []
        for name, what, _ in noise:
            made = read(out / f"{name}-{number}.json")
            rate = made["totals"][f"mails_{what}"] / made["time"]["offer_s"]
            rates.append(f"{rate:.0f} {name}/s")
        print(f"p50 and p99 alone {alone[-1]['p50'] / 1000:.2f} and {alone[-1]['p99'] / 1000:.2f}"
              f", beside {together[-1]['p50'] / 1000:.2f} and {together[-1]['p99'] / 1000:.2f} ms"
              f"; {' and '.join(rates)}", flush=True)
    p99 = [statistics.median(one["p99"] for one in rounds) / 1000 for rounds in (alone, together)]
    return tell("p99 of the 250", f"{p99[1]:.2f} ms, alone {p99[0]:.2f} ms", "at most 2 x",
                p99[1] <= 2 * p99[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["kept", "connect", "idle", "beside"])
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--out", default=None, help="folder for the results")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out or tempfile.mkdtemp(prefix="ringpost-secure."))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringpost-secure.", dir="/var/tmp") as folder:
        address = harness.address()
        relay = SecureRingpost(pathlib.Path(folder) / "ringpostd", (address, harness.free_port()))
        relay.secure = f"{address}:{harness.free_port()}"
        relay.submission = f"{address}:{harness.free_port()}"
        with relay.running():
            good = globals()[arguments.what](relay, out, arguments.seconds)
    print(f"results in {out}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
