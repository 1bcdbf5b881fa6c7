#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What SPF costs, on one machine with the generator: the rate with it against the rate without it.

    spf.py [--mode pipelined|lockstep] [--rounds 5] [--seconds 5]

Senders of 1000 domains in turn, from one client that is handed on by the PROXY protocol. Each
domain's record includes two others and has an `a`: three lookups, all in the cache once each domain
was seen, and the last one matches. The client's name is looked at, too (iprev). The records are in
a signed tree, served by nsd. With and without alternate, over two listeners of one relay; the
median of the rounds decides. The exit status is 1 where less than 90 % of the rate is left.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import harness
from dns_tree import Tree
from endure import bench, read
from pairs import compare
from relays.ringpost import Ringpost

DOMAINS = 1000
CLIENT = "192.0.2.1:4000"
ZONE = "\n".join([
    'one TXT "v=spf1 ip4:198.51.100.0/24 -all"', 'two TXT "v=spf1 ip4:192.0.2.0/24 -all"',
    "mail A 192.0.2.1",
    *(f'd{n} TXT "v=spf1 a include:one.bench.test include:two.bench.test -all"\nd{n} A 203.0.113.1'
      for n in range(DOMAINS))])

OPTIONS = """listeners:
  - {{ address: "{address}", role: relay }}
  - {{ address: "{without}", role: relay, proxy_from: [127.0.0.0/8], spf: {{ enabled: false }} }}
  - {{ address: "{checked}", role: relay, proxy_from: [127.0.0.0/8] }}
dns:
  forwarders: ["{forwarder}"]
  trust_anchors: "{anchor}"
  special_zones: [test]
  hosts_file: none
"""


class CheckingRingpost(Ringpost):
    """The same with a listener behind a proxy that checks, and one that does not."""

    def set_up(self):
        super().set_up()
        file = self.folder / "ringpost.yaml"
        text = file.read_text()
        for old, new in (
                (f'listeners:\n  - {{ address: "{self.address}", role: relay }}\n',
                 OPTIONS.format(address=self.address, without=self.without, checked=self.checked,
                                forwarder=self.tree.forwarder, anchor=self.tree.anchor)),
                ("networks: [127.0.0.0/8]", "domains: [{ name: sink.test, recipients: any }]"),
                ("exempt: [127.0.0.0/8]", "exempt: [0.0.0.0/0]")):
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)


def load(relay, file, address, what, *arguments):
    subprocess.run(bench(["run", "--relay", address, "--sink",
                          f"{relay.sink_host}:{relay.sink_port}", "--relay-pid", relay.root_pid(),
                          "--proxy", CLIENT, "--from", "source@bench.test", "--from-domains",
                          DOMAINS, "--connections", 50, "--baseline", "0s", "--json", file,
                          "--label", what, "--scenario", "SPF of 1000 domains", *arguments]),
                   check=True, stdout=subprocess.DEVNULL)
    return read(file)


def measure(relay, out, arguments):
    listeners = {"without SPF": relay.without, "with SPF": relay.checked}
    load(relay, out / "warm.json", relay.checked, "warm", "--messages", 4 * DOMAINS)

    def run(name, n):
        what = name.split()[0]
        return load(relay, out / f"{what}-{n}.json", listeners[name], what, "--mode",
                    arguments.mode, "--seconds", f"{arguments.seconds}s")
    return compare(list(listeners), run, arguments.rounds, arguments.mode)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mode", choices=["pipelined", "lockstep"], default="pipelined")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--out", default=None, help="folder for the results")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out or tempfile.mkdtemp(prefix="ringpost-spf."))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringpost-spf.", dir="/var/tmp") as folder, \
            Tree(pathlib.Path(folder) / "tree") as tree:
        tree.zone("bench.test", ZONE, ttl=3600)
        tree.zone("2.0.192.in-addr.arpa", "1 PTR mail.bench.test.", ttl=3600)
        tree.publish()
        address = harness.address()
        relay = CheckingRingpost(pathlib.Path(folder) / "ringpostd", (address, harness.free_port()))
        relay.tree = tree
        relay.without, relay.checked = (f"{address}:{harness.free_port()}" for _ in range(2))
        with relay.running():
            good = measure(relay, out, arguments)
    print(f"results in {out}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
