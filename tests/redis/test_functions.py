# SPDX-License-Identifier: Apache-2.0
"""What the random sequences can not show of the functions of the Redis store: limits, other keys,
memory, errors, and time that really passes."""
import re

import pytest
from server import FUNCTIONS, RedisError

TAG = "{ringpost:3}"
INC, OTHER = "a" * 32, "b" * 32
LEASE_MS = 30000
STATE = bytes(15) + b"451 4.7.1 come back later"


def mail_id(number):
    return f"{number:032x}"


def as_sets(rows):
    return [(id, set(zip(fields[::2], fields[1::2]))) for id, fields in rows]


class Node:
    """An incarnation that works on one shard."""

    def __init__(self, client, inc=INC):
        self.client, self.inc = client, inc

    def ask(self, name, *arguments):
        return self.client.call("FCALL", name, 1, TAG, *arguments)

    def put(self, id, pieces=1, pending=1, lease_ms=LEASE_MS, envelope=b"e" * 150):
        for number in range(pieces):
            self.client.call("SET", f"{TAG}:b:{id}:{number}", b"0body", "EX", 3600)
        return self.ask("rp_commit", self.inc, lease_ms, id, pieces, pending, envelope)[0]

    def record(self, id, values, release_ms="", lane="", notice=()):
        flat = [x for pair in values for x in pair]
        return self.ask("rp_record", self.inc, id, release_ms, lane, len(values), *flat, *notice)


@pytest.fixture
def node(redis):
    return Node(redis)


def test_every_function_is_there_with_its_flags(redis):
    library = redis.call("FUNCTION", "LIST", "LIBRARYNAME", "ringpost_1")[0]
    rows = dict(zip(library[::2], library[1::2]))[b"functions"]
    flags = {row[1].decode(): set(row[5]) for row in rows}
    reads = {"rp_look", "rp_count", "rp_scan", "rp_fresh", "rp_nodes", "rp_owners", "rp_version"}
    assert {name for name in flags if flags[name] == {b"no-writes"}} == reads
    writes = ("commit record records release claim take recover renew retire cancel act node "
              "node_stops drain ask answer arrive arrived depart").split()
    assert set(flags) - reads == {"rp_" + name for name in writes}
    # What frees memory must run when there is none.
    assert {name for name in flags if not flags[name]} == {"rp_commit", "rp_arrive"}
    assert redis.call("FCALL", "rp_version", 1, TAG) == 2


def test_no_key_is_named_outside_its_shard():
    """Every key is made from the tag; in a cluster another one would be refused."""
    text = FUNCTIONS.decode()
    keys = re.findall(r"call\('[A-Z]+', ([^,)]+)", text)
    assert len(keys) > 50
    for key in keys:
        assert key.startswith("tag .. ':") or key in ("m", "due", "own", "theirs", "body", "last",
                                                      "unpack(names", "unpack(turn.keys",
                                                      "'{' .. prefix .. '}:wake'"), key
    for line in text.splitlines():
        listed = re.match(r"\s*(?:names|turn\.keys)\[.*\] = (.*)", line)
        assert not listed or listed[1].startswith("tag .. ':") or listed[1] == "m", line


def test_many_pieces_and_many_recipients(node):
    """More than what fits one command: 2500 pieces (640 MiB), 3000 recipients."""
    id = mail_id(1)
    assert node.put(id, pieces=2500, pending=3000) == b"OK"
    assert node.client.call("PTTL", f"{TAG}:b:{id}:2499") == -1
    values = [(index, b"P" + STATE) for index in range(3000)]
    assert node.record(id, values) == [b"OK", 3000]
    assert node.record(id, [(i, b"D" + STATE) for i in range(0, 3000, 2)]) == [b"OK", 1500]
    assert node.client.call("HGET", f"{TAG}:m:{id}", "r2998") == b"D" + STATE
    assert node.client.call("HGET", f"{TAG}:m:{id}", "r2999") == b"P" + STATE
    assert node.record(id, [(i, b"F" + STATE) for i in range(3000)]) == [b"OK", 0]
    assert node.client.call("KEYS", "*") == [f"{TAG}:leases".encode()]


def test_a_missing_piece_makes_none_of_them_permanent(node):
    id = mail_id(1)
    node.client.call("SET", f"{TAG}:b:{id}:0", b"0", "EX", 3600)
    node.client.call("SET", f"{TAG}:b:{id}:2", b"0", "EX", 3600)
    assert node.ask("rp_commit", INC, LEASE_MS, id, 3, 1, b"e") == [b"NOBODY"]
    assert 0 < node.client.call("TTL", f"{TAG}:b:{id}:0") <= 3600
    assert node.client.call("EXISTS", f"{TAG}:m:{id}", f"{TAG}:own:{INC}") == 0


def test_recover_gives_what_is_still_ours_and_forgets_what_is_no_more(node):
    for number in range(3):
        node.put(mail_id(number), lease_ms=60)
    node.record(mail_id(1), [], 0, "small.example")
    node.client.call("SADD", f"{TAG}:own:{INC}", mail_id(9))  # as if its mail had been deleted
    ids = [mail_id(number) for number in (0, 1, 2, 9, 10)]
    rows = as_sets(node.ask("rp_recover", INC, LEASE_MS, *ids)[1:])
    assert [id.decode() for id, _ in rows] == [mail_id(0), mail_id(2)]
    assert all((b"o", INC.encode()) in fields and (b"e", b"e" * 150) in fields
               for _, fields in rows)
    own = node.client.call("SMEMBERS", f"{TAG}:own:{INC}")
    assert sorted(own) == [mail_id(0).encode(), mail_id(2).encode()]
    # Whoever has mails has a lease, and of some length.
    now = node.ask("rp_look")[0]
    assert int(node.client.call("HGET", f"{TAG}:leases", INC)) - now > LEASE_MS // 2
    assert len(node.ask("rp_recover", OTHER, LEASE_MS, *ids)) == 1


def test_each_mail_of_a_command_gets_its_own_verdict(node):
    ids = [mail_id(number) for number in range(6)]
    for id in (ids[0], ids[2], ids[4]):
        node.client.call("SET", f"{TAG}:b:{id}:0", b"0body", "EX", 3600)
    node.ask("rp_cancel", INC, ids[3])
    Node(node.client, OTHER).put(ids[5])
    mails = [x for id in ids for x in (id, 1, 1, b"envelope of " + id.encode())]
    assert node.ask("rp_commit", INC, LEASE_MS, *mails) == [
        b"OK", b"NOBODY", b"OK", b"GONE", b"OK", b"LOST"]
    assert node.client.call("HGET", f"{TAG}:m:{ids[4]}", "e") == b"envelope of " + ids[4].encode()
    assert node.client.call("PTTL", f"{TAG}:b:{ids[4]}:0") == -1
    done = ["", "", "", 1, 0, b"D" + STATE]
    assert node.ask("rp_records", INC, ids[0], *done, ids[1], *done, ids[2], 700, "a.example", 7, 0,
                    ids[0], *done, ids[5], *done, ids[4], *done) == [
        b"OK", 0, b"GONE", 0, b"OK", 1, b"GONE", 0, b"LOST", 0, b"OK", 0]
    # Of ids[2], which waits; nothing is left of the others but the tombstone.
    assert sorted(node.client.call("KEYS", "*")) == sorted(
        f"{TAG}:{name}".encode() for name in (
            f"m:{ids[2]}", f"b:{ids[2]}:0", "due:a.example", "heads", "index", "leases", "waiting",
            f"x:{ids[3]}"))


def test_lanes_are_served_in_turn(node):
    """A thousand mails of one lane, all due before, hold up nobody."""
    for number in range(100):
        node.put(mail_id(number))
        node.record(mail_id(number), [], 0, "big.example")
    for number in range(100, 103):
        node.put(mail_id(number))
        node.record(mail_id(number), [], 0, f"small{number}.example")
    reply = node.ask("rp_claim", OTHER, LEASE_MS, 16)
    lanes = [dict(zip(row[1][::2], row[1][1::2]))[b"k"] for row in reply[2:]]
    assert lanes.count(b"big.example") == 3
    assert len(lanes) == 6
    assert reply[1] == 0  # more is due


def test_what_has_given_a_mail_back_is_heard_once_and_again(node):
    id, change = mail_id(1), ("77",)
    node.put(id)
    first = [(0, b"P" + STATE)]
    assert node.record(id, first, 0, "a.example", change) == [b"OK", 1]
    # Whoever has not heard so asks again, and may not take it back from the next owner.
    assert node.record(id, first, 0, "a.example", change) == [b"OK", 1]
    assert len(node.ask("rp_claim", OTHER, LEASE_MS, 16)) == 3
    assert node.record(id, first, 0, "a.example", change) == [b"OK", 1]
    assert node.client.call("HGET", f"{TAG}:m:{id}", "o") == OTHER.encode()
    # Another change is another's.
    assert node.record(id, first, 0, "a.example", ("78",)) == [b"LOST", 1]


def test_wrong_arguments_change_nothing(node):
    id = mail_id(1)
    node.client.call("SET", f"{TAG}:b:{id}:0", b"0", "EX", 3600)
    wrong = [
        ("rp_commit", INC, LEASE_MS, id, "x", 1, b"e"),
        ("rp_commit", INC, "soon", id, 1, 1, b"e"),
        ("rp_commit", INC, LEASE_MS, id, 1, 1.5, b"e"),
        ("rp_commit", INC, LEASE_MS, id, 1, 1),
        ("rp_commit", INC, LEASE_MS),
        ("rp_commit", INC, LEASE_MS, id, 1, 1, b"e", mail_id(2), "x", 1, b"e"),
        ("rp_commit", INC, LEASE_MS, *(257 * [id, 1, 1, b"e"])),
        ("rp_records", INC),
        ("rp_records", INC, id, "", "", "", 0, id, "", "", "", 1, 0),
        ("rp_records", INC, *(257 * [id, "", "", "", 0])),
        ("rp_record", INC, id, "", "", 2, 0, b"D"),
        ("rp_record", INC, id, "-1", "", 0),
        ("rp_release", INC, id, 10),
        ("rp_claim", INC, LEASE_MS, "all"),
        ("rp_act", id, "burn"),
        ("rp_scan", "", "all"),
        ("rp_node", INC, "soon", "text"),
        ("rp_ask", INC, "token", id, "burn", "who", "why"),
        ("rp_ask", INC, "token", id, "hold", "who"),
        ("rp_arrive", id, 1, 5, 1, b"e", 0, "soon", "a.example"),
        ("rp_arrive", id, 1, 5, 1, b"e", 0, 0, "a.example", 0),
        ("rp_arrived",),
        ("rp_depart", id, "", 0, 1),
    ]
    for request in wrong:
        with pytest.raises(RedisError):
            node.ask(*request)
    assert node.client.call("KEYS", "*") == [f"{TAG}:b:{id}:0".encode()]
    assert node.put(id, pending=2) == b"OK"
    with pytest.raises(RedisError, match="twice"):
        node.record(id, [(0, b"D"), (0, b"D")])
    assert node.client.call("HGET", f"{TAG}:m:{id}", "n") == b"2"


def test_mails_deleted_behind_its_back_are_passed_over(clocked):
    client, clock, _ = clocked
    node = Node(client)

    def delete(*numbers):
        client.call("DEL", *[f"{TAG}:m:{mail_id(number)}" for number in numbers])

    def there(rows):
        return sorted(int(row[0], 16) for row in rows)
    for number in range(7):
        node.put(mail_id(number))
    for number in range(3):
        node.record(mail_id(number), [], 0, "a.example")
    delete(0, 4)
    assert there(node.ask("rp_claim", OTHER, LEASE_MS, 64)[2:]) == [1, 2]
    assert node.ask("rp_retire", INC, 64) == 0
    assert there(node.ask("rp_claim", OTHER, LEASE_MS, 64)[2:]) == [3, 5, 6]
    assert node.ask("rp_count")[1:] == [0, 0, 5, 0, 0]
    delete(1)
    clock.move(LEASE_MS)
    assert there(node.ask("rp_take", INC, LEASE_MS, 64)[2:]) == [2, 3, 5, 6]
    delete(3)
    assert node.ask("rp_retire", INC, 64) == 0
    assert there(node.ask("rp_scan", "", 64)) == [2, 5, 6]


def test_a_lease_ends_and_another_takes_over(node):
    """In real time. The other waits for as long as the server says, and no longer."""
    node.put(mail_id(1), lease_ms=150)
    node.put(mail_id(2), lease_ms=150)
    other = Node(node.client, OTHER)
    now, expiry, *rows = other.ask("rp_take", OTHER, LEASE_MS, 10)
    assert rows == [] and 0 < expiry <= 150
    assert other.ask("rp_look")[2] <= expiry
    assert node.client.call("BLPOP", "nothing", expiry / 1000) is None
    while expiry > 0:  # the server wakes up for the next millisecond, or just before
        expiry = other.ask("rp_look")[2]
    rows = other.ask("rp_take", OTHER, LEASE_MS, 10)[2:]
    assert sorted((row[0].decode(), row[2].decode()) for row in rows) == [
        (mail_id(1), INC), (mail_id(2), INC)]
    # What the former owner still knows: that it delivered.
    assert node.record(mail_id(1), [(0, b"F" + STATE)], 0, "x") == [b"LOST", 1]
    assert node.record(mail_id(2), [(0, b"D" + STATE)], 0, "x") == [b"LOST", 0]
    assert node.client.call("EXISTS", f"{TAG}:m:{mail_id(2)}") == 0
    assert other.record(mail_id(2), [(0, b"D" + STATE)]) == [b"GONE", 0]


def test_an_old_copy_is_not_the_owners(clocked):
    """Another has had the mail since, and the same incarnation has it again."""
    client, clock, _ = clocked
    node, other, id = Node(client), Node(client, OTHER), mail_id(1)
    node.put(id, pending=2)
    assert node.record(f"{id}:0", [(0, b"P" + STATE)]) == [b"OK", 2]
    clock.move(LEASE_MS)
    row = other.ask("rp_take", OTHER, LEASE_MS, 64)[2]
    assert dict(zip(row[1][::2], row[1][1::2]))[b"g"] == b"1"
    assert other.ask("rp_release", OTHER, f"{id}:0", 0, "a.example") == 0
    assert other.ask("rp_release", OTHER, f"{id}:1", 0, "a.example") == 1
    row = node.ask("rp_claim", INC, LEASE_MS, 64)[2]
    assert dict(zip(row[1][::2], row[1][1::2]))[b"g"] == b"2"
    for old in (f"{id}:0", f"{id}:1"):
        assert node.record(old, [(0, b"F" + STATE)]) == [b"LOST", 2]
        assert node.ask("rp_records", INC, old, "", "", "", 1, 0, b"F" + STATE) == [b"LOST", 2]
        assert node.ask("rp_release", INC, old, 0, "a.example") == 0
    assert client.call("HGET", f"{TAG}:m:{id}", "r0") == b"P" + STATE
    assert node.record(f"{id}:0", [(0, b"D" + STATE)]) == [b"LOST", 1]
    assert node.record(f"{id}:2", [(1, b"F" + STATE)]) == [b"OK", 0]


def test_a_mail_that_was_taken_over_is_seen_when_it_waits(clocked):
    client, clock, _ = clocked
    node, other = Node(client), Node(client, OTHER)
    for number in range(3):
        node.put(mail_id(number))
    clock.move(LEASE_MS)
    assert len(other.ask("rp_take", OTHER, LEASE_MS, 64)) == 5
    assert client.call("EXISTS", f"{TAG}:index") == 0
    assert other.record(mail_id(0), [(0, b"D" + STATE)]) == [b"OK", 0]
    assert other.record(mail_id(1), [(0, b"P" + STATE)], 0, "a.example") == [b"OK", 1]
    assert other.ask("rp_retire", OTHER, 64) == 0
    assert [row[0].decode() for row in other.ask("rp_scan", "", 64)] == [mail_id(1), mail_id(2)]
    for number in (1, 2):
        assert other.ask("rp_act", mail_id(number), "remove") == b"OK"
    # Nothing is left over but a number.
    assert client.call("KEYS", "*") == [f"{TAG}:waiting".encode()]


def test_what_was_given_is_given_again(clocked):
    client, clock, _ = clocked
    node, other = Node(client), Node(client, OTHER)
    for number in range(4):
        node.put(mail_id(number))
        node.record(mail_id(number), [], 0, "a.example")
    claimed = other.ask("rp_claim", OTHER, LEASE_MS, 16)[2:]
    assert len(claimed) == 3
    owned = [[row[0], row[1] + [b"o", OTHER.encode()]] for row in claimed]
    clock.move(7 * 86400 * 1000)  # the outage behind which it asks
    again = other.ask("rp_claim", OTHER, LEASE_MS, 16, 1)
    assert again[1] == 0 and as_sets(again[2:]) == as_sets(owned)
    assert as_sets(other.ask("rp_take", OTHER, LEASE_MS, 16, 1)[2:]) == as_sets(owned)
    assert other.ask("rp_claim", OTHER, LEASE_MS, 16, 0)[2][0] == mail_id(3).encode()
    assert len(other.ask("rp_claim", OTHER, LEASE_MS, 16, 1)) == 3
    assert other.record(mail_id(3), [(0, b"D" + STATE)]) == [b"OK", 0]
    assert other.ask("rp_claim", OTHER, LEASE_MS, 16, 1)[2:] == []
    clock.move(7 * 86400 * 1000 + 1)
    assert client.call("EXISTS", f"{TAG}:last:{OTHER}") == 0
    # It goes with the lease, too, whoever ends that.
    clock.move(LEASE_MS)
    assert len(node.ask("rp_take", INC, LEASE_MS, 64)) == 5
    clock.move(LEASE_MS)
    assert len(other.ask("rp_take", OTHER, LEASE_MS, 64)) == 5
    assert client.call("EXISTS", f"{TAG}:last:{INC}") == 0
    assert client.call("EXISTS", f"{TAG}:last:{OTHER}") == 1
    assert other.ask("rp_retire", OTHER, 64) == 0
    assert client.call("EXISTS", f"{TAG}:last:{OTHER}") == 0


def test_a_lease_is_certain_for_five_sixths(clocked):
    client, clock, _ = clocked
    node = Node(client)

    def lease():
        return int(client.call("HGET", f"{TAG}:leases", INC)) - clock.now
    node.put(mail_id(1))
    clock.move(LEASE_MS // 6)
    node.put(mail_id(2))
    assert lease() == LEASE_MS - LEASE_MS // 6
    clock.move(1)
    node.put(mail_id(3))
    assert lease() == LEASE_MS


def test_who_has_nothing_left_wakes_for_what_it_released(clocked):
    client, _, wakes_of = clocked
    node, wakes = Node(client), wakes_of("{ringpost}:wake")
    node.put(mail_id(1))
    assert node.ask("rp_release", INC, mail_id(1), 0, "a.example") == 1
    assert node.ask("rp_retire", INC, 64) == 0
    assert node.ask("rp_retire", INC, 64) == 0  # no lease: it has told
    assert wakes.count(client, b"3") == 1


def test_an_outcome_and_its_notice_are_one_change(node):
    mail, notice = mail_id(1), mail_id(2)
    assert node.put(mail) == b"OK"
    asked = (notice, 1, 1, b"e", 0)
    failed = [(0, b"F" + STATE)]
    assert node.record(mail, failed, notice=asked) == [b"NOBODY", 1]
    assert node.client.call("HEXISTS", f"{TAG}:m:{mail}", "r0") == 0
    node.client.call("SET", f"{TAG}:b:{notice}:0", b"0", "EX", 3600)
    assert node.record(mail, failed, notice=asked) == [b"OK", 0]
    assert node.client.call("EXISTS", f"{TAG}:m:{mail}") == 0
    assert node.client.call("HGET", f"{TAG}:m:{notice}", "o") == INC.encode()
    assert node.client.call("PTTL", f"{TAG}:b:{notice}:0") == -1


@pytest.mark.parametrize("letter", [b"F", b"P"])
def test_a_repeated_record_finds_its_notice_gone(node, letter):
    """The reply was lost; meanwhile the notice (of a failure, of a delay) was delivered."""
    mail, notice = mail_id(1), mail_id(2)
    node.put(mail, pending=2)
    left = 1 if letter == b"F" else 2
    node.client.call("SET", f"{TAG}:b:{notice}:0", b"0", "EX", 3600)
    asked = dict(values=[(0, letter + STATE)], notice=(notice, 1, 1, b"e", 0))
    assert node.record(mail, **asked) == [b"OK", left]
    assert node.record(notice, [(0, b"D" + STATE)]) == [b"OK", 0]
    assert node.record(mail, **asked) == [b"OK", left]
    assert node.client.call("EXISTS", f"{TAG}:m:{notice}") == 0


def test_a_former_owner_leaves_the_notice_of_deliveries_that_are_news(clocked):
    client, clock, wakes_of = clocked
    node, other, wakes = Node(client), Node(client, OTHER), wakes_of("{ringpost}:wake")
    mail, notice, late = (mail_id(number) for number in range(3))
    node.put(mail, pending=3)
    clock.move(LEASE_MS)
    assert other.ask("rp_take", OTHER, LEASE_MS, 16)[2][0] == mail.encode()
    for id in (notice, late):
        client.call("SET", f"{TAG}:b:{id}:0", b"0", "EX", 3600)
    delivered, failed = (0, b"D" + STATE), (1, b"F" + STATE)
    # It may tell of a failure, which is not recorded.
    assert node.record(mail, [failed], notice=(late, 1, 1, b"e", 1)) == [b"LOST", 3]
    assert node.record(mail, [(2, b"D" + STATE)], notice=(late, 1, 1, b"e", 0)) == [b"LOST", 2]
    both = [delivered, failed]
    assert node.record(mail, both, notice=(notice, 1, 1, b"e", 1)) == [b"TOLD", 1]
    fields = client.call("HGETALL", f"{TAG}:m:{notice}")
    fields = dict(zip(fields[::2], fields[1::2]))
    assert fields == {b"e": b"e", b"n": b"1", b"b": b"1", b"d": str(clock.now).encode(),
                      b"k": b"-"}
    assert client.call("PTTL", f"{TAG}:b:{notice}:0") == -1
    assert wakes.count(client, b"3") == 1
    # Who has not heard so asks again, with another body; who comes later has nothing to tell.
    client.call("SET", f"{TAG}:b:{notice}:0", b"0", "EX", 3600)
    assert node.record(mail, both, notice=(notice, 1, 1, b"e", 1)) == [b"TOLD", 1]
    assert client.call("PTTL", f"{TAG}:b:{notice}:0") == -1
    assert node.record(mail, both, notice=(late, 1, 1, b"e", 1)) == [b"LOST", 1]
    assert client.call("EXISTS", f"{TAG}:m:{late}") == 0
    # Anybody delivers it.
    assert other.ask("rp_claim", OTHER, LEASE_MS, 16)[2][0] == notice.encode()


def test_a_cancelled_mail_is_not_committed_late(node):
    id = mail_id(1)
    node.client.call("SET", f"{TAG}:b:{id}:0", b"0", "EX", 3600)
    assert node.ask("rp_cancel", INC, id) == b"OK"
    assert node.put(id) == b"GONE"
    assert 0 < node.client.call("TTL", f"{TAG}:b:{id}:0") <= 3600
    assert 3590 < node.client.call("TTL", f"{TAG}:x:{id}") <= 3600
    other = mail_id(2)
    assert node.put(other) == b"OK"
    assert node.ask("rp_cancel", OTHER, other) == b"OK"  # not the canceller's: it stays
    assert node.client.call("HGET", f"{TAG}:m:{other}", "o") == INC.encode()
    assert node.ask("rp_cancel", INC, other) == b"OK"
    assert node.client.call("EXISTS", f"{TAG}:m:{other}", f"{TAG}:b:{other}:0") == 0


def arrive(node, id, *values, held=0, due=5000, pieces=1, stored=5, pending=1):
    return node.ask("rp_arrive", id, pieces, stored, pending, b"e", held, due, "a.example", *values)


def test_a_mail_arrives_and_departs_once(node):
    id, client = mail_id(1), node.client
    client.call("SET", f"{TAG}:b:{id}:0", b"0body", "EX", 3600)
    assert node.ask("rp_arrived", id) == 0
    assert arrive(node, id, stored=6) == b"NOBODY"
    values = (0, b"F" + STATE, 1, b"P" + STATE, 2, b"F" + STATE)
    assert arrive(node, id, *values) == b"OK"
    assert arrive(node, id, *values) == b"OK"  # asked again
    assert node.ask("rp_arrived", id) == 1
    assert client.call("PTTL", f"{TAG}:b:{id}:0") == -1
    assert node.ask("rp_count")[5] == 2
    client.call("SREM", f"{TAG}:came", id)
    assert arrive(node, id) == b"THERE"
    assert node.ask("rp_depart", id, "1", 5000, 1, 0) == b"CHANGED"
    assert node.ask("rp_depart", id, "", 4999, 1, 0) == b"CHANGED"
    assert node.ask("rp_depart", id, "", 5000, 2, 0) == b"CHANGED"
    assert node.ask("rp_depart", id, "", 5000, 1, 0) == b"OK"
    # Who asks again has it; who asks for the first time comes after another one.
    assert node.ask("rp_depart", id, "", 5000, 1, 1) == b"OK"
    assert node.ask("rp_depart", id, "", 5000, 1, 0) == b"NONE"
    assert client.call("SREM", f"{TAG}:went", id) == 1
    assert node.ask("rp_depart", id, "", 5000, 1, 1) == b"NONE"
    assert node.ask("rp_count")[5] == 0
    assert client.call("GET", f"{TAG}:failed") == b"0"
    left = [key for key in client.call("KEYS", "*") if id.encode() in key]
    assert left == [] and client.call("EXISTS", f"{TAG}:index", f"{TAG}:came") == 0


def test_what_has_arrived_held_is_held_and_what_is_owned_stays(node):
    held, owned, gone = mail_id(1), mail_id(2), mail_id(3)
    node.client.call("SET", f"{TAG}:b:{held}:0", b"0body", "EX", 3600)
    assert arrive(node, held, 0, b"P" + STATE, held=1) == b"OK"
    assert node.client.call("ZSCORE", f"{TAG}:held", held) == b"5000"
    assert node.ask("rp_depart", held, "1", 5000, 1, 0) == b"OK"
    assert node.client.call("EXISTS", f"{TAG}:held") == 0
    assert node.put(owned) == b"OK"
    assert node.ask("rp_depart", owned, "", "", 1, 0) == b"OWNED"
    assert node.ask("rp_cancel", INC, gone) == b"OK"
    assert arrive(node, gone) == b"GONE"


def test_a_repeated_change_of_place_reaches_the_replicas(node):
    """WAIT is about the last write of a connection: there must be one."""
    id = mail_id(1)
    node.client.call("SET", f"{TAG}:b:{id}:0", b"0body", "EX", 3600)

    def is_written(*request):
        before = node.client.info("persistence")["rdb_changes_since_last_save"]
        assert node.ask(*request) in (b"OK", 1)
        return before != node.client.info("persistence")["rdb_changes_since_last_save"]

    assert arrive(node, id, 0, b"P" + STATE) == b"OK"
    assert is_written("rp_arrive", id, 1, 5, 1, b"e", 0, 5000, "a.example")
    assert is_written("rp_arrived", id)
    assert node.ask("rp_depart", id, "", 5000, 1, 0) == b"OK"
    assert is_written("rp_depart", id, "", 5000, 1, 1)


def test_bodies_that_nobody_commits_expire(clocked):
    client, clock, _ = clocked
    node = Node(client)
    node.put(mail_id(1))
    client.call("SET", f"{TAG}:b:{mail_id(2)}:0", b"0", "EX", 3600)
    node.ask("rp_cancel", INC, mail_id(3))
    clock.move(3600 * 1000 + 1)
    assert client.call("EXISTS", f"{TAG}:b:{mail_id(1)}:0") == 1
    assert client.call("EXISTS", f"{TAG}:b:{mail_id(2)}:0", f"{TAG}:x:{mail_id(3)}") == 0


def test_without_memory_outcomes_are_still_recorded(node):
    node.put(mail_id(1))
    node.put(mail_id(2))
    node.client.call("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(RedisError, match="OOM"):
            node.ask("rp_commit", INC, LEASE_MS, mail_id(3), 0, 1, b"e")
        with pytest.raises(RedisError, match="OOM"):
            node.client.call("SET", f"{TAG}:b:{mail_id(3)}:0", b"0", "EX", 3600)
        assert node.record(mail_id(1), [(0, b"P" + STATE)], 0, "a.example") == [b"OK", 1]
        assert len(node.ask("rp_claim", OTHER, LEASE_MS, 8)) == 3
        assert node.ask("rp_renew", INC, LEASE_MS)[1] == 1
        assert node.record(mail_id(2), [(0, b"D" + STATE)]) == [b"OK", 0]
    finally:
        node.client.call("CONFIG", "SET", "maxmemory", 0)


def test_a_node_has_a_row_until_it_stops(clocked):
    client, clock, _ = clocked
    node, other = Node(client), Node(client, OTHER)
    began = clock.now
    assert node.ask("rp_node", INC, LEASE_MS, "up\nthe text (%1)") == [began, 0]
    clock.move(5000)
    assert other.ask("rp_node", OTHER, 2 * LEASE_MS, "")[1] == 0
    assert node.ask("rp_node", INC, LEASE_MS, "later") == [began + 5000, 0]
    rows = {row[0].decode(): row[1:] for row in node.ask("rp_nodes")[1:]}
    assert rows == {INC: [began, began + 5000, LEASE_MS, b"later", 0],
                    OTHER: [began + 5000, began + 5000, 2 * LEASE_MS, b"", 0]}
    assert other.ask("rp_drain", INC, 1) == b"OK"
    assert other.ask("rp_node_stops", OTHER) == b"OK"
    assert node.ask("rp_node", INC, LEASE_MS, "x")[1] == 1
    assert [row[5] for row in node.ask("rp_nodes")[1:]] == [1]
    assert other.ask("rp_drain", INC, 0) == b"OK"
    assert other.ask("rp_drain", OTHER, 1) == b"NONE"
    assert node.ask("rp_node", INC, LEASE_MS, "x")[1] == 0


def test_who_died_is_forgotten_after_an_hour(clocked):
    client, clock, _ = clocked
    node, other = Node(client), Node(client, OTHER)
    node.ask("rp_node", INC, LEASE_MS, "x")
    node.ask("rp_drain", INC, 1)
    clock.move(3600 * 1000 - 1)
    assert len(other.ask("rp_nodes")) == 2
    clock.move(1)
    assert len(other.ask("rp_nodes")) == 1
    other.ask("rp_node", OTHER, LEASE_MS, "y")
    assert client.call("HKEYS", f"{TAG}:nodes") == [OTHER.encode()]
    assert client.call("EXISTS", f"{TAG}:drain") == 0


def test_the_owner_is_told_and_its_answer_kept(clocked):
    client, _, wakes_of = clocked
    node, other = Node(client), Node(client, OTHER)
    node.put(mail_id(1))
    wakes = wakes_of("{ringpost}:wake")
    ask = ("rp_ask", OTHER, "t1", mail_id(1), "hold", "joe (uid 7)", "two\nlines")
    assert other.ask(*ask) == b"ASKED"
    assert other.ask("rp_owners") == [[INC.encode(), 1]]
    assert node.ask("rp_ask", INC, "t2", mail_id(1), "hold", "joe", "why") == b"MINE"
    assert node.ask("rp_answer", "t1", "AGAIN") == b"OK"
    assert other.ask(*ask) == other.ask(*ask) == b"AGAIN"
    message = f"act {INC} t1 {mail_id(1)} hold\njoe (uid 7)\ntwo\nlines".encode()
    assert wakes.count(client, message, b"told t1") == 2
    # What nobody owns any more is done at once.
    assert node.ask("rp_release", INC, mail_id(1), 5000, "a.example") == 1
    assert other.ask("rp_ask", OTHER, "t3", mail_id(1), "hold", "joe", "why") == b"OK"
    assert client.call("HGET", f"{TAG}:m:{mail_id(1)}", "h") == b"1"
    assert other.ask("rp_ask", OTHER, "t4", mail_id(2), "hold", "joe", "why") == b"NONE"


def test_who_failed_is_counted_while_the_mail_is_there(node):
    for number in (1, 2, 3):
        node.put(mail_id(number), pending=3)
        assert node.record(mail_id(number), [(0, b"F" + STATE), (1, b"F" + STATE)]) == [b"OK", 1]
    assert node.record(mail_id(1), [(1, b"F" + STATE)]) == [b"OK", 1]  # repeated
    assert node.ask("rp_count")[5] == 6
    assert node.record(mail_id(1), [(2, b"F" + STATE)]) == [b"OK", 0]
    assert node.ask("rp_cancel", INC, mail_id(2)) == b"OK"
    assert node.ask("rp_count")[5] == 2
    assert node.record(mail_id(3), [], 0, "a.example") == [b"OK", 1]
    assert node.ask("rp_act", mail_id(3), "remove") == b"OK"
    assert node.ask("rp_count")[5] == 0


@pytest.mark.parametrize("held", [0, 1])
def test_who_failed_is_counted_where_the_mail_moves_to(node, held):
    """Those who came as failed go on as such, and none is counted when the mail has left."""
    states = [0, b"D" + STATE, 1, b"F" + STATE, 2, b"F" + STATE, 3, b"P" + STATE]
    node.client.call("SET", f"{TAG}:b:{mail_id(1)}:0", b"0body", "EX", 3600)
    for _ in range(2):  # repeated
        assert node.ask("rp_arrive", mail_id(1), 1, 5, 1, b"e" * 150, held, 1000, "a.example",
                        *states) == b"OK"
        assert node.ask("rp_count")[5] == 2
    left = f"{TAG}:m:{mail_id(1)}"
    assert node.client.call("HGET", left, "f") == b"2"
    for again in range(2):
        assert node.ask("rp_depart", mail_id(1), "1" if held else "", 1000, 1, again) == b"OK"
        assert node.ask("rp_count")[5] == 0
    assert node.client.call("EXISTS", left) == 0


def test_what_is_put_off_is_seen_also_while_it_is_owned(node):
    node.put(mail_id(1), pending=2)
    node.put(mail_id(2))
    assert node.record(mail_id(1), [(0, b"D" + STATE)]) == [b"OK", 1]
    assert node.ask("rp_scan", "", 9) == []
    assert node.record(mail_id(1), [(1, b"P" + STATE)]) == [b"OK", 1]
    assert [row[0].decode() for row in node.ask("rp_scan", "", 9)] == [mail_id(1)]
    assert node.record(mail_id(1), [(1, b"D" + STATE)]) == [b"OK", 0]
    assert node.ask("rp_scan", "", 9) == []


def test_what_nobody_has_tried_yet_is_seen_by_its_owner(clocked):
    client, _, _ = clocked
    nodes = [Node(client, letter * 32) for letter in "abc"]
    for number in range(400):
        nodes[number % 2].put(mail_id(number))
    nodes[2].put(mail_id(400))  # the one that asks
    nodes[0].record(mail_id(0), [(0, b"P" + STATE)])  # tried: in the index
    found, owner, cursor, pages = set(), 0, 0, 0
    while owner >= 0:
        owner, cursor, *rows = nodes[2].ask("rp_fresh", nodes[2].inc, owner, cursor, 16)
        found |= {int(id, 16) for id, _ in rows}
        assert all(b"e" in fields for _, fields in rows)
        pages += 1
    assert found == set(range(1, 400)) and pages >= 2
    assert nodes[0].ask("rp_fresh", nodes[0].inc, 2, 0, 16) == [-1, b"0"]


def test_memory_of_a_waiting_mail(node, capsys):
    """Envelope of 150 bytes, state with a reply of 60, body apart: what the rest takes."""
    count, body = 10000, b"0" * 1000
    node.put(mail_id(count))
    node.record(mail_id(count), [], 10 ** 9, "a.example")
    before = int(node.client.info("memory")["used_memory"])
    for number in range(count):
        id = mail_id(number)
        node.client.pipe([
            ("SET", f"{TAG}:b:{id}:0", body, "EX", 3600),
            ("FCALL", "rp_commit", 1, TAG, INC, LEASE_MS, id, 1, 1, b"e" * 150),
            ("FCALL", "rp_record", 1, TAG, INC, id, 10 ** 9, f"d{number % 1000}.example", 1, 0,
             b"P" + bytes(15) + b"r" * 60)])
    used = (int(node.client.info("memory")["used_memory"]) - before) / count
    whole = node.client.call("MEMORY", "USAGE", f"{TAG}:b:{mail_id(0)}:0")
    envelope = node.client.call("MEMORY", "USAGE", f"{TAG}:m:{mail_id(0)}")
    with capsys.disabled():
        print(f" {used:.0f} bytes a mail, of these hash {envelope}, body {whole}")
    assert node.ask("rp_count")[1] == count + 1
    assert used - whole < 1200
