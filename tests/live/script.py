# SPDX-License-Identifier: Apache-2.0
"""The dialogues of tests/script, played against the daemon over a socket.

The format is tests/script/README.md. What the pure receiver is given by its caller comes from a
configuration here; a script that needs what no configuration can give says so in skip_reason().
"""
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "script"
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}

# What tests/script/script.c gives to the receiver where a script does not say otherwise.
BASE = {
    "hostname": "mx.example.org",
    "workers": 1,
    "relay": {"networks": ["127.0.0.0/8"]},
    "limits": {"message_size_max": "1000000B", "recipients_max": 100, "errors_max": 20,
               "junk_max": 100, "command_size_max": "2KiB", "mails_max": 1000000,
               "connections_per_client": 0, "connection_rate_per_client": 0},
}

# An option of the receiver: its place in the configuration, the least value, how it is written.
OPTIONS = {
    "size_max": ("message_size_max", 64 << 10, "{}B"),
    "recipients_max": ("recipients_max", 100, "{}"),
    "mails_max": ("mails_max", 1, "{}"),
    "errors_max": ("errors_max", 1, "{}"),
    "junk_max": ("junk_max", 1, "{}"),
    "line_max": ("command_size_max", 2 << 10, "{}B"),
}


# The one answer that a configuration can give: to a client that may not relay.
STRANGERS = "rcpt * RELAY_DENIED"


def unescape(text):
    out, at = bytearray(), 0
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode("utf-8", "surrogateescape")
            at += 1
        elif text[at + 1] == "x":
            out.append(int(text[at + 2:at + 4], 16))
            at += 4
        else:
            out += ESCAPES[text[at + 1]]
            at += 2
    return bytes(out)


class Script:
    """groups: what the client sends as a whole, and the reply lines (exact, text) it then gets."""

    def __init__(self, path):
        self.name = path.stem
        self.groups = [(bytearray(), [])]
        self.options, self.policies, self.events, self.never = [], [], [], []
        self.bodies, self.close = [], None
        for line in path.read_bytes().decode("utf-8", "surrogateescape").split("\n"):
            if line and not line.startswith("#"):
                self.read(line)

    def read(self, line):
        head, _, rest = line.partition(":" if not line.startswith("S= ") else "=")
        rest = rest.removeprefix(" ")
        if head in ("C", "raw", "repeat"):
            self.say(head, rest)
        elif head == "S":
            self.groups[-1][1].append((line.startswith("S= "), unescape(rest)))
        elif head in ("option", "policy", "expect no"):
            {"option": self.options, "policy": self.policies,
             "expect no": self.never}[head].append(rest)
        elif head == "expect close":
            self.close = rest
        elif head == "expect body":
            self.bodies.append(unescape(rest))
        else:
            assert head == "expect", line
            self.events.append(rest)

    def say(self, head, rest):
        if self.groups[-1][1]:
            self.groups.append((bytearray(), []))
        if head == "repeat":
            count, _, rest = rest.partition(" ")
            self.groups[-1][0].extend(unescape(rest) * int(count))
        else:
            self.groups[-1][0].extend(unescape(rest) + (b"\r\n" if head == "C" else b""))

    def skip_reason(self):
        """Why the daemon cannot be brought into the situation, or None."""
        if self.policies and self.policies != [STRANGERS]:
            return "answers of its own: " + self.policies[0]
        if self.groups[0][0]:
            return "the daemon greets at once: nobody can be early"
        for option in self.options:
            name, value = option.split()
            if name == "bare_newline":
                continue
            if name not in OPTIONS:
                return f"{name} is no option of the configuration"
            if int(value) < OPTIONS[name][1]:
                return f"{OPTIONS[name][0]} cannot be as small as {value}"
        return None

    def configuration(self):
        """What differs from BASE."""
        limits, changes = {}, {}
        if self.policies:
            changes["relay"] = {"networks": [], "domains": [{"name": "example.test"}]}
        for option in self.options:
            name, value = option.split()
            if name == "bare_newline":
                changes[name] = value
            else:
                place, _, form = OPTIONS[name]
                written = form.format(value)
                limits[place] = int(written) if written.isdigit() else written
        return {**changes, "limits": limits} if limits else changes

    def commits(self):
        return sum(event.startswith("commit ") for event in self.events)

    def commits_none(self):
        return any("commit".startswith(prefix.strip()) for prefix in self.never)

    def senders(self):
        """Of the transactions that must never begin."""
        return [match.group(1) for prefix in self.never
                if (match := re.fullmatch(r"mail <(.+)>", prefix))]


def all_scripts():
    return [Script(path) for path in sorted(FOLDER.glob("*.smtp"))]
