# SPDX-License-Identifier: Apache-2.0
"""A tree of DNS zones below a root of its own, signed or not, served by nsd on loopback.

    with Tree(folder) as tree:
        tree.zone("good.test", "@ MX 10 mx1\\nmx1 A 127.0.0.11")
        tree.zone("plain.test", "@ MX 10 mx1\\nmx1 A 127.0.0.12", signed=False)
        tree.publish()

What asks it needs `tree.forwarder` ("127.70.1.2@5353", as in dns.forwarders), `tree.anchor` (the
file for dns.trust_anchors) and, since everything is below test., `dns.special_zones: [test]`:
`tree.options` has all of it.

A zone may be damaged behind its signing, have signatures of the past, or fail: one that is
configured without a file makes nsd answer SERVFAIL. publish() may be called again after changes;
zones, keys and anchors stay what they are.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import ports
from daemon import terminate

ALGORITHM = "ECDSAP256SHA256"
SERVFAIL, SILENT = 2, "silent"
LONG_AGO = ["-i", "20200101000000", "-e", "20200201000000"]


def program(name):
    unpacked = pathlib.Path(os.environ.get("RINGPOST_PEERS", "/var/tmp/ringpost-test-peers"))
    for path in (unpacked / "usr/sbin" / name, pathlib.Path("/usr/sbin") / name):
        if path.exists():
            return str(path)
    found = shutil.which(name)
    assert found, f"{name} is not installed; run tests/packages.sh"
    return found


class Zone:
    def __init__(self, name, records, signed, damage, expired, fails, ttl, negative_ttl):
        self.name, self.records, self.signed = name, records, signed
        self.damage, self.expired, self.fails, self.ttl = damage, expired, fails, ttl
        self.negative_ttl = negative_ttl
        self.key = None  # the base of its files' names
        self.serial = 0

    @property
    def origin(self):
        return self.name + "."

    @property
    def file(self):
        return (self.name or "root") + ".zone"

    def add(self, line):
        """One more record, as in a zone file; published with the next publish()."""
        self.records += "\n" + line


def damage_all(text):
    """What a damaged zone has changed behind its signing, when nothing else is said: the first
    host's address and the preference of the first MX."""
    lines = []
    for line in text.split("\n"):
        fields = line.split()
        if len(fields) > 4 and fields[3:] == ["A", "127.0.0.11"]:
            line = line.replace("127.0.0.11", "127.0.0.66")
        if len(fields) > 4 and fields[3:5] == ["MX", "10"]:
            line = line.replace("\t10 ", "\t11 ").replace(" 10 ", " 11 ")
        lines.append(line)
    return "\n".join(lines)


class Tree:
    def __init__(self, folder, port=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port = ports.address(), port or ports.free_port()
        self.anchor = self.folder / "anchor.ds"
        self.process = None
        self.zones = {}
        self.zone("", "")
        self.zone("test", f"ns A {self.host}")

    @property
    def forwarder(self):
        return f"{self.host}@{self.port}"

    @property
    def options(self):
        """The group `dns` of a configuration that believes this tree."""
        return {"forwarders": [self.forwarder], "trust_anchors": str(self.anchor),
                "special_zones": ["test"], "hosts_file": "none"}

    def zone(self, name, records, signed=True, damage=None, expired=False, fails=False, ttl=60,
             negative_ttl=30):
        """Adds a zone, or replaces it. damage: True, or a function from the signed text to what is
        served."""
        if damage is True:
            damage = damage_all
        old = self.zones.get(name)
        new = Zone(name, records, signed, damage, expired, fails, ttl, negative_ttl)
        if old:
            new.key, new.serial = old.key, old.serial
        self.zones[name] = new
        return new

    def run(self, *command):
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def parent(self, zone):
        above = [z for z in self.zones.values()
                 if z is not zone and (z.name == "" or zone.name.endswith("." + z.name))]
        return max(above, key=lambda z: len(z.name))

    def delegations(self, zone):
        for child in self.zones.values():
            if child.name == "" or self.parent(child) is not zone:
                continue
            yield f"{child.origin} NS ns.test."
            if child.signed:
                yield (self.folder / f"{child.key}.ds").read_text()
        if zone.name == "":
            yield f"ns.test. A {self.host}"

    def write(self, zone):
        if zone.fails:
            return
        zone.serial += 1
        text = "\n".join([
            f"$ORIGIN {zone.origin}", f"$TTL {zone.ttl}",
            f"@ IN SOA ns.test. hostmaster.test. {zone.serial} 3600 600 86400 "
            f"{zone.negative_ttl}",
            "@ IN NS ns.test.", *self.delegations(zone), zone.records, ""])
        path = self.folder / zone.file
        path.write_text(text)
        if zone.signed:
            times = LONG_AGO if zone.expired else []
            self.run("ldns-signzone", *times, "-f", zone.file + ".signed", zone.file, zone.key)
        else:
            shutil.copy(path, str(path) + ".signed")
        if zone.damage:
            served = pathlib.Path(str(path) + ".signed")
            before = served.read_text()
            after = zone.damage(before)
            assert after != before, f"nothing to damage in {zone.name}"
            served.write_text(after)

    def write_config(self):
        lines = ["server:", f"  ip-address: {self.host}@{self.port}", f"  port: {self.port}",
                 '  username: ""', f'  zonesdir: "{self.folder}"', '  database: ""',
                 f'  pidfile: "{self.folder}/nsd.pid"', '  xfrdfile: ""',
                 f'  zonelistfile: "{self.folder}/zone.list"',
                 f'  logfile: "{self.folder}/nsd.log"', "  server-count: 1",
                 # Its limits would answer tests with silence.
                 "  rrl-ratelimit: 0", "  rrl-whitelist-ratelimit: 0", "  tcp-count: 200",
                 "remote-control:", "  control-enable: no"]
        for zone in self.zones.values():
            lines += ["zone:", f'  name: "{zone.origin}"', f'  zonefile: "{zone.file}.signed"']
        (self.folder / "nsd.conf").write_text("\n".join(lines) + "\n")

    def publish(self):
        """Signs and serves what was added. The first time it also starts nsd; later nsd is started
        anew, which is faster than telling it of zones one by one."""
        for zone in self.zones.values():
            if zone.signed and zone.key is None:
                zone.key = self.run("ldns-keygen", "-a", ALGORITHM, "-k", zone.origin)
        for zone in self.zones.values():
            self.write(zone)
        shutil.copy(self.folder / f"{self.zones[''].key}.ds", self.anchor)
        self.write_config()
        self.stop()
        self.start()

    def start(self):
        config = str(self.folder / "nsd.conf")
        self.process = subprocess.Popen([program("nsd"), "-d", "-c", config], cwd=self.folder,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while not self.answers():
            ended = self.process.poll()
            assert ended is None, f"nsd ended with {ended}: {self.log()}"
            assert time.monotonic() < deadline, f"nsd does not answer: {self.log()}"

    def stop(self):
        if self.process:
            terminate(self.process, signal.SIGTERM)
            self.process = None

    def log(self):
        path = self.folder / "nsd.log"
        return path.read_text() if path.exists() else "(no log)"

    def answers(self):
        """Does it answer for the root? Waits a moment for that."""
        question = b"\0\1\0\0\0\1\0\0\0\0\0\0" + b"\0" + b"\0\6\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.1)
            s.connect((self.host, self.port))
            try:
                s.send(question)
                return len(s.recv(4096)) > len(question)
            except ConnectionRefusedError:
                # Nobody listens yet; the wait is for the process's end, should it come.
                try:
                    self.process.wait(0.02)
                except subprocess.TimeoutExpired:
                    pass
                return False
            except socket.timeout:
                return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Front:
    """A name server in front of another, which it asks over TCP: it remembers the questions, and
    answers some of them as it is told.

        front.faults["_25._tcp.mx1.good.test", "TLSA"] = SERVFAIL      # or SILENT

    With `strips` it is a resolver that does not hand on DNSSEC records. With `vouches` it says of
    what comes from signed zones that it was validated, for who leaves that to it.
    """

    TYPES = {1: "A", 5: "CNAME", 6: "SOA", 15: "MX", 16: "TXT", 28: "AAAA", 43: "DS", 48: "DNSKEY",
             52: "TLSA"}

    def __init__(self, tree, strips=False, vouches=False, port=None):
        self.tree, self.strips, self.vouches = tree, strips, vouches
        self.lock = threading.Condition()
        self.asked = []  # (name, type)
        self.faults = {}
        self.host = ports.address()
        self.port = port or ports.free_port()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((self.host, self.port))
        self.tcp = socket.create_server((self.host, self.port), backlog=128)
        for serve in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    @property
    def forwarder(self):
        return f"{self.host}@{self.port}"

    @property
    def options(self):
        return {**self.tree.options, "forwarders": [self.forwarder]}

    def questions(self, kind):
        """The names that were asked for by this type, in their order."""
        with self.lock:
            return [name for name, asked in self.asked if asked == kind]

    def wait(self, *key, timeout_s=30):
        """Until this (name, type) was asked for."""
        with self.lock:
            found = self.lock.wait_for(lambda: key in self.asked, timeout_s)
        assert found, f"nobody asks for {key}"

    def answer(self, question, tcp):
        """The reply; None for silence."""
        name, at = [], 12
        while question[at]:
            name.append(question[at + 1:at + 1 + question[at]].decode("latin-1").lower())
            at += 1 + question[at]
        number = int.from_bytes(question[at + 1:at + 3], "big")
        key = ".".join(name), self.TYPES.get(number, str(number))
        with self.lock:
            self.asked.append(key)
            self.lock.notify_all()
            fault = self.faults.get(key)
        if fault == SILENT:
            return None
        if fault is not None:
            return question[:2] + bytes([0x81, 0x80 | fault]) + question[4:6] + bytes(6) + \
                question[12:at + 5]
        if self.strips:  # without its additional section, the question does not want them
            question = question[:10] + bytes(2) + question[12:at + 5]
        with socket.create_connection((self.tree.host, self.tree.port), timeout=10) as s:
            s.sendall(len(question).to_bytes(2, "big") + question)
            reply = self.read_frame(s)
        if reply is not None and self.vouches and self.is_signed(key[0]):
            reply = reply[:3] + bytes([reply[3] | 0x20]) + reply[4:]
        if reply is not None and not tcp and len(reply) > 1200:
            reply = reply[:2] + bytes([reply[2] | 2]) + reply[3:4] + question[4:6] + bytes(6) + \
                question[12:at + 5]
        return reply

    def is_signed(self, name):
        """All zones from the root down to the one that the name is in."""
        above = [zone for zone in self.tree.zones.values()
                 if zone.name == "" or f".{name}".endswith(f".{zone.name}")]
        return all(zone.signed for zone in above)

    @staticmethod
    def read_frame(s):
        def read(size):
            data = b""
            while len(data) < size:
                piece = s.recv(size - len(data))
                if not piece:
                    return None
                data += piece
            return data
        head = read(2)
        return head and read(int.from_bytes(head, "big"))

    def reply_udp(self, question, peer):
        try:
            reply = self.answer(question, False)
            if reply is not None:
                self.udp.sendto(reply, peer)
        except OSError:
            pass  # the other one is gone, or we are

    def serve_udp(self):
        while True:
            try:
                question, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if not question:
                return  # closed
            threading.Thread(target=self.reply_udp, args=(question, peer), daemon=True).start()

    def serve_connection(self, connection):
        try:
            with connection:
                while True:
                    question = self.read_frame(connection)
                    reply = question and self.answer(question, True)
                    if not reply:
                        return
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)
        except OSError:
            pass

    def serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_connection, args=(connection,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in (self.udp, self.tcp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # a datagram socket has no peer; its reader is woken all the same
            s.close()


class Silent:
    """A name server that takes every question and answers none."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ports.address(), 0))
        self.host, self.port = self.socket.getsockname()

    @property
    def forwarder(self):
        return f"{self.host}@{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
