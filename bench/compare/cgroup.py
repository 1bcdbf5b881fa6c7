# SPDX-License-Identifier: Apache-2.0
"""CPU time of a relay with all that it ever forked, from a cgroup (version 2) of its own.

Sums over a tree of processes miss those that ended without being waited for: Exim ignores SIGCHLD,
so the time of its deliveries would be nobody's. A cgroup keeps it. Needs root; where there is no
cgroup, the sums of ringpost-bench stand alone.
"""
import os
import pathlib
import re


def mount_point():
    """Where version 2 is mounted, alone or beside version 1; None where it is not."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            if rest.split()[0] == "cgroup2":
                return pathlib.Path(fields.split()[4])
    return None


class Cgroup:
    def __init__(self, name):
        root = mount_point()
        self.path = root / f"ringpost-compare-{os.getpid()}-{name}" if root else None
        try:
            if self.path:
                self.path.mkdir()
        except OSError:
            self.path = None

    def join(self):
        """For a child between fork and exec."""
        if self.path:
            with open(self.path / "cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")

    def cpu_us(self):
        """User and system time so far, or None."""
        if not self.path:
            return None
        found = re.search(r"^usage_usec (\d+)$", (self.path / "cpu.stat").read_text(), re.M)
        return int(found.group(1)) if found else None

    def remove(self):
        """When its processes have ended."""
        if self.path:
            self.path.rmdir()
            self.path = None
