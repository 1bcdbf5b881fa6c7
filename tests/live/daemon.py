# SPDX-License-Identifier: Apache-2.0
"""Runs ringpostd in a folder of its own and watches it: configuration, readiness, log, end.

The program is taken from the environment variable RINGPOSTD. Everything here waits on something
that happens (the end of a process by its pidfd, a line of the log by `tail -F`, a readable socket),
each with a limit after which the test fails and shows the log.
"""
import collections
import contextlib
import copy
import http.client
import json
import os
import pathlib
import queue
import re
import select
import signal
import socket
import subprocess
import threading
import time

import yaml

import ports
from watch import Watch

EXIT_CONFIG = 78  # EX_CONFIG: the environment or the configuration is wrong


def program():
    path = os.environ.get("RINGPOSTD", "")
    assert path and os.access(path, os.X_OK), "set RINGPOSTD to the path of ringpostd"
    return path


def merge(base, changes):
    """base with changes: dicts are merged by key, everything else is replaced."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def wait_polling(wanted, process, what, timeout_s=30, output=lambda: ""):
    """The first true value of wanted(), which has no event; the end of the process is one."""
    deadline = time.monotonic() + timeout_s
    watch = select.poll()
    pidfd = os.pidfd_open(process.pid)
    watch.register(pidfd, select.POLLIN)
    try:
        while True:
            value = wanted()
            if value:
                return value
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
            assert not watch.poll(30), f"{what}: the process has ended\n{output()}"
    finally:
        os.close(pidfd)


def terminate(process, number=signal.SIGTERM, timeout_s=60):
    """Ends a process by its id and returns its status; kills it and fails when it does not end."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"{process.args[0]} did not end within {timeout_s} s") from None


def wait_connectable(host, port, process=None, timeout_s=30):
    """Until someone accepts there. Between attempts it waits for the end of the process."""
    deadline = time.monotonic() + timeout_s
    watch = select.poll()
    pidfd = os.pidfd_open(process.pid) if process and process.poll() is None else None
    if pidfd is not None:
        watch.register(pidfd, select.POLLIN)
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), 5).close()
                return
            if watch.poll(20):
                raise AssertionError(f"process ended with {process.wait()} before it was ready")
    finally:
        if pidfd is not None:
            os.close(pidfd)
    raise AssertionError(f"nothing listens on {host}:{port} after {timeout_s} s")


class Lines:
    """The lines of a stream as they come, collected by a thread."""

    def __init__(self, stream):
        self.seen = []
        self.arrived = queue.Queue()
        self.thread = threading.Thread(target=self.collect, args=(stream,), daemon=True)
        self.thread.start()

    def collect(self, stream):
        for line in stream:
            self.seen.append(line)
            self.arrived.put(line)

    def wait_for(self, wanted, timeout_s, what):
        """The first line, of those not yet looked at, of which wanted(line) is true."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self.arrived.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                tail = "".join(self.seen[-30:])
                raise AssertionError(f"no {what} within {timeout_s} s; last lines:\n{tail}") \
                    from None
            if wanted(line):
                return line


def parse_event(line):
    """An event; one without a name for a line that a SIGKILL cut (stop() allows no other)."""
    try:
        return json.loads(line)
    except ValueError:
        return {"broken": line}


class Log:
    """The daemon's log as events. Follows the file by name, so it survives its rotation."""

    def __init__(self, path):
        self.path = path
        path.touch()
        self.tail = subprocess.Popen(["tail", "-n", "+1", "-F", str(path)], text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.lines = Lines(self.tail.stdout)

    def wait(self, name, timeout_s=30, **fields):
        """The next event of that name with these fields."""
        def wanted(line):
            event = parse_event(line)
            return event.get("event") == name and all(
                event.get(key) == value for key, value in fields.items())
        return parse_event(self.lines.wait_for(wanted, timeout_s, f"event {name} {fields}"))

    def events(self, name=None):
        """All events in the file by now."""
        with open(self.path, encoding="utf-8") as lines:
            found = [parse_event(line) for line in lines]
        return [event for event in found if name is None or event.get("event") == name]

    def wait_events(self, count, name, timeout_s=30, **fields):
        """All events in the file of that name with these fields, once there are so many.

        A thread of the daemon writes the log, so what a sink, a reply or an answer tells may be
        known before its event is there, and two workers' events may come in either order.
        """
        def those():
            found = [event for event in self.events(name) if all(
                event.get(key) == value for key, value in fields.items())]
            return found if len(found) >= count else None
        watch = Watch(self.path.parent)
        try:
            return watch.wait_for(those, timeout_s, f"{count} events {name} {fields}")
        finally:
            watch.close()

    def close(self):
        terminate(self.tail)


class Ringpost:
    """One ringpostd and its folder. config: what differs from the base below."""

    def __init__(self, folder, config=None, routes=None, environment=None, spool=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port = ports.address(), ports.free_port()
        self.metrics_port = ports.free_port()
        self.spool = pathlib.Path(spool) if spool else self.folder / "spool"
        self.spool.mkdir(exist_ok=True)
        self.log_path = self.folder / "ringpost.log"
        self.config_path = self.folder / "ringpost.yaml"
        self.environment = {**os.environ, **(environment or {})}
        self.process = self.log = self.errors = None
        self.kills = 0
        self.config = merge(self.base(), config or {})
        if routes is not None:
            self.config["routes"] = routes
        self.write_config()

    def base(self):
        config = {
            "hostname": "relay.test",
            "workers": 2,
            "listeners": [{"address": f"{self.host}:{self.port}", "role": "relay"}],
            "metrics": {"address": f"{self.host}:{self.metrics_port}"},
            "log": {"file": str(self.log_path)},
            "queue": {"store": "spool", "spool": {"path": str(self.spool)}},
            "relay": {"networks": ["127.0.0.0/8"],
                      "domains": [{"name": "example.test", "recipients": "any"}]},
            "routes": [{"domain": "*", "to": "discard"}],
            # The shortest that is allowed: tests wait for retries instead of imagining them.
            "retry": {"schedule": ["1s"], "jitter": 0, "host_pause": "0s"},
        }
        if os.geteuid() == 0:
            config["allow_root"] = True
        return config

    def write_config(self):
        self.config_path.write_text(yaml.safe_dump(self.config, allow_unicode=True))

    def change(self, changes):
        """Rewrites the configuration file; reload() makes the daemon read it."""
        self.config = merge(self.config, changes)
        self.write_config()

    def command(self, *arguments):
        return [program(), "--config", str(self.config_path), *arguments]

    def run(self, *arguments, timeout_s=30):
        """Runs it to its end (--check-config, or a start that must fail)."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True,
                              timeout=timeout_s, env=self.environment)

    def launch(self):
        """Starts it without waiting until it is ready."""
        if self.log is None:
            self.log = Log(self.log_path)
        self.process = subprocess.Popen(self.command(), stderr=subprocess.PIPE, text=True,
                                        stdin=subprocess.DEVNULL, env=self.environment)
        self.errors = Lines(self.process.stderr)
        return self

    def start(self, timeout_s=30):
        self.launch()
        try:
            self.wait_ready(timeout_s)
        except AssertionError as failure:
            self.process.kill()
            self.process.wait()
            self.errors.thread.join(5)
            raise AssertionError(f"{failure}\n{self.output()}") from None
        return self

    def wait_ready(self, timeout_s=30, status=200):
        """Until /readyz answers so: 200 where it takes mail, 503 where it does not."""
        wait_connectable(self.host, self.metrics_port, self.process, timeout_s)
        deadline = time.monotonic() + timeout_s
        watch = select.poll()
        pidfd = os.pidfd_open(self.process.pid)
        watch.register(pidfd, select.POLLIN)
        try:
            while self.http("/readyz")[0] != status:
                assert time.monotonic() < deadline, \
                    f"not {status}: {self.http('/readyz')}"
                assert not watch.poll(20), f"ended with {self.process.wait()}"
        finally:
            os.close(pidfd)

    def output(self):
        """What it said on standard error and in its log, for a failure's text."""
        tail = self.log_path.read_text(errors="replace").splitlines()[-20:]
        return "".join(self.errors.seen if self.errors else []) + "\n".join(tail)

    def stop(self, timeout_s=60):
        """SIGTERM; a planned end is exit status 0, always."""
        status = terminate(self.process, timeout_s=timeout_s)
        assert status == 0, f"exit status {status}\n{self.output()}"
        broken = [event for event in self.log.events() if "broken" in event]
        assert self.kills >= len(broken), f"the log has lines that are no JSON: {broken}"

    def kill(self):
        """SIGKILL. Returns the time right before it, of the monotonic clock in ns."""
        self.kills += 1
        now = time.monotonic_ns()
        self.process.kill()
        self.process.wait()
        return now

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def http(self, path):
        connection = http.client.HTTPConnection(self.host, self.metrics_port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        status, text = self.http("/metrics")
        assert status == 200, text
        return Metrics(text)

    def wait_metric(self, wanted, what, timeout_s=30):
        """The first metrics of which wanted(metrics) is true."""
        def scrape():
            metrics = self.metrics()
            return metrics if wanted(metrics) else None
        return wait_polling(scrape, self.process, what, timeout_s, self.output)

    def connect(self, timeout_s=30):
        return Client(self.host, self.port, timeout_s)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        try:
            if self.process and self.process.poll() is None:
                if kind is None:
                    self.stop()
                else:
                    print(self.output())
                    terminate(self.process, signal.SIGKILL)
        finally:
            if self.log:
                self.log.close()
                self.log = None


Sample = collections.namedtuple("Sample", "name labels value")


class Metrics:
    """A page of /metrics."""

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            match = re.fullmatch(r'(\w+)(?:\{(.*)\})? (\S+)', line)
            if match and not line.startswith("#"):
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
                self.samples.append(Sample(match.group(1), labels, float(match.group(3))))

    def sum(self, name, **labels):
        """Over all samples of that name with these labels; a name that does not exist fails."""
        named = [s for s in self.samples if s.name == name]
        assert named, f"no metric {name}; there are {sorted({s.name for s in self.samples})}"
        return sum(s.value for s in named
                   if all(s.labels.get(key) == value for key, value in labels.items()))

    def highest_bucket(self, name):
        """The upper bound of the highest bucket of a histogram in which something is, or 0."""
        counts = collections.Counter()
        for sample in self.samples:
            if sample.name == name + "_bucket":
                counts[float(sample.labels["le"])] += sample.value
        assert counts, f"no histogram {name}"
        total = counts[float("inf")]
        return min(bound for bound in counts if counts[bound] == total) if total else 0.0


class Client:
    """A bare SMTP client: what it sends is what the test wrote, and replies are (code, text)."""

    def __init__(self, host, port, timeout_s=30):
        self.socket = socket.create_connection((host, port), timeout_s)
        self.file = self.socket.makefile("rb")

    def reply(self):
        """The next reply, or None where the peer has closed."""
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return None
            lines.append(line[4:].decode("utf-8", "replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(lines)

    def write(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def command(self, line):
        self.write(line + "\r\n")
        return self.reply()

    def greet(self, name="client.test"):
        assert self.reply()[0] == 220
        reply = self.command("EHLO " + name)
        assert reply[0] == 250, reply
        return reply[1].split("\n")[1:]

    def mail(self, sender="a@client.test", recipients=("one@example.test",), body=b"\r\nhi\r\n"):
        """One transaction; returns the first reply that is no success, or the last."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{r}>" for r in recipients), "DATA"):
            reply = self.command(line)
            if reply is None or reply[0] >= 400:
                return reply
        self.write(body + b".\r\n")
        return self.reply()

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
