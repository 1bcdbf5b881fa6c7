# SPDX-License-Identifier: Apache-2.0
"""The file of users: made by `ringpostctl user`, read by the relay, and by nobody else."""
import base64
import hashlib
import hmac
import os
import pathlib
import pty
import select
import stat
import subprocess
import threading
import time

import pytest

from daemon import EXIT_CONFIG, Ringpost

OK, REFUSED, USAGE = 0, 1, 2
QUICK = ("--iterations", "4096")


def run(*arguments, password=None, status=OK):
    said = (password + "\n").encode() if password is not None else b""
    done = subprocess.run([os.environ["RINGPOSTCTL"], "user", *arguments], input=said,
                          capture_output=True, timeout=60)
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    assert (done.stderr == b"") == (status == OK), done.stderr
    return done.stdout.decode() if status == OK else done.stderr.decode()


class Users:
    def __init__(self, path):
        self.path = path

    def __call__(self, command, *arguments, **more):
        return run(command, *arguments, "--file", str(self.path), **more)

    def line(self, name):
        return next(line for line in self.path.read_text().split("\n")
                    if line.split(" ")[0] == name)


@pytest.fixture
def users(folder):
    folder.mkdir(exist_ok=True)
    return Users(folder / "users")


def fits(verifier, password):
    """RFC 5803, computed by Python."""
    mechanism, salted, keys = verifier.split("$")
    iterations, salt = salted.split(":")
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    assert mechanism == "SCRAM-SHA-256"
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    return (hashlib.sha256(hmac.digest(key, b"Client Key", "sha256")).digest() == stored
            and hmac.digest(key, b"Server Key", "sha256") == server)


@pytest.mark.smoke
def test_a_file_is_made_and_changed(users):
    assert "no such file" in users("list", status=REFUSED)
    users("add", "ann@example.test", "mails_per_hour=10", password="sekret ä")
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    line = users.line("ann@example.test")
    assert line.split(" ")[1].split(":")[0] == "SCRAM-SHA-256$100000"
    assert fits(line.split(" ")[1], "sekret ä") and not fits(line.split(" ")[1], "sekret")
    assert line.endswith(" mails_per_hour=10")
    assert "is there already" in users("add", "ANN@example.test", password="x", status=REFUSED)
    users("add", "bob", *QUICK, password="one")
    users("add", "printer", "--no-password", "certificate=" + "ab" * 32)
    before = users.line("bob")
    users("passwd", "bob", *QUICK, password="two")
    assert fits(users.line("bob").split(" ")[1], "two")
    assert users.line("bob").split(":")[1] != before.split(":")[1], "the salt is the same"
    assert users("list").split("\n") == [
        "ann@example.test  password (100000 iterations)  mails_per_hour=10",
        "bob  password (4096 iterations)",
        "printer  no password  certificate=" + "ab" * 32, ""]
    users("remove", "bob")
    assert "there is no user bob" in users("remove", "bob", status=REFUSED)
    assert "there is no user bob" in users("passwd", "bob", password="x", status=REFUSED)
    assert users("list").count("\n") == 2
    assert [entry.name for entry in users.path.parent.iterdir()] == ["users"]


def test_what_is_not_changed_stays(users):
    text = "# ours, by hand\r\n\n  ann\t-   disabled\nnot understood at all\nbob -"
    users.path.write_bytes(text.encode())
    users.path.chmod(0o400)
    users("add", "carol", "--no-password")
    assert users.path.read_bytes() == (text + "\ncarol -\n").encode()
    users("remove", "carol")
    assert users.path.read_bytes() == (text + "\n").encode()
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600


def test_the_owner_stays(users):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    users("add", "ann", "--no-password")
    os.chown(users.path, 1234, 2345)
    users("add", "bob", "--no-password")
    assert (users.path.stat().st_uid, users.path.stat().st_gid) == (1234, 2345)


def test_a_link_leads_to_the_file(users):
    real = users.path.parent / "real"
    real.mkdir()
    users.path.symlink_to(real / "users")
    (real / "users").touch(0o600)
    users("add", "ann", "--no-password")
    assert users.path.is_symlink() and "ann -" in (real / "users").read_text()


@pytest.mark.parametrize("arguments, password, status, told", [
    (("add", "ann", "mails_per_hours=1"), "x", USAGE, "a word that is not known"),
    (("add", "a b"), "x", USAGE, "needs a user name"),
    (("add", "secret"), "x", USAGE, "needs a user name"),
    (("add",), "x", USAGE, "needs a user name"),
    (("add", "ann"), "", REFUSED, "no password"),
    (("add", "ann"), "tab\t", REFUSED, "no password"),
    (("add", "ann"), "x" * 513, REFUSED, "no password"),
    (("add", "ann", "--iterations", "4095"), "x", USAGE, "4096 to 10000000"),
    (("list", "ann"), None, USAGE, "takes no word ann"),
    (("rename", "ann"), None, USAGE, "needs a word more"),
])
def test_what_is_refused_changes_nothing(users, arguments, password, status, told):
    assert told in users(*arguments, password=password, status=status)
    assert not users.path.exists()


def test_others_must_not_read_it(users):
    users("add", "ann", "--no-password")
    users.path.chmod(0o640)
    assert "chmod 600" in users("add", "bob", "--no-password", status=REFUSED)


def test_changes_at_the_same_time_follow_each_other(users):
    """Twenty processes; none loses another's line."""
    threads = [threading.Thread(target=users, args=("add", f"user{n}", "--no-password"))
               for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert users("list").count("\n") == 20


def speak(master, answers):
    """Answers prompts of a terminal; what was shown."""
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 30)[0]:
            break
        try:
            data = os.read(master, 1000)
        except OSError: # the other side is gone
            break
        if not data:
            break
        shown += data
        while answers and answers[0][0] in shown:
            os.write(master, answers.pop(0)[1])
    return shown.decode()


@pytest.mark.parametrize("first, second, made", [
    (b"sekret\n", b"sekret\n", True),
    (b"sekret\n", b"other\n", False),
    (b"sek\x03\n", b"sekret\n", False),
])
def test_the_terminal_does_not_show_it(users, first, second, made):
    pid, master = pty.fork()
    if pid == 0:
        os.execv(os.environ["RINGPOSTCTL"],
                 ["ringpostctl", "user", "add", "ann", *QUICK, "--file", str(users.path)])
    shown = speak(master, [(b"Password: ", first), (b"Again: ", second)])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    assert "Password: " in shown and "sek" not in shown and "other" not in shown
    assert status == (OK if made else REFUSED), shown
    assert users.path.exists() == made
    if made:
        assert fits(users.line("ann").split(" ")[1], "sekret")


# ---- the relay reads it ----

@pytest.fixture
def relay(folder, users):
    users("add", "ann", "--no-password")
    with Ringpost(folder / "relay", {"users": {"file": str(users.path)},
                                     "relay": {"recipients_look": "1s"}}) as started:
        yield started


def test_the_configuration_names_it(relay, users):
    run("add", "bob", "--no-password", "--config", str(relay.config_path))
    assert "bob -" in users.path.read_text()


def test_a_changed_file_is_read(relay, users):
    assert relay.log.wait("users_loaded")["users"] == 1
    users("add", "bob", "--no-password")
    event = relay.log.wait("users_loaded")
    assert (event["users"], event["file"]) == (2, str(users.path))
    metrics = relay.metrics()
    assert metrics.sum("ringpost_users_listed") == 2
    assert metrics.sum("ringpost_users_reloads_total", result="ok") == 1
    assert metrics.sum("ringpost_recipients_reloads_total") == 0


@pytest.mark.parametrize("change, told", [
    (lambda path: path.write_text("ann hunter2\n"), ":1: the line of 'ann' has no verifier"),
    (lambda path: path.chmod(0o644), "chmod 600"),
    (pathlib.Path.unlink, "ringpostctl user add"),
], ids=["bad-line", "readable", "gone"])
def test_a_broken_file_changes_nothing(relay, users, change, told):
    relay.log.wait("users_loaded")
    change(users.path)
    error = relay.log.wait("users_refused")["error"]
    assert told in error and "hunter2" not in error
    metrics = relay.metrics()
    assert metrics.sum("ringpost_users_listed") == 1
    assert metrics.sum("ringpost_users_reloads_total", result="refused") == 1


def test_a_start_with_a_broken_file_is_refused(folder, users):
    users("add", "ann", "--no-password")
    users.path.chmod(0o604)
    for arguments in ((), ("--check-config",)):
        done = Ringpost(folder / "relay", {"users": {"file": str(users.path)}}).run(*arguments)
        assert done.returncode == EXIT_CONFIG
        assert done.stderr.count("\n") == 1 and "chmod 600" in done.stderr, done.stderr
