# SPDX-License-Identifier: Apache-2.0
"""Every case of SPF (tests/spf) from outside: a client of that address, by the PROXY protocol, says
HELO and MAIL, and reply and event must be those of the case. What cannot be said in SMTP (domains
with empty labels, senders that are no addresses) is left out, and counted."""
import itertools
import pathlib
import socket
import sys

import pytest

import ports
from daemon import Client, Ringpost

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "spf"))
import cases  # noqa: E402

# What only the evaluator's own test can say: our time, and packets that no server can send.
UNIT_ONLY = ("more texts than are read", "a record of 60 000 bytes")
SYNTAX = (500, 501, 553)
REPLIES = {"fail": (550, "5.7.23 SPF fail: "), "temperror": (451, "4.7.24 SPF temperror of ")}


@pytest.fixture(scope="module")
def server():
    server = cases.Server()
    yield server
    server.close()


def relay_of(folder, server):
    config = {"hostname": "mx.example.com", "workers": 1,
              "dns": {"forwarders": [f"127.0.0.1@{server.port}"], "trust_anchors": "none",
                      "special_zones": ["test", "invalid"], "hosts_file": "none"},
              "relay": {"networks": ["198.18.0.0/15"]}, "limits": {"connection_rate_per_client": 0}}
    relay = Ringpost(folder, config)
    relay.identity_port = ports.free_port()  # there, HELO is checked whatever the sender
    relay.config["listeners"] = [
        {"address": f"{relay.host}:{port}", "role": "relay", "proxy_from": ["127.0.0.0/8"],
         "spf": {"iprev": False, **more}}
        for port, more in ((relay.port, {}), (relay.identity_port, {"helo": "always"}))]
    relay.write_config()
    return relay


def say(client, line):
    client.write(line + b"\r\n")
    return client.reply()


def ask(relay, case):
    """The reply to MAIL; None where the case cannot be said."""
    ip, sender = case.keys["ip"], case.bytes("from")
    client = Client.__new__(Client)
    port = relay.identity_port if case.keys.get("identity") == "helo" else relay.port
    client.socket = socket.create_connection((relay.host, port), 60)
    client.file = client.socket.makefile("rb")
    with client:
        family, target = ("TCP6", "2001:db8::99") if ":" in ip else ("TCP4", "192.0.2.99")
        client.write(f"PROXY {family} {ip} {target} 4000 25\r\n")
        assert client.reply()[0] == 220
        if say(client, b"EHLO " + case.bytes("helo"))[0] in SYNTAX:
            return None
        wide = b" SMTPUTF8" if any(byte > 127 for byte in sender) else b""
        reply = say(client, b"MAIL FROM:<" + sender + b">" + wide)
        return None if reply[0] in SYNTAX else reply


def is_beside(case):
    """Is the check of HELO followed by that of a sender?"""
    return case.keys.get("identity") == "helo" and case.domain


def differences(case, reply, event):
    result = case.keys["result"]
    code, text = REPLIES.get(result, (250, "2.1.0"))
    if is_beside(case) and result != "fail":
        code, text = reply[0], ""  # the sender's own result decides
    if reply[0] != code or not reply[1].startswith(text):
        yield f"{case}: the reply is {reply}, not {code} {text}"
    wanted = {"result": result}
    explanation = case.keys.get("explanation")
    if explanation is not None and "t=17" not in explanation and "receiver" not in case.keys:
        wanted["explanation"] = explanation
    for key in ("lookups", "voids"):
        if key in case.keys:
            wanted[key] = int(case.keys[key])
    if case.keys.get("mechanism"):
        wanted["mechanism"] = case.keys["mechanism"]
    for key, value in wanted.items():
        if event.get(key, "") != value:
            yield f"{case}: {key} is {event.get(key)!r}, not {value!r}: {event.get('problem')}"
    if 0 < len(wanted.get("explanation", "")) < 300 and wanted["explanation"] not in reply[1]:
        yield f"{case}: the reply {reply} does not explain {explanation!r}"


def is_sayable(case):
    return case.name not in UNIT_ONLY and (case.domain or not case.bytes("from")) and \
        "secure" not in case.keys.get("security", "")


@pytest.mark.parametrize("path", sorted(cases.FOLDER.glob("*.spf")), ids=lambda path: path.stem)
def test_cases(server, folder, path):
    wrong, asked, unsayable = [], 0, []
    zones = itertools.groupby(cases.read(path), lambda case: id(case.zone))
    for number, (_, group) in enumerate(zones):
        group = list(group)
        server.zone = group[0].zone
        # Each zone has a relay of its own, which remembers nothing of another.
        with relay_of(folder / str(number), server) as relay:
            for case in group:
                reply = ask(relay, case) if is_sayable(case) else None
                if reply is None:
                    unsayable.append(case)
                    continue
                asked += 1
                wrong += differences(case, reply, relay.log.wait("spf"))
                if is_beside(case) and case.keys["result"] != "fail":
                    assert relay.log.wait("spf")["identity"] == "mailfrom"
    print(f"{asked} asked; cannot be said: {[str(case) for case in unsayable]}")
    assert not wrong, "\n".join(wrong)
    assert asked > len(unsayable)
