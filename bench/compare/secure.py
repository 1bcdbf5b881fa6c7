#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What TLS and passwords cost, on one machine with the generator.

    secure.py kept       mails over kept TLS 1.3 connections against plain ones, alternating
    secure.py connect    new TLS 1.3 connections a second, full handshakes, ECDSA
    secure.py idle       memory of an idle TLS session
    secure.py beside     latency of plain sessions beside handshakes and wrong passwords

Each starts the release build of ringpostd. What is required is at the top of each function; the
exit status is 1 where it is missed. --out keeps the results.
"""
import argparse
import os
import pathlib
import socket
import ssl
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


def beside(relay, out, seconds):
    """p99 of the reply to the end of data of plain sessions: at most twice what it is alone."""
    def plain(name):
        result = load(relay, out / f"{name}.json", "--relay", relay.address, "--mode", "lockstep",
                      "--rate", 1000, "--seconds", f"{seconds or 20}s", "--baseline", "0s")
        return result["latency_us"]["accept"]

    password = relay.folder / "wrong"
    password.write_text("not the password\n")
    plain("warm")
    settle(relay)
    alone = plain("alone")
    others = [subprocess.Popen(bench(["source", "--tls", "implicit", "--connections", 50,
                                      "--seconds", f"{(seconds or 20) + 5}s", *more]),
                               stdout=subprocess.DEVNULL)
              for more in (["--relay", relay.secure, "--mode", "connect", "--rate", 500, "--json",
                            out / "handshakes.json"],
                           ["--relay", relay.submission, "--mode", "login", "--rate", 200,
                            "--login", f"{USER}:{password}", "--json",
                            out / "passwords.json"])]
    together = plain("beside")
    for process in others:
        process.wait()
    handshakes, passwords = read(out / "handshakes.json"), read(out / "passwords.json")
    made = handshakes["totals"]["mails_accepted"] / handshakes["time"]["offer_s"]
    refused = passwords["totals"]["mails_refused"] / passwords["time"]["offer_s"]
    print(f"{made:.0f} handshakes/s and {refused:.0f} refused passwords/s beside")
    return tell("p99 of the 250", f"{together['p99'] / 1000:.2f} ms, alone "
                f"{alone['p99'] / 1000:.2f} ms", "at most 2 x", together["p99"] <= 2 * alone["p99"])


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
