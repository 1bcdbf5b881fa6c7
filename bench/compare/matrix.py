# SPDX-License-Identifier: Apache-2.0
"""What is measured: the scenarios, and the bars that Ringpost is held to. Data only."""
import collections

# size: of a mail; mode: as ringpost-bench takes it; per_connection: mails over one connection of
# the generator, 0 for all.
Scenario = collections.namedtuple("Scenario", "name title size mode per_connection")

CONNECTIONS = 50

SCENARIOS = (
    Scenario("1k-lockstep", "1 KiB, lockstep", "1KiB", "lockstep", 0),
    Scenario("1k-pipelined", "1 KiB, pipelined", "1KiB", "pipelined", 0),
    Scenario("10k-lockstep", "10 KiB, lockstep", "10KiB", "lockstep", 0),
    Scenario("10k-pipelined", "10 KiB, pipelined", "10KiB", "pipelined", 0),
    Scenario("100k-lockstep", "100 KiB, lockstep", "100KiB", "lockstep", 0),
    Scenario("100k-pipelined", "100 KiB, pipelined", "100KiB", "pipelined", 0),
    Scenario("1k-single", "1 KiB, one mail a connection", "1KiB", "lockstep", 1),
)

# kind: "rate", how often the other's rate is to be reached; "cpu", how often the other's CPU time a
# mail is to be undercut; "share", of the rate without relay; "memory", how often the other's PSS is
# to be undercut. relay: who is held to it.
Bar = collections.namedtuple("Bar", "scenario kind least relay", defaults=("ringpostd",))

AGAINST = "postfix"

BARS = (
    Bar("1k-lockstep", "rate", 20),
    Bar("1k-pipelined", "rate", 35),
    Bar("10k-lockstep", "rate", 12),
    Bar("10k-pipelined", "rate", 20),
    Bar("100k-lockstep", "rate", 4),
    Bar("100k-pipelined", "rate", 4),
    Bar("1k-single", "rate", 12),
    Bar("1k-lockstep", "cpu", 35),
    Bar("1k-pipelined", "cpu", 60),
    Bar("1k-lockstep", "share", 0.35),
    Bar("1k-pipelined", "share", 0.25),
    Bar("1k-lockstep", "memory", 3),
    Bar("1k-pipelined", "memory", 3),
    Bar("1k-lockstep", "rate", 14, "ringpostd-redis"),
    Bar("10k-lockstep", "rate", 9, "ringpostd-redis"),
)


def scenario(name):
    return next(s for s in SCENARIOS if s.name == name)
