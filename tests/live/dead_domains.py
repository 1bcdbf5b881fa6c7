#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Thousands of domains whose hosts never answer, and some that live; prints what became of it.

    unshare -n dead_domains.py FOLDER DOMAINS MAILS LIVE

Runs in a network of its own, where packets to 10.0.0.0/8 vanish. MAILS mails go to DOMAINS dead
domains (ringpost-bench), then one to each of LIVE live ones. Prints JSON: the milliseconds from the
acceptance of each of those to its arrival, and the daemon's PSS in MiB.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

from daemon import Client, Ringpost
from dns_tree import Tree
from sink import Sink

HOST = "127.77.0.1"


def make_network():
    for command in ("link set lo up", "link add void0 type veth peer name void1",
                    "addr add 10.1.0.1/8 dev void0", "link set void0 arp off up",
                    "link set void1 arp off up"):
        subprocess.run(["ip", *command.split()], check=True)


def zone_of(domains, live):
    lines = [f"mx A {HOST}", "@ MX 10 mx"]
    for n in range(domains):
        lines += [f"d{n} MX 10 m{n}", f"m{n} A 10.{2 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"]
    return "\n".join(lines + [f"l{n} MX 10 mx" for n in range(live)])


def pss_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return int(text.split("Pss:")[1].split()[0]) // 1024


def main():
    folder = pathlib.Path(sys.argv[1])
    domains, mails, live = map(int, sys.argv[2:])
    make_network()
    with Tree(folder / "tree") as tree, Sink(host=HOST, port=25) as sink:
        tree.zone("good.test", zone_of(domains, live), signed=False)
        tree.publish()
        config = {"dns": tree.options, "timeouts": {"drain": "1s"},
                  "retry": {"schedule": ["1m"], "host_pause": "1m"},
                  "limits": {"exempt": ["127.0.0.0/8"], "mails_max": 1000000}}
        with Ringpost(folder / "relay", config, [{"domain": "*", "to": "mx"}]) as relay:
            subprocess.run([os.environ["RINGPOST_BENCH"], "source", "--relay",
                            f"{relay.host}:{relay.port}", "--domain", "good.test", "--domains",
                            str(domains), "--messages", str(mails), "--connections", "20",
                            "--mode", "pipelined"], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            accepted = {}
            with Client(relay.host, relay.port) as client:
                client.greet()
                for n in range(live):
                    client.mail(recipients=[f"u@l{n}.good.test"])
                    accepted[f"u@l{n}.good.test"] = time.monotonic_ns()
            sink.wait(live)
            took = [(mail.replied_ns - accepted[mail.recipients[0]]) / 1e6 for mail in sink.mails]
            relay.wait_metric(lambda m: m.sum("ringpost_queue_mails") == mails,
                              "all mails to the dead in the queue")
            print(json.dumps({"took_ms": sorted(took), "pss_mib": pss_mib(relay.process.pid)}))


if __name__ == "__main__":
    main()
