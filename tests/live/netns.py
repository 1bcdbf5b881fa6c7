# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, one for each of some programs, which can be cut off from an address.

Each has a pair of virtual interfaces to this machine's own namespace, and nothing else: no byte
leaves the machine. Servers listen on `address(0)` and the other end of the first pairs, which all
can reach. cut() makes a namespace drop what it sends to an address, without a word, as a broken
network does. Needs root and `ip`; see can_be_made().
"""
import contextlib
import functools
import itertools
import os
import shutil
import subprocess

NETWORKS = 512  # of 256 addresses, in 198.18.0.0/15, which is for tests (RFC 2544)

_serial = itertools.count()


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done


def remove_stale():
    """Those of a test that was killed."""
    for line in ip("netns", "list").stdout.splitlines():
        name = line.split()[0]
        mark, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if mark == "ringpost" and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            ip("netns", "del", name, check=False)


class Namespaces:
    def __init__(self, count):
        self.count = count
        # Interfaces go a moment after their namespace: no name comes twice.
        self.serial = next(_serial)
        self.names = [f"ringpost-{os.getpid()}-{self.serial}-{n}" for n in range(count)]
        self.links = [f"rp{os.getpid()}.{self.serial}.{n}" for n in range(count)]
        self.made = []

    def free_network(self):
        taken = ip("-o", "-4", "address").stdout
        first = os.getpid() + 50 * self.serial
        for n in range(first, first + NETWORKS):
            prefix = f"198.{18 + n % NETWORKS // 256}.{n % 256}."
            if prefix not in taken:
                return prefix
        raise AssertionError("no network of 198.18.0.0/15 is free")

    def outside(self, number):
        """An address of this machine that all namespaces can reach."""
        return f"{self.prefix}{4 * number + 1}"

    def inside(self, number):
        return f"{self.prefix}{4 * number + 2}"

    def enter(self, number):
        """What a command begins with to run there."""
        return ["ip", "netns", "exec", self.names[number]]

    def make(self, number):
        name, link = self.names[number], self.links[number]
        ip("netns", "add", name)
        self.made.append(name)
        ip("link", "add", link, "type", "veth", "peer", "name", "out", "netns", name)
        ip("address", "add", f"{self.outside(number)}/30", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", name, "address", "add", f"{self.inside(number)}/30", "dev", "out")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "out", "up")
        ip("-n", name, "route", "add", "default", "via", self.outside(number))

    def cut(self, number, address):
        ip("-n", self.names[number], "route", "add", "blackhole", f"{address}/32")

    def mend(self, number, address):
        ip("-n", self.names[number], "route", "del", "blackhole", f"{address}/32")

    def __enter__(self):
        remove_stale()
        self.prefix = self.free_network()
        try:
            for number in range(self.count):
                self.make(number)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """The interfaces go with the namespaces."""
        for name in self.made:
            ip("netns", "del", name, check=False)


@functools.cache
def can_be_made():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    with contextlib.suppress(AssertionError), Namespaces(1):
        return True
    return False
