# SPDX-License-Identifier: Apache-2.0
"""Compares the evaluator with python3-spf.

    compare.py SPF_EVAL [--seed N] [--count N]

First every case of this folder: python3-spf must come to what the case expects, or to what its key
`pyspf` says. Then generated records, with the mistakes that people make: both must come to the same
result and explanation, but for the differences in explained_difference(), each with its reason.
"""
import argparse
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import cases

try:
    import spf
except ImportError:
    sys.exit(77)

DEFAULT = "none given"
TIME = "1700000000"


class Dns:
    """In place of python3-spf's resolver."""
    def __init__(self, zone):
        self.zone = zone

    def __call__(self, name, kind, strict=True, timeout=0):
        labels = tuple(label.encode("utf-8", "surrogateescape") for label in name.split("."))
        rcode, rows = self.zone.find(labels, kind)
        if rcode == cases.SERVFAIL:
            raise spf.TempError("DNS SERVFAIL")
        out = []
        owner = name
        for _, row_kind, data, _ in rows:
            if row_kind == "CNAME":
                continue
            if row_kind == "TXT":
                data = [data]
            elif row_kind == "MX":
                data = (data[0], b".".join(data[1]).decode("latin-1"))
            elif row_kind == "PTR":
                data = b".".join(data).decode("latin-1")
            out.append(((owner, row_kind), data))
        return out


def ask_pyspf(case):
    spf.DNSLookup = Dns(case.zone)
    helo = case.bytes("helo").decode("utf-8", "surrogateescape")
    sender = case.bytes("from").decode("utf-8", "surrogateescape")
    if case.keys.get("identity") == "helo":
        sender = ""
    receiver = None if "receiver" in case.keys else "mx.example.com"
    query = spf.query(i=case.keys["ip"], s=sender, h=helo, receiver=receiver)
    query.t = TIME
    query.set_default_explanation(DEFAULT)
    try:
        result, _, explanation = query.check()
    except Exception as error:  # it is not made for everything
        return "broken", str(error), query
    if result != "fail" or explanation == DEFAULT:
        explanation = ""
    return result, explanation, query


def compare_cases():
    wrong, differing, count = [], 0, 0
    for case in cases.read_all():
        result, explanation, query = ask_pyspf(case)
        said = case.keys.get("pyspf", "")
        expected = said.partition(":")[0] or case.keys["result"]
        count += 1
        differing += bool(said)
        if result != expected:
            reason = getattr(query, "prob", explanation)
            wrong.append(f"{case}: python3-spf says {result} ({reason}), not {expected}")
        elif said and expected == case.keys["result"] and "explanation" not in case.keys:
            wrong.append(f"{case}: python3-spf says the same; drop the key")
        elif not said and explanation != case.keys.get("explanation", explanation):
            wrong.append(f"{case}: python3-spf explains {explanation!r}")
    print(f"{count} cases, {differing} of them known to differ, {len(wrong)} wrong")
    return wrong


# ---- generated records ----

class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.clean = False  # the zone in hand has no mistakes
        self.domains = [f"d{n}.example" for n in range(8)]
        self.hosts = [f"h{n}.example" for n in range(6)] + ["none.example", "down.example"]

    def pick(self, *items):
        return self.random.choice(items)

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def ip(self):
        return self.pick("192.0.2.1", "192.0.2.2", "192.0.2.77", "198.51.100.1", "2001:db8::1",
                         "2001:db8:1::7", "::ffff:192.0.2.1")

    def macro(self):
        letter = self.pick(*"slodivhSLODIVH")
        digits = self.pick("", "", "", "1", "2", "3", "9", "127")
        return "%{" + letter + digits + self.pick("", "", "r") + self.pick(
            "", "", "", "-", ".", "+", "-.", "_=", ",/") + "}"

    def spec(self):
        if self.chance(60):
            return self.pick(*self.domains, *self.hosts)
        if not self.clean and self.chance(20):
            return self.pick("example", "a..example", "192.0.2.1", "x.123", "h1.example.", "",
                             "x.-y", "a_b.example", "%%.example", "x%_y.example", "%-.example",
                             "h1.example:25", "%{d", "%{x}.example", "%d.example", "%{d0}.example",
                             "a." * 100 + "%{d}")
        return "".join(self.pick(self.macro(), self.pick("a", "x.y", "_spf", "%%", "-"))
                       for _ in range(self.random.randrange(1, 4))) + self.pick(
                               ".example", ".h1.example", ".%{d}",
                               *([] if self.clean else [""]))

    def cidr(self):
        if self.clean:
            return self.pick("", "", "/24", "/0", "/32", "//64", "//0", "/24//64")
        return self.pick("", "", "", "/24", "/0", "/32", "//64", "//0", "/24//64", "/33", "//129",
                         "/", "/x", "/24/64")

    def mechanism(self):
        kind = self.random.randrange(14)
        if kind < 3:
            return "ip4:" + self.pick("192.0.2.1", "192.0.2.0", "198.51.100.0", "203.0.113.9") + (
                self.pick("", "/24", "/32", "/0", "/31") if self.clean or self.chance(85) else
                self.pick("/33", "/", "/a", ".1", ":25", "//24"))
        if kind == 3:
            network = self.pick("2001:db8::1", "2001:DB8::", "::", "2001:db8:1::")
            return "ip6:" + network + self.pick("", "/32", "/64", "/128", "/0",
                                                *([] if self.clean else ["/129"]))
        if kind < 7:
            name = self.pick("a", "mx", "A", "Mx")
            return name + (":" + self.spec() if self.chance(70) else "") + self.cidr()
        if kind < 10:
            return "include:" + (self.pick(*self.domains) if self.clean else self.spec())
        if kind < 12:
            return "exists:" + self.spec()
        if kind == 12:
            return self.pick("ptr", "ptr:" + self.spec()) if self.chance(50) else "a"
        if self.clean:
            return "a"
        return self.pick("all", "foo", "ip4", "include", "exists", "all:x", "a=b", "mx:", "-", "")

    def modifier(self):
        return self.pick("redirect=" + self.spec(), "exp=" + self.pick("why.example", self.spec()),
                         f"x{self.random.randrange(100000)}=" + self.pick(
                             "", "y", "%{d}", *([] if self.clean else ["%", "%{q}"])))

    def record(self):
        terms = []
        for _ in range(self.random.randrange(1, 8)):
            if self.chance(8):
                terms.append(self.modifier())
            else:
                terms.append(self.pick("", "", "", "+", "-", "~", "?") + self.mechanism())
        if self.chance(70):
            terms.append(self.pick("-all", "~all", "?all", "-all", "all"))
        if self.chance(15):
            terms.append("redirect=" + self.pick(*self.domains))
        if self.clean:  # what may stand there once does
            terms = list({term.partition("=")[0] if "=" in term else str(n): term
                          for n, term in enumerate(terms)}.values())
        return "v=spf1 " + self.pick(" ", "  ").join(terms)

    def write(self, count):
        out = []
        for number in range(count):
            out.append("zone")
            self.clean = self.chance(75)
            for domain in self.domains:
                out.append(f'  {domain} TXT "{self.record()}"')
                if not self.clean and self.chance(5):
                    out.append(f'  {domain} TXT "{self.record()}"')
            for host in self.hosts[:6]:
                for _ in range(self.random.randrange(1, 3)):
                    address = self.pick("192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1",
                                        "2001:db8:1::7")
                    out.append(f"  {host} {'AAAA' if ':' in address else 'A'} {address}")
            for domain in self.domains:
                out.append(f"  {domain} A 203.0.113.{self.random.randrange(9)}")
                out.append(f"  {domain} MX 10 {self.pick(*self.hosts[:6])}")
            out.append("  down.example fails")
            out.append('  why.example TXT "%{i} is not of %{d}: %{S} %{l1r-} %{h} %{c} %{v}"')
            for query in range(4):
                out.append(f"test {number}.{query}")
                out.append(f"  ip {self.ip()}")
                out.append(f"  helo {self.pick('mail.example.org', 'h1.example', 'x')}")
                local = self.pick("joe", "a-b.c+d", "X_y")
                out.append(f"  from {local}@{self.pick(*self.domains)}")
                out.append("  result none")
        return "\n".join(out) + "\n"


def explained_difference(ours, theirs, explanation, case, query):
    """Why the results may differ, or None."""
    reason = str(getattr(query, "prob", "") or "")
    text = " ".join(row[2].decode("latin-1") for row in case.zone.rows if row[1] == "TXT")
    if "Void lookup limit" in reason:
        return "void: they count each question, we each term"
    if theirs == "broken":
        return "broken: an exception of python3-spf"
    if "Too many DNS lookups" in reason or "More than" in reason:
        return "lookups: they count a redirect where it is written"
    if ours == "permerror" and "%{d0}" in text:
        return "zero: they take 0 parts for all"
    if "invalid-macro-char" in reason and "%%" in text:
        return "percent: they take %% for a lone percent sign where it ends a term"
    if ours == theirs and re.search(r"%{[vV][^}]*-", text):
        return "joined: they join in-addr again with a hyphen (RFC 7208 7.3: with a dot)"
    if ours == theirs and len(explanation) > 200:
        return "cut: they take a label off a long explanation"
    if "trivial recursion" in reason:
        return "recursion: they refuse an include of itself at once"
    if ours == "permerror" and re.search(r"[-+~?]exists( |$)", text):
        return "exists: with a qualifier they take it without a domain"
    if theirs == "temperror" and "mx" in text.lower():
        return "mx: they ask for all hosts before they compare one"
    if theirs == "temperror" and "ptr" in text:
        return "ptr: a failure there is temporary for them (RFC 7208 5.5 says otherwise)"
    return None


def compare_generated(program, seed, count):
    wrong, explained, results = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "generated.spf"
        path.write_text(Generator(seed).write(count))
        done = subprocess.run([program, str(path)], capture_output=True, check=True)
        lines = [line.split("\t") for line in done.stdout.decode("latin-1").split("\n") if line]
        read = cases.read(path)
        assert len(lines) == len(read) == 4 * count
        for case, line in zip(read, lines):
            assert case.line == int(line[0])
            theirs, explanation, query = ask_pyspf(case)
            results[line[1]] = results.get(line[1], 0) + 1
            if theirs == line[1] and explanation == line[3]:
                continue
            why = explained_difference(line[1], theirs, line[3], case, query)
            if why is not None:
                explained[why] = explained.get(why, 0) + 1
                continue
            zone = "\n".join(f"    {b'.'.join(row[0]).decode()} {row[1]} {row[2]}"
                             for row in case.zone.rows if row[1] == "TXT")
            wrong.append(f"seed {seed}, {case.name}: {line[1:]} here, {theirs} {explanation!r} "
                         f"there ({getattr(query, 'prob', '')}); {case.keys}\n{zone}")
    print(f"{4 * count} generated checks of seed {seed}: {dict(sorted(results.items()))}")
    for why, number in sorted(explained.items()):
        print(f"  {number} differ: {why}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=7208)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    wrong = compare_cases()
    wrong += compare_generated(arguments.program, arguments.seed, arguments.count)
    for line in wrong[:60]:
        print(line)
    print(f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
