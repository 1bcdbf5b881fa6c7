# SPDX-License-Identifier: Apache-2.0
"""Starting, and refusing to: one line that says what is wrong and what to do, exit status 78."""
import ctypes
import os
import pathlib
import pwd
import resource
import shutil
import socket
import struct
import subprocess

import pytest
import yaml

from daemon import EXIT_CONFIG, Ringpost

ROOT = pathlib.Path(__file__).resolve().parents[2]


def refused(done, *parts):
    """It ended with 78 and one line, in which all of these stand."""
    assert done.returncode == EXIT_CONFIG, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def line_of(relay, text):
    for number, line in enumerate(relay.config_path.read_text().splitlines(), 1):
        if text in line:
            return f"{relay.config_path}:{number}:"
    raise AssertionError(f"{text} is not in the file")


@pytest.mark.parametrize("changes, text, remedy", [
    ({"colour": "blue"}, "colour", "colour"),
    ({"limits": {"hops_max": 1000}}, "hops_max", "100"),
    ({"limits": {"message_size_max": "25 parsecs"}}, "message_size_max", "parsecs"),
    ({"timeouts": {"drain": "soon"}}, "drain", "soon"),
    ({"workers": "many"}, "workers", "auto"),
    ({"queue": {"store": "redis"}}, "spool:", "sentinels"),
    ({"routes": [{"domain": "*", "to": "smtp://mail_example.org"}]}, "mail_example.org", "host"),
    ({"routes": [{"domain": "*", "to": ["mx", "smtp://10.0.0.1"]}]}, "mx", "alone"),
    ({"relay": {"networks": ["127.0.0.0/99"]}}, "127.0.0.0/99", "127.0.0.0/99"),
])
def test_a_wrong_option_is_named_with_file_and_line(folder, changes, text, remedy):
    relay = Ringpost(folder / "relay", changes)
    for arguments in (("--check-config",), ()):
        refused(relay.run(*arguments), line_of(relay, text), remedy)


def test_broken_yaml_is_named_with_file_and_line(folder):
    relay = Ringpost(folder / "relay")
    relay.config_path.write_text("hostname: a.test\nlisteners: [\n")
    refused(relay.run("--check-config"), f"{relay.config_path}:")


def test_a_missing_file(folder):
    relay = Ringpost(folder / "relay")
    relay.config_path.unlink()
    refused(relay.run(), str(relay.config_path))


def test_check_and_print_agree(folder):
    relay = Ringpost(folder / "relay")
    assert relay.run("--check-config").returncode == 0
    printed = relay.run("--print-config")
    assert printed.returncode == 0, printed.stderr
    assert yaml.safe_load(printed.stdout)["hostname"] == "relay.test"
    relay.config_path.write_text(printed.stdout)
    assert relay.run("--check-config").returncode == 0
    assert relay.run("--print-config").stdout == printed.stdout


@pytest.mark.parametrize("page", ["options", "metrics", "events", "delivery"])
def test_the_reference_in_the_repository_is_what_it_prints(folder, page):
    printed = Ringpost(folder / "relay").run("--doc", page)
    assert printed.returncode == 0, printed.stderr
    assert (ROOT / "docs" / f"{page}.md").read_text() == printed.stdout


def test_port_in_use(folder):
    relay = Ringpost(folder / "relay")
    with socket.socket() as taken:
        taken.bind((relay.host, relay.port))
        taken.listen()
        refused(relay.run(), f"{relay.host}:{relay.port}")


def test_spool_in_use(folder):
    with Ringpost(folder / "first") as first:
        refused(Ringpost(folder / "second", spool=first.spool).run(), str(first.spool))


def test_spool_missing(folder):
    relay = Ringpost(folder / "relay")
    relay.spool.rmdir()
    refused(relay.run(), str(relay.spool))


def as_nobody(folder):
    """A configuration for which root gives itself up."""
    return {"user": "nobody", "allow_root": False, "log": {"file": ""},
            "queue": {"spool": {"path": str(folder)}}}


def test_spool_not_writable(root, folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    refused(Ringpost(folder / "relay", as_nobody(closed)).run(), str(closed))


def test_it_drops_to_its_user_after_binding(root, folder):
    relay = Ringpost(folder / "relay")
    shutil.chown(relay.spool, "nobody")
    relay.config["user"], relay.config["allow_root"] = "nobody", False
    relay.config["log"] = {"level": "info"}
    relay.write_config()
    with relay:
        status = pathlib.Path(f"/proc/{relay.process.pid}/status").read_text()
        ids = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        nobody = pwd.getpwnam("nobody")
        assert ids["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert ids["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert int(ids["CapEff"], 16) == 0
        for task in os.listdir(f"/proc/{relay.process.pid}/task"):
            of_task = pathlib.Path(f"/proc/{relay.process.pid}/task/{task}/status").read_text()
            assert f"Uid:\t{nobody.pw_uid}\t" in of_task


def test_it_does_not_stay_root_unless_told(root, folder):
    refused(Ringpost(folder / "relay", {"allow_root": False}).run(), "allow_root", "user")


def test_too_few_descriptors(folder):
    relay = Ringpost(folder / "relay")
    done = subprocess.run(
        relay.command(), capture_output=True, text=True, timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)))
    refused(done, "descriptors")


def test_the_soft_limit_of_descriptors_is_raised(folder):
    relay = Ringpost(folder / "relay")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with Limited(relay, (256, hard)):
        limits = pathlib.Path(f"/proc/{relay.process.pid}/limits").read_text()
        row = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert row.split()[3] == str(hard)


class Limited:
    """The relay started with these limits of descriptors, by prlimit on the way in."""

    def __init__(self, relay, limits):
        self.relay, command = relay, relay.command
        prefix = ["prlimit", f"--nofile={limits[0]}:{limits[1]}"]
        relay.command = lambda *arguments: prefix + command(*arguments)

    def __enter__(self):
        return self.relay.__enter__()

    def __exit__(self, *exception):
        return self.relay.__exit__(*exception)


def forbid_io_uring():
    """In the child: io_uring_setup(2) fails with EPERM, as where kernel.io_uring_disabled is 2."""
    io_uring_setup, allow, refuse = 425, 0x7FFF0000, 0x00050001
    rows = ((0x20, 0, 0, 0), (0x15, 0, 1, io_uring_setup), (0x06, 0, 0, refuse),
            (0x06, 0, 0, allow))
    code = b"".join(struct.pack("HBBI", *row) for row in rows)
    holder = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(rows), ctypes.addressof(holder))
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)  # no_new_privs
    libc.prctl(22, 2, ctypes.create_string_buffer(program, len(program)), 0, 0)


def test_io_uring_disabled(folder):
    relay = Ringpost(folder / "relay")
    done = subprocess.run(relay.command(), capture_output=True, text=True, timeout=30,
                          preexec_fn=forbid_io_uring)
    refused(done, "io_uring")
