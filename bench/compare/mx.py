#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What MX records cost, on one machine with the generator: the rate with them against the rate of a
route that names the next hop by number.

    mx.py [--mode pipelined|lockstep] [--rounds 3] [--seconds 8] [--ttl 60]
    mx.py --against postfix [--rounds 3] [--seconds 8]

Recipients of 1000 domains in turn. Each has an MX record of its own in a zone that nsd serves, all
with the same host; the relay may keep the answers, and that there is no policy of MTA-STS, for
--ttl seconds (the large providers' live for five minutes to hours). The other way goes to the same
sink by its number. Both alternate, over one relay; the median of the rounds decides. The exit
status is 1 where less than 90 % of the rate is left. Hosts of MX records listen on port 25, so
this needs root.

--against postfix: Postfix, which looks nothing up, in turns with ringpostd by MX, for each bar of
the matrix for its rate; the exit status is 1 where one is missed by more than a tenth.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import harness
import matrix
from dns_tree import Tree
from endure import bench, read
from pairs import compare
from relays.postfix import Postfix
from relays.ringpost import Ringpost

DOMAINS = 1000
SINK = "127.78.0.1"
ZONE = "\n".join([f"mx A {SINK}", *(f"d{n} MX 10 mx" for n in range(DOMAINS))])

TOLERANCE = 0.9

ROUTES = """routes:
  - {{ domain: ".mx.test", to: mx, connections: {connections} }}
  - {{ domain: "*", to: "smtp://{sink}:25", connections: {connections} }}
dns:
  forwarders: ["{forwarder}"]
  trust_anchors: "{anchor}"
  special_zones: [test]
  hosts_file: none
"""


class LookingRingpost(Ringpost):
    """The same with a route to MX hosts."""

    def set_up(self):
        super().set_up()
        file = self.folder / "ringpost.yaml"
        before, _, rest = file.read_text().partition("routes:\n")
        routes, limits, rest = rest.partition("limits:\n")
        assert "smtp://" in routes and limits
        routes = ROUTES.format(sink=SINK, connections=self.connections,
                               forwarder=self.tree.forwarder, anchor=self.tree.anchor)
        file.write_text(before + routes + limits + rest)


def load(relay, file, domain, *arguments):
    subprocess.run(bench(["run", "--relay", relay.address, "--sink", f"{SINK}:25", "--relay-pid",
                          relay.root_pid(), "--domain", domain, "--domains", DOMAINS,
                          "--connections", 50, "--baseline", "0s", "--json", file, "--label",
                          domain, "--scenario", "1000 domains", *arguments]),
                   check=True, stdout=subprocess.DEVNULL)
    return read(file)


def measure(relay, out, arguments):
    domains = {"by number": "number.test", "by MX": "mx.test"}
    for domain in domains.values():
        load(relay, out / "warm.json", domain, "--messages", 4 * DOMAINS)

    def run(name, n):
        domain = domains[name]
        return load(relay, out / f"{domain}-{n}.json", domain, "--mode", arguments.mode,
                    "--seconds", f"{arguments.seconds}s")
    return compare(list(domains), run, arguments.rounds, arguments.mode)


def measure_against(other, relay, out, arguments):
    relays = {"Postfix": (other, "number.test"), "ringpostd by MX": (relay, "mx.test")}
    good = True
    for bar in matrix.BARS:
        if bar.kind != "rate" or bar.relay != relay.name:
            continue
        scenario = matrix.scenario(bar.scenario)
        load(relay, out / "warm.json", "mx.test", "--messages", 4 * DOMAINS)

        def run(name, n):
            one, domain = relays[name]
            return load(one, out / f"{domain}-{scenario.name}-{n}.json", domain,
                        "--mode", scenario.mode, "--size", scenario.size, "--per-connection",
                        scenario.per_connection, "--seconds", f"{arguments.seconds}s")
        good &= compare(list(relays), run, arguments.rounds, scenario.title,
                        TOLERANCE * bar.least)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mode", choices=["pipelined", "lockstep"], default="pipelined")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--ttl", type=int, default=60)
    parser.add_argument("--against", choices=["postfix"])
    parser.add_argument("--out", default=None, help="folder for the results")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out or tempfile.mkdtemp(prefix="ringpost-mx."))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringpost-mx.", dir="/var/tmp") as folder, \
            Tree(pathlib.Path(folder) / "tree") as tree:
        pathlib.Path(folder).chmod(0o755)  # servers drop to users of their own
        tree.zone("mx.test", ZONE, ttl=arguments.ttl, negative_ttl=arguments.ttl)
        tree.publish()
        relay = LookingRingpost(pathlib.Path(folder) / "ringpostd", (SINK, 25))
        relay.tree = tree
        with relay.running():
            if arguments.against is None:
                good = measure(relay, out, arguments)
            else:
                other = Postfix(pathlib.Path(folder) / "postfix", (SINK, 25))
                with other.running():
                    good = measure_against(other, relay, out, arguments)
    print(f"results in {out}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
