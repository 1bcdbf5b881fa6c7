# SPDX-License-Identifier: Apache-2.0
"""Runs a program that expects its files at fixed places, with those places in a folder of its own.

A private mount namespace shows folders and files of ours where the program looks for them; the rest
of the machine does not see it. A bind mount is the same file system, so what a sync costs does not
change. The program keeps the process id of what was started.
"""
SCRIPT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift; exec "$@"'


def command(binds, argv):
    """argv with each folder or file of binds, {place: what is to be there}, in its place."""
    pairs = [str(part) for place, source in binds.items() for part in (source, place)]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", SCRIPT, "sh",
            *pairs, "--", *argv]


def accounts(folder, users):
    """Copies of passwd and group with these system users, as binds. Nothing is added to the host.

    users: names, each with a group of the same name.
    """
    tables = {}
    for base in ("passwd", "group"):
        with open(f"/etc/{base}", encoding="utf-8") as file:
            tables[base] = [line for line in file.read().splitlines() if line.count(":") >= 3]
    taken = {int(line.split(":")[2]) for lines in tables.values() for line in lines}
    free = (number for number in range(900, 60000) if number not in taken)
    known = {line.split(":")[0] for line in tables["passwd"]}
    for user in users:
        if user not in known:
            number = next(free)
            tables["passwd"].append(f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin")
            tables["group"].append(f"{user}:x:{number}:")
    binds = {}
    for base, lines in tables.items():
        binds[f"/etc/{base}"] = folder / base
        (folder / base).write_text("\n".join(lines) + "\n")
    return binds
