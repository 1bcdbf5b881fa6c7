# SPDX-License-Identifier: Apache-2.0
"""Reads the case files of this folder (README.md), and answers DNS questions from their zones."""
import ipaddress
import pathlib
import re
import socket
import socketserver
import struct
import threading

FOLDER = pathlib.Path(__file__).resolve().parent
TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}
SERVFAIL, NXDOMAIN = 2, 3
UDP_MAX = 512


def unescape(text):
    r"""\xHH to bytes."""
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda m: bytes([int(m.group(1), 16)]), text.encode())


def read_strings(data):
    strings = []
    for text, times in re.findall(r'"([^"]*)"(?:\*(\d+))?', data):
        strings.append(unescape(text) * int(times or 1))
    return b"".join(strings)


def wire_name(text):
    r"""A name of a case file, where \DDD is a byte, as labels."""
    labels = []
    for label in re.findall(r"(?:\\\d{3}|[^.])+", text.rstrip(".").lower()):
        labels.append(re.sub(rb"\\(\d{3})", lambda m: bytes([int(m.group(1))]), label.encode()))
    return tuple(labels)


class Zone:
    def __init__(self):
        self.rows = []  # (labels, type or None, data or the word of what goes wrong, ttl)

    def add(self, line):
        words = line.split(None, 1)
        name, rest, ttl = wire_name(words[0]), words[1].strip(), 300
        while True:
            first, _, tail = rest.partition(" ")
            if first.isdigit():
                ttl = int(first)
            elif first != "secure":
                break
            rest = tail.strip()
        if first in TYPES:
            kind, data = first, tail.strip()
        else:
            kind, data = None, rest
        if data in ("fails", "is bogus"):
            data = None
        elif kind in ("MX",):
            preference, host = data.split()
            data = (int(preference), wire_name(host))
        elif kind in ("PTR", "CNAME"):
            data = wire_name(data)
        elif kind == "TXT":
            data = read_strings(data)
        self.rows.append((name, kind, data, ttl))

    def exists(self, name):
        return any(row[0][-len(name):] == name for row in self.rows) if name else True

    def find(self, name, kind):
        """(rcode, [(owner, type, data, ttl)]) with the CNAMEs that lead there."""
        found, seen = [], set()
        name = tuple(label.lower() for label in name)
        while True:
            if any(row[0] == name and row[1] in (None, kind) and row[2] is None
                   for row in self.rows):
                return SERVFAIL, []
            alias = [row for row in self.rows if row[0] == name and row[1] == "CNAME"]
            if not alias or kind == "CNAME":
                break
            found.append(alias[0])
            if name in seen:
                return SERVFAIL, []
            seen.add(name)
            name = alias[0][2]
        rows = [row for row in self.rows if row[0] == name and row[1] == kind]
        return (0 if rows or self.exists(name) else NXDOMAIN), found + rows


class Case:
    def __init__(self, path, line, name, zone):
        self.path, self.line, self.name, self.zone = path, line, name, zone
        self.keys = {"helo": "mail.example.org", "from": ""}

    def __str__(self):
        return f"{self.path.name}:{self.line}: {self.name}"

    def bytes(self, key):
        return unescape(self.keys.get(key, ""))

    @property
    def local(self):
        head, at, _ = self.bytes("from").rpartition(b"@")
        return head if at else b""

    @property
    def domain(self):
        return self.bytes("from").rpartition(b"@")[2]


def read(path):
    zone, case, cases = None, None, []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if line.startswith("zone"):
            zone, case = Zone(), None
        elif line.startswith("test"):
            case = Case(path, number, text[5:], zone)
            cases.append(case)
        elif case is not None:
            key, _, value = text.partition(" ")
            case.keys[key] = value.strip()
        else:
            zone.add(text)
    return cases


def read_all():
    return [case for path in sorted(FOLDER.glob("*.spf")) for case in read(path)]


# ---- a name server ----

def write_name(labels):
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def write_data(kind, data):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(data).packed
    if kind == "MX":
        return struct.pack("!H", data[0]) + (b"\0" if data[1] == () else write_name(data[1]))
    if kind == "TXT":
        parts = [data[i:i + 255] for i in range(0, len(data), 255)] or [b""]
        return b"".join(bytes([len(part)]) + part for part in parts)
    return write_name(data)


def read_question(packet):
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]])
        at += 1 + packet[at]
    kind, _ = struct.unpack("!HH", packet[at + 1:at + 5])
    return tuple(labels), kind, packet[12:at + 5]


class Server:
    """Answers on UDP and TCP from `zone`, which may be changed between questions. Names with a
    label "silent" get no answer."""
    SOA = write_name(()) * 2 + struct.pack("!IIIII", 1, 60, 60, 60, 60)

    def __init__(self):
        self.zone = Zone()
        self.udp = self.make(socketserver.ThreadingUDPServer, Udp, 0)
        self.port = self.udp.server_address[1]
        self.tcp = self.make(socketserver.ThreadingTCPServer, Tcp, self.port)
        self.tcp_questions = 0

    def make(self, kind, handler, port):
        server = type("Owned", (kind,), {"daemon_threads": True, "allow_reuse_address": True})(
            ("127.0.0.1", port), handler)
        server.owner = self
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def close(self):
        for server in (self.udp, self.tcp):
            server.shutdown()
            server.server_close()

    def answer(self, packet, size_max):
        name, kind, question = read_question(packet)
        rcode, rows = self.zone.find(name, NAMES.get(kind, ""))
        header = packet[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, len(rows), not rows, 0)
        body = question
        for owner, row_kind, data, ttl in rows:
            written = write_data(row_kind, data)
            body += write_name(owner) + struct.pack("!HHIH", TYPES[row_kind], 1, ttl, len(written))
            body += written
        if not rows:
            body += write_name(()) + struct.pack("!HHIH", TYPES["SOA"], 1, 60, len(self.SOA))
            body += self.SOA
        if len(header) + len(body) <= size_max:
            return header + body
        return packet[:2] + struct.pack("!HHHHH", 0x8380 | rcode, 1, 0, 0, 0) + question


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        packet, sock = self.request
        if b"silent" in read_question(packet)[0]:
            return
        sock.sendto(self.server.owner.answer(packet, UDP_MAX), self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        while len(size := self.rfile.read(2)) == 2:
            packet = self.rfile.read(struct.unpack("!H", size)[0])
            self.server.owner.tcp_questions += 1
            answer = self.server.owner.answer(packet, 65535)
            try:
                self.wfile.write(struct.pack("!H", len(answer)) + answer)
            except (BrokenPipeError, ConnectionResetError):
                return
        self.request.close() if isinstance(self.request, socket.socket) else None
