# SPDX-License-Identifier: Apache-2.0
"""ringpostctl spf against a name server: every case of this folder by the program's JSON, and what
the program does beside that. RINGPOSTCTL is its path."""
import json
import os
import socket
import subprocess

import pytest

import cases

CTL = os.environ["RINGPOSTCTL"]
# Cases whose answers hang on what only the unit test can say: validated answers, our time, and
# packets that no server can send.
UNIT_ONLY = ("more texts than are read", "a record of 60 000 bytes")


@pytest.fixture(scope="module")
def server():
    server = cases.Server()
    yield server
    server.close()


def run(*arguments):
    done = subprocess.run([CTL, "spf", *arguments], capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


def check(server, *arguments):
    status, out, err = run("check", "--dns", f"127.0.0.1@{server.port}", "--json", *arguments)
    assert status == 0, err
    return json.loads(out)


def arguments_of(case):
    out = [b"--ip", case.bytes("ip"), b"--helo", case.bytes("helo"), b"--mail-from",
           case.bytes("from")]
    if "identity" in case.keys:
        out += [b"--identity", case.bytes("identity")]
    return out + [b"--receiver", b"" if "receiver" in case.keys else b"mx.example.com"]


@pytest.mark.parametrize("path", sorted(cases.FOLDER.glob("*.spf")), ids=lambda path: path.stem)
def test_cases(server, path):
    wrong, count = [], 0
    for case in cases.read(path):
        if not case.bytes("helo") and not case.domain:
            continue  # refused as usage
        server.zone = case.zone
        got = check(server, *arguments_of(case))
        count += 1
        wanted = {"result": case.keys["result"]}
        if "explanation" in case.keys and "t=17" not in case.keys["explanation"]:
            wanted["explanation"] = case.keys["explanation"]
        if case.keys.get("mechanism"):
            wanted["mechanism"] = case.keys["mechanism"]
        for key in ("lookups", "voids"):
            if key in case.keys:
                wanted[key] = int(case.keys[key])
        wrong += [f"{case}: {key} is {got.get(key)!r}, not {value!r}: {got.get('problem')}"
                  for key, value in wanted.items() if got.get(key) != value]
    assert not wrong, "\n".join(wrong)
    assert count > 10


def test_large_answers_come_by_tcp(server):
    server.zone = cases.Zone()
    server.zone.add('big.example TXT "v=spf1 " "ip4:198.51.100.1 "*300 "ip4:192.0.2.1 -all"')
    before = server.tcp_questions
    got = check(server, "--ip", "192.0.2.1", "--helo", "x.example", "--mail-from", "a@big.example")
    assert got["result"] == "pass" and server.tcp_questions > before


def test_a_silent_server_is_a_temporary_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        status, out, _ = run("check", "--dns", f"127.0.0.1@{silent.getsockname()[1]}", "--json",
                             "--timeout", "1s", "--ip", "192.0.2.1", "--helo", "x.example",
                             "--mail-from", "a@example.org")
    assert status == 0
    assert json.loads(out)["result"] == "temperror"


@pytest.mark.parametrize("record, result", [
    ("v=spf1 a:silent.example -all", "temperror"),
    ("v=spf1 ptr:silent.example -all", "fail"),
    ("v=spf1 -all exp=silent.example", "fail"),
    ("v=spf1 ip4:192.0.2.1 include:silent.example -all", "pass")])
def test_one_name_is_silent(server, record, result):
    server.zone = cases.Zone()
    server.zone.add(f'a.example TXT "{record}"')
    server.zone.add("1.2.0.192.in-addr.arpa PTR silent.example")
    got = check(server, "--timeout", "2s", "--ip", "192.0.2.1", "--helo", "x.example",
                "--mail-from", "joe@a.example")
    assert (got["result"], got["explanation"]) == (result, "")


def test_steps_are_shown(server):
    server.zone = cases.Zone()
    server.zone.add('a.example TXT "v=spf1 include:b.example ip4:203.0.113.0/24 mx -all '
                    'exp=why.example"')
    server.zone.add('b.example TXT "v=spf1 a:gone.example ?all"')
    server.zone.add("a.example MX 10 mx.example")
    server.zone.add("mx.example A 198.51.100.1")
    server.zone.add('why.example TXT "%{i}\x1b[2J is no host of %{d}"')
    arguments = ("--ip", "192.0.2.1", "--helo", "x.example", "--mail-from", "<joe@a.example>")
    got = check(server, *arguments)
    steps = [(step["step"], step["depth"], step.get("text")) for step in got["steps"]]
    assert ("ask", 0, "a.example") in steps and ("ask", 1, "gone.example") in steps
    assert ("result", 0, "include:b.example") in steps
    answer = next(s for s in got["steps"] if s["step"] == "answer" and s["type"] == "MX")
    assert answer["records"] == ["10 mx.example"] and answer["outcome"] == "found"
    assert got["mechanism"] == "-all" and got["explanation"] == ""
    assert (got["lookups"], got["voids"], got["dnssec"]) == (3, 1, "insecure")
    status, out, err = run("check", "--dns", f"127.0.0.1@{server.port}", *arguments)
    text = out.decode("ascii")
    assert status == 0 and err == ""
    assert "\x1b" not in text and "\\x1b[2J" in text
    for line in ("MX a.example: found, insecure: 10 mx.example", "198.51.100.1: is not",
                 "include:b.example: goes on with b.example", "result       fail",
                 "lookups      3 of 10, 1 of 2 without records"):
        assert line in text, (line, text)


@pytest.mark.parametrize("arguments, word", [
    (["check"], "--ip"), (["check", "--ip", "192.0.2.1"], "--helo"), ([], "check or lint"),
    (["check", "--ip", "192.0.2.300", "--helo", "x"], "no address"),
    (["check", "--ip", "192.0.2.1", "--helo", "x", "--dns", "ns.example"], "--dns"),
    (["check", "--ip", "192.0.2.1", "--helo", "x", "--timeout", "soon"], "--timeout"),
    (["check", "--ip", "192.0.2.1", "--helo", "x", "more"], "no word more"),
    (["lint"], "needs a domain"), (["lint", "a..b"], "no domain"), (["lint", "a.b", "c.d"], "c.d"),
    (["check", "--bad"], "--bad")])
def test_wrong_usage(arguments, word):
    status, out, err = run(*arguments)
    assert status == 2 and out == b"" and word in err


def test_help():
    status, out, _ = run("--help")
    assert status == 0 and b"--mail-from" in out


# ---- lint ----

def lint(server, domain, status):
    arguments = ("lint", domain, "--dns", f"127.0.0.1@{server.port}")
    got, out, err = run(*arguments, "--json")
    assert got == status, out.decode() + err
    text = run(*arguments)
    assert text[0] == status
    result = json.loads(out)
    for finding in result["findings"]:
        assert f"{finding['level']}: {finding['domain']}: {finding['text']}" in text[1].decode()
    assert result["ok"] == (status == 0)
    return result


LINT = [
    ("good", 'v=spf1 ip4:192.0.2.0/24 mx -all', 0, 1, []),
    ("pass", 'v=spf1 +all', 1, 0, ["error: +all: anyone passes"]),
    ("open", 'v=spf1 ip4:192.0.2.0/24', 0, 0, ["warning: ends neither in all nor in redirect"]),
    ("weak", 'v=spf1 ip4:192.0.2.0/24 ?all', 0, 0, ["warning: ?all: of others nothing is said"]),
    ("wide", 'v=spf1 ip4:0.0.0.0/0 -all', 1, 0, ["error: ip4:0.0.0.0/0: that network is so large"]),
    ("large", 'v=spf1 ip4:16.0.0.0/4 -all', 0, 0, ["warning: ip4:16.0.0.0/4: that network"]),
    ("ptr", 'v=spf1 ptr -all', 0, 1, ["warning: ptr: ptr is slow"]),
    ("after", 'v=spf1 -all ip4:192.0.2.1', 0, 0, ["warning: ip4:192.0.2.1: is never reached"]),
    ("ignored", 'v=spf1 -all redirect=good.example', 0, 0, ["warning: redirect is ignored"]),
    ("syntax", 'v=spf1 ip4:192.0.2 foo ip6:x -all', 1, 0,
     ["error: ip4:192.0.2: that is no IPv4 address", "error: foo: there is no such mechanism",
      "error: ip6:x: that is no IPv6 address"]),
    ("equals", 'v=spf1 ip4=192.0.2.1 a -all', 1, 1, ["error: ip4=192.0.2.1: is ignored"]),
    ("unknown", 'v=spf1 x=y -all', 0, 0, ["warning: x=y: is no modifier that is known"]),
    ("twice", 'v=spf1 a a -all', 0, 2, ["warning: a: stands there twice"]),
    ("circle", 'v=spf1 include:circle2.example -all', 1, 2,
     ["error: leads to circle.example again, in a circle"]),
    ("circle2", 'v=spf1 include:circle.example -all', 1, 2, ["in a circle"]),
    ("missing", 'v=spf1 include:none.example -all', 1, 1,
     ["error: has no SPF record, though it is included"]),
    ("redirected", 'v=spf1 redirect=none.example', 1, 1, ["though a redirect leads there"]),
    ("many", 'v=spf1 ' + " ".join(f"exists:%{{i}}.x{n}.example" for n in range(11)), 1, 11,
     ["error: up to 11 terms ask the DNS"]),
    ("below", 'v=spf1 include:six.example include:seven.example -all', 1, 15,
     ["error: up to 15 terms ask the DNS"]),
    ("six", 'v=spf1 ' + " ".join(f"exists:%{{i}}.x{n}.example" for n in range(6)), 0, 6,
     ["ends neither in all nor in redirect"]),
    ("seven", 'v=spf1 ' + " ".join(f"exists:%{{i}}.x{n}.example" for n in range(7)), 0, 7,
     ["ends neither in all nor in redirect"]),
    ("void", 'v=spf1 a:v1.none.example mx:v2.none.example exists:v3.none.example -all', 1, 3,
     ["has no addresses", "has no MX records", "has no A record", "error: up to 3 terms find"]),
    ("explained", 'v=spf1 -all exp=none.example', 0, 0, ["there is no such text"]),
    ("dups", 'v=spf1 -all exp=good.example exp=a.example', 1, 0, ["exp may stand there only once"]),
    ("fails", 'v=spf1 a:down.example include:down.example -all', 1, 2,
     ["its addresses cannot be looked up", "the record cannot be looked up"]),
    ("hosts", 'v=spf1 mx:crowd.example -all', 1, 1, ["more than 10 MX records"]),
    ("long", 'v=spf1 ' + "ip4:192.0.2.1 " * 40 + '-all', 0, 0, ["with more than 450"]),
]


@pytest.fixture()
def lint_zone(server):
    zone = server.zone = cases.Zone()
    for name, record, *_ in LINT:
        zone.add(f'{name}.example TXT "{record}"')
        zone.add(f"{name}.example A 192.0.2.1")
        zone.add(f"{name}.example MX 10 good.example")
    zone.add('two.example TXT "v=spf1 -all"')
    zone.add('two.example TXT "v=spf1 ~all"')
    zone.add("down.example fails")
    for number in range(11):
        zone.add(f"crowd.example MX {number} good.example")
    for number in range(120):
        zone.add(f'chain{number}.example TXT "v=spf1 include:chain{number + 1}.example -all"')
    return server


@pytest.mark.parametrize("name, record, status, lookups, findings", LINT, ids=lambda v: str(v)[:9])
def test_lint(lint_zone, name, record, status, lookups, findings):
    result = lint(lint_zone, f"{name}.example", status)
    found = [f"{f['level']}: {f['text']}" for f in result["findings"]]
    for finding in findings:
        assert any(finding in text for text in found), (finding, found)
    assert findings or not found
    assert result["lookups"] == lookups
    assert result["records"][0]["domain"] == f"{name}.example"


def test_lint_of_several_and_of_none(lint_zone):
    assert "has 2 SPF records" in lint(lint_zone, "two.example", 1)["findings"][0]["text"]
    assert "has no SPF record" in lint(lint_zone, "none.example", 1)["findings"][0]["text"]
    assert "cannot be looked up" in lint(lint_zone, "down.example", 1)["findings"][0]["text"]


def test_lint_ends(lint_zone):
    result = lint(lint_zone, "chain0.example", 1)
    assert any("too many includes" in finding["text"] for finding in result["findings"])
    assert len(result["records"]) <= 100
