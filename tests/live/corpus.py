# SPDX-License-Identifier: Apache-2.0
"""The corpus: mails that relays are known to damage, each with what it needs of a peer.

Content is made here, not stored: it is the same on every run. `needs` names what a peer must be
able to carry; a peer that cannot is named in the test, which then asserts what it does instead.
"""
import random
from dataclasses import dataclass, field

UTF8 = "smtputf8"       # addresses or headers in UTF-8 (RFC 6531)
EIGHT = "8bit"          # bytes over 127 in the body (RFC 6152)
LONG = "long-lines"     # lines over the 998 octets of RFC 5322 2.1.1
HUGE_LINE = "huge-line"  # one line of a megabyte
BIG = "big"             # 40 MiB
MANY = "many"           # a thousand recipients
NO_BLANK = "no-blank"   # no empty line between header and body
NO_HEADER = "no-header"  # the content does not begin with a header field
NO_FINAL = "no-final-crlf"


@dataclass
class Case:
    name: str
    content: bytes
    sender: str = "sender@client.test"
    recipients: tuple = ("one@example.test",)
    needs: frozenset = field(default_factory=frozenset)

    @property
    def expected(self):
        """What arrives below the trace lines: a missing final CRLF is added at acceptance."""
        if self.content and not self.content.endswith(b"\r\n"):
            return self.content + b"\r\n"
        return self.content

    @property
    def utf8(self):
        return UTF8 in self.needs


def head(name, *more):
    lines = ["From: Sender <sender@client.test>", "To: One <one@example.test>",
             f"Subject: {name}", "Date: Thu, 01 Jan 2026 00:00:00 +0000",
             f"Message-ID: <{name}@client.test>", f"X-Mail-Id: {name}", *more]
    return "".join(line + "\r\n" for line in lines).encode()


def text(name, body, *more):
    return head(name, *more) + b"\r\n" + body


def every_dot():
    """Dots at line starts in all positions: alone, doubled, before text, first and last line."""
    lines = [b".", b"..", b"...", b".a", b"..a", b"", b".", b"", b"a.", b". ", b".\t", b" .", b"."]
    return b"\r\n".join(lines) + b"\r\n"


def nested_mime(depth):
    inner = b"Content-Type: text/plain; charset=utf-8\r\n\r\ninnermost\r\n"
    for level in range(depth):
        mark = b"=_level_%d" % level
        kind = (b"mixed", b"alternative", b"related")[level % 3]
        attached = (b"Content-Type: message/rfc822\r\n\r\n" + head(f"inner{level}") + b"\r\nhi\r\n")
        inner = (b'Content-Type: multipart/%s; boundary="%s"\r\n\r\npreamble\r\n--%s\r\n%s\r\n'
                 b"--%s\r\n%s\r\n--%s--\r\nepilogue\r\n"
                 % (kind, mark, mark, inner, mark, attached, mark))
    return head("nested-mime", "MIME-Version: 1.0") + inner


def lines_of(size, width=76):
    """Body text of about that size that no compression or pattern would hide a loss in."""
    generator = random.Random(size)
    words = [bytes(generator.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=width))
             for _ in range(997)]
    out = bytearray()
    number = 0
    while len(out) < size:
        out += b"%08d " % number + words[number % 997] + b"\r\n"
        number += 1
    return bytes(out)


def case(name, content, *needs, **more):
    return Case(name, content, needs=frozenset(needs), **more)


def small_cases():
    body = b"hello\r\n"
    eight = bytes(c for c in range(128, 256)) + b"\r\n"
    edge = b"".join(b"x" * n + b"\r\n" for n in (996, 997, 998))
    return [
        case("plain", text("plain", body)),
        case("empty-body", text("empty-body", b"")),
        case("blank-lines-only", text("blank-lines-only", b"\r\n\r\n\r\n")),
        case("header-only", head("header-only"), NO_BLANK),
        case("no-final-crlf", text("no-final-crlf", b"cut"), NO_FINAL),
        case("dots", text("dots", every_dot())),
        case("dot-first", text("dot-first", b".\r\nrest\r\n")),
        case("dot-last", text("dot-last", b"rest\r\n.\r\n")),
        case("no-header", b"\r\nonly a body\r\n", NO_HEADER),
        case("8bit", text("8bit", "grüße\r\n".encode("latin-1") + eight), EIGHT),
        case("utf8-body", text("utf8-body", "Grüße, 世界, 📮\r\n".encode()), EIGHT),
        case("utf8-header", text("utf8-header", body, "X-Greeting: Grüße, 世界"), EIGHT, UTF8),
        case("utf8-address", text("utf8-address", body, "Cc: <用户@example.test>"), EIGHT, UTF8,
             sender="jürgen@client.test", recipients=("用户@example.test",)),
        case("quoted-local-part", text("quoted-local-part", body),
             recipients=('"two words"@example.test',)),
        case("null-sender", text("null-sender", body), sender=""),
        case("folded-header", text("folded-header", body, "X-Long: one\r\n\ttwo\r\n  three",
                                   "X-Empty:", "X-Space:   kept  ")),
        case("trailing-spaces", text("trailing-spaces", b"a  \r\n\t\r\n   \r\nb\t\r\n")),
        case("from-line", text("from-line", b"From here on\r\n>From there\r\nFrom \r\n")),
        case("998-octets", text("998-octets", edge)),
        case("long-line", text("long-line", b"y" * 2000 + b"\r\n" + b"z" * 50000 + b"\r\n"), LONG),
        case("controls", text("controls", bytes(c for c in range(1, 32) if c not in (10, 13))
                              + b"\x7f\r\n")),
        case("nested-mime", nested_mime(12)),
        case("hundred-recipients", text("hundred-recipients", body),
             recipients=tuple(f"r{n}@example.test" for n in range(100))),
        case("100-kib", text("100-kib", lines_of(100 << 10))),
        case("300-kib", text("300-kib", lines_of(300 << 10))),  # goes to a file of its own
    ]


def large_cases():
    return [
        case("huge-line", text("huge-line", b"w" * (1 << 20) + b"\r\nend\r\n"), LONG, HUGE_LINE),
        case("40-mib", text("40-mib", lines_of(40 << 20)), BIG),
        case("thousand-recipients", text("thousand-recipients", b"many\r\n"), MANY,
             recipients=tuple(f"r{n}@example.test" for n in range(1000))),
    ]


def all_cases():
    return small_cases() + large_cases()


def without_trace(arrived, names=(b"Received",)):
    """The content below the trace lines on top: whole fields (with their folds) of these names."""
    rest = arrived
    lowered = tuple(name.lower() + b":" for name in names)
    while rest[:64].lower().startswith(lowered):
        end = rest.find(b"\r\n")
        while end >= 0 and rest[end + 2:end + 3] in (b" ", b"\t"):
            end = rest.find(b"\r\n", end + 2)
        rest = rest[end + 2:] if end >= 0 else b""
    return rest


def difference(expected, arrived):
    """None where equal; otherwise where and how they differ, in a line."""
    if expected == arrived:
        return None
    at = next((i for i, (a, b) in enumerate(zip(expected, arrived)) if a != b),
              min(len(expected), len(arrived)))
    near = slice(max(at - 20, 0), at + 40)
    return (f"differs at byte {at} (sizes {len(expected)} and {len(arrived)}): "
            f"{expected[near]!r} became {arrived[near]!r}")
