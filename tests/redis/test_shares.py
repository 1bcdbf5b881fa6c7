# SPDX-License-Identifier: Apache-2.0
"""What a Redis server counts of limits that hold for all nodes: on a real one, whose clock stands
still until it is moved, and on the model of one that tests/fault has."""
import random

import pytest
from server import RedisError

TAG = "{ringpost:3}"
HOUR_MS = 3600 * 1000
WINDOW_MS = HOUR_MS // 6
LEASE_MS, TURN_MS = 30000, 2000


@pytest.fixture
def shares(clocked):
    client, clock, wakes = clocked
    assert client.load_shares() == b"ringpost_shares_1"
    return Shares(client, clock, wakes)


class Shares:
    def __init__(self, client, clock, wakes):
        self.client, self.clock, self.wakes = client, clock, wakes

    def ask(self, function, key, *arguments):
        return self.client.call("FCALL", function, 1, f"{TAG}:limit:{key}", *arguments)

    def use(self, most, need=1, want=1, given=0, window=0, period_ms=HOUR_MS):
        return self.ask("rs1_use", "use:user:ann", "mh", period_ms, most, need, want, given,
                        window)

    def hold(self, node, most, has, wanted):
        return self.ask("rs1_hold", "hold:site:x", node, most, has, wanted, LEASE_MS, TURN_MS)

    def strike(self, most=3, locks=0, text="ann"):
        return self.ask("rs1_strike", "strike:user:0123", most, 60000, 90000, locks, text)


def test_both_libraries_are_there(shares):
    assert shares.client.call("FCALL", "rp_version", 0) == 2
    shares.client.load_functions()
    assert shares.use(5)[0] == 1
    with pytest.raises(RedisError, match="already exists"):
        shares.client.call("FUNCTION", "LOAD", b"#!lua name=ringpost_shares_1\n")


# ---- how often within a period ----

@pytest.mark.parametrize("most, need, want, granted", [
    (5, 1, 1, 1), (5, 3, 1, 3), (5, 9, 1, 5), (5, 0, 4, 1), (100, 1, 256, 6), (1600, 1, 50, 50),
    (1600, 1, 256, 100), (0, 1, 1, 0),
])
def test_a_portion_is_a_part_of_what_is_left(shares, most, need, want, granted):
    answer = shares.use(most, need, want)
    assert answer[0] == granted and answer[3] == most - granted


def test_what_was_handed_out_counts_for_a_period_wherever_it_begins(shares):
    shares.clock.move(WINDOW_MS - shares.clock.now % WINDOW_MS)  # a window begins
    assert shares.use(10, need=4)[:3] == [4, shares.clock.now // WINDOW_MS, WINDOW_MS]
    shares.clock.move(WINDOW_MS - 1)
    assert shares.use(10, need=9)[::2] == [6, 1]
    for _ in range(6):
        shares.clock.move(WINDOW_MS)
        assert shares.use(10)[0] == 0
    shares.clock.move(1)  # the first window, and the use at its very end, are a period ago
    assert shares.use(10, need=99)[0] == 10


def test_what_is_given_back_can_be_had_again(shares):
    granted, window, _, _ = shares.use(4, need=4)
    assert granted == 4 and shares.use(4)[0] == 0
    assert shares.use(4, need=1, given=3, window=window)[::3] == [1, 2]
    # More than there is makes no more than there was.
    assert shares.use(4, need=9, given=77, window=window)[0] == 4
    assert shares.use(4, need=1, given=5, window=window - 1)[0] == 0


def test_what_is_over_leaves_nothing(shares):
    for _ in range(40):
        shares.use(1000, need=2)
        shares.clock.move(WINDOW_MS)
    key = f"{TAG}:limit:use:user:ann"
    assert shares.client.call("HLEN", key) <= 8
    assert 0 < shares.client.call("PTTL", key) <= 9 * WINDOW_MS


def test_in_no_period_more_is_handed_out(shares):
    """At random times, by several nodes that give some of it back."""
    draw = random.Random(1)
    taken = []
    for _ in range(600):
        shares.clock.move(draw.randrange(HOUR_MS // 20))
        granted, window, ends_ms, _ = shares.use(30, draw.randrange(4), draw.randrange(9))
        assert window == shares.clock.now // WINDOW_MS and 0 < ends_ms <= WINDOW_MS
        back = draw.randrange(granted + 1) if draw.random() < 0.3 else 0
        if back:
            shares.use(30, 0, 0, back, window)
        # The rest may be used until the end of the window.
        taken.append((shares.clock.now, shares.clock.now + ends_ms, granted - back))
    most = max(sum(n for first, last, n in taken if first < begin + HOUR_MS and last > begin)
               for begin, _, _ in taken)
    assert 20 <= most <= 30 + 9


# ---- so many at a time ----

def test_never_more_places_than_there_are(shares):
    """Nodes that want, give and die at random; what they know is what they were answered."""
    draw = random.Random(2)
    most = 5
    nodes = {name: {"held": 0, "until": 0} for name in "abcd"}
    full = 0
    for _ in range(3000):
        shares.clock.move(draw.choice([0, 1, 50, 400, 3000]))
        name = draw.choice("abcd")
        node = nodes[name]
        if draw.random() < 0.02:
            shares.clock.move(LEASE_MS)  # nobody says anything for so long
        if node["until"] <= shares.clock.now:
            node["held"] = 0
        has = draw.randrange(node["held"] + 1)
        held, keep, until_less, contended = shares.hold(name, most, has, draw.randrange(9))
        assert 0 <= keep <= held and until_less <= TURN_MS and contended in (0, 1)
        node.update(held=held, until=shares.clock.now + LEASE_MS)
        total = sum(n["held"] for n in nodes.values() if n["until"] > shares.clock.now)
        assert total <= most
        full += total == most
    assert full > 500


def test_nodes_that_want_all_have_equal_parts(shares):
    held = {name: 0 for name in "abc"}
    for _ in range(6):
        for name in held:
            answer = shares.hold(name, 9, held[name], 20)
            held[name] = answer[1]  # it closes at once what it may not keep
            shares.hold(name, 9, held[name], 20)
    assert held == {"a": 3, "b": 3, "c": 3}


def test_one_place_goes_round_in_the_order_of_asking(shares):
    assert shares.hold("a", 1, 0, 5) == [1, 1, -1, 0]
    shares.clock.move(500)
    assert shares.hold("b", 1, 0, 5)[0] == 0
    shares.clock.move(10)
    assert shares.hold("c", 1, 0, 5)[0] == 0
    assert shares.hold("a", 1, 1, 5) == [1, 1, TURN_MS - 510, 1]
    shares.clock.move(TURN_MS - 510)
    assert shares.hold("a", 1, 1, 5)[:2] == [1, 0]
    assert shares.hold("a", 1, 0, 5)[0] == 0
    assert shares.hold("c", 1, 0, 5)[0] == 0, "b has waited for longer"
    assert shares.hold("b", 1, 0, 5)[0] == 1


def test_what_is_idle_goes_first(shares):
    shares.hold("a", 4, 0, 4)
    assert shares.hold("b", 4, 0, 2)[0] == 0
    assert shares.hold("a", 4, 4, 1)[:2] == [4, 2]


def assert_heard(shares, heard, expected):
    """On the model how many there were is all that is known."""
    if not hasattr(heard, "listener"):
        assert heard.count(shares.client, None) == len(expected)
        return
    said = []
    shares.client.call("PUBLISH", "{ringpost}:wake", "end")
    while (message := heard.listener.read()[2]) != b"end":
        said.append(message.decode())
    heard.listener.close()
    assert said == expected


def test_who_lacks_places_and_who_frees_them_tells(shares):
    heard = shares.wakes("{ringpost}:wake")
    shares.hold("a", 1, 0, 1)
    shares.hold("b", 1, 0, 1)  # tells that it wants one,
    shares.hold("b", 1, 0, 1)  # once
    shares.hold("a", 1, 0, 0)  # tells that one is free
    shares.hold("b", 1, 0, 1)
    shares.hold("b", 1, 0, 0)  # nobody wants to know
    key = f"{TAG}:limit:hold:site:x"
    assert_heard(shares, heard, [f"limit want {key}", f"limit free {key}"])
    assert shares.client.call("EXISTS", f"{TAG}:limit:hold:site:x") == 0


# ---- one after the other ----

def test_turns_follow_each_other(shares):
    def pace(count, interval_us=100000):
        return shares.ask("rs1_pace", "pace:site:x", interval_us, count)
    assert pace(10) == 0
    assert pace(1) == 1000000
    shares.clock.move(700)
    assert pace(1) == 400000
    shares.clock.move(5000)
    assert pace(1) == 0, "what nobody took is lost"
    assert 0 < shares.client.call("PTTL", f"{TAG}:limit:pace:site:x") <= 1000


# ---- failures ----

def test_the_third_failure_locks_and_the_index_says_so(shares):
    assert shares.strike() == [1, 0, 60000, 0]
    shares.clock.move(59999)
    assert shares.strike() == [2, 0, 60000, 0]
    assert shares.strike() == [3, 1, 90000, 1]
    shares.clock.move(1000)
    assert shares.strike() == [3, 1, 89000, 0], "no longer by trying"
    index = f"{TAG}:limit:locks"
    assert shares.client.call("ZRANGE", index, 0, -1, "WITHSCORES") == [
        f"{TAG}:limit:strike:user:0123 ann".encode(), str(shares.clock.now + 89000).encode()]
    shares.clock.move(89000)
    assert shares.strike() == [1, 0, 60000, 0]


def test_failures_are_forgotten_but_a_lock_is_not(shares):
    heard = shares.wakes("{ringpost}:wake")
    shares.strike()
    assert shares.ask("rs1_forgive", "strike:user:0123") == 1
    assert shares.ask("rs1_forgive", "strike:user:0123") == 0
    assert_heard(shares, heard, [f"limit forgive {TAG}:limit:strike:user:0123"])  # once
    assert shares.strike()[0] == 1
    assert shares.strike(locks=1)[1] == 1
    assert shares.ask("rs1_forgive", "strike:user:0123") == 0
    assert shares.strike()[1] == 1
    assert shares.ask("rs1_lift", "strike:user:0123") == 1
    assert shares.ask("rs1_lift", "strike:user:0123") == 0
    assert shares.client.call("ZCARD", f"{TAG}:limit:locks") == 0
    assert shares.strike()[0] == 1


@pytest.mark.parametrize("function, arguments", [
    ("rs1_use", ("mh", 1000, 1, 1, 1, 0)), ("rs1_use", ("mh", "x", 1, 1, 1, 0, 0)),
    ("rs1_hold", ("a", -1, 0, 1, 1000, 1000)), ("rs1_pace", ("x", 1)),
    ("rs1_strike", ("x", 1, 1, 0, "")),
])
def test_wrong_arguments_change_nothing(shares, function, arguments):
    with pytest.raises(RedisError):
        shares.ask(function, "use:user:ann", *arguments)
    assert shares.client.call("KEYS", "*") == []
