# SPDX-License-Identifier: Apache-2.0
"""ringpostd with its queue in Redis: the release build and the installed redis-server beside it.

One server that syncs its append-only file before it answers (appendfsync always), reached by a unix
socket, its files where the other relays have their queues. Redis counts as a part of the relay: it
is in the relay's cgroup, so the CPU time of a mail is that of both.
"""
import contextlib
import os
import pathlib
import select
import socket
import subprocess
import time

import harness
from relays.relay import find_program
from relays.ringpost import Ringpost

# Rewriting the append-only file when it has doubled (from 64 MiB on) is left as it is by default.
REDIS_CONFIG = """
port 0
unixsocket {folder}/redis.sock
dir {folder}/redis
save ""
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
maxmemory-policy noeviction
"""

SPOOL = "queue: {{ store: spool, spool: {{ path: {folder}/spool }} }}"
REDIS = ("queue: {{ store: redis, spool: {{ path: {folder}/spool }}, "
         "redis: {{ server: \"unix:{folder}/redis.sock\" }} }}")


def wait_listening(path, process, timeout_s=30):
    """Until someone accepts at the socket. Between attempts it waits for the end of the process."""
    watch = select.poll()
    pidfd = os.pidfd_open(process.pid)
    watch.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
                s.connect(str(path))
                return
            if watch.poll(20):
                break
    finally:
        os.close(pidfd)
    raise harness.Failure(f"{process.args[0]} does not listen: see its log")


class RingpostRedis(Ringpost):
    name = "ringpostd-redis"
    title = "Ringpost with Redis"
    synced = "Redis's append-only file (fdatasync), all commands of a turn of its loop a write"
    redis = None

    def set_up(self):
        super().set_up()
        file = self.folder / "ringpost.yaml"
        text = file.read_text()
        old = SPOOL.format(folder=self.folder)
        assert old in text
        file.write_text(text.replace(old, REDIS.format(folder=self.folder)))
        (self.folder / "redis").mkdir()
        (self.folder / "redis.conf").write_text(REDIS_CONFIG.format(folder=self.folder))

    def launch_beside(self, prepare):
        server = find_program("redis-server", remedy="run bench/compare/run.sh")
        with open(self.folder / "redis.log", "ab") as log:
            self.redis = subprocess.Popen([server, str(self.folder / "redis.conf")],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          preexec_fn=prepare)
        wait_listening(self.folder / "redis.sock", self.redis)

    def is_ready(self, client):
        return client.command("MAIL FROM:<>")[0] == 250  # 451 until Redis has been asked

    def stop_beside(self):
        if self.redis is not None:
            harness.terminate(self.redis)
            self.redis = None

    def ask(self, section):
        """Members of Redis's INFO."""
        text = subprocess.run(["redis-cli", "-s", self.folder / "redis.sock", "INFO", section],
                              check=True, capture_output=True, text=True).stdout
        return dict(row.split(":", 1) for row in text.split() if ":" in row)

    def counters(self):
        stats, cpu = self.ask("stats"), self.ask("cpu")
        disk = pathlib.Path(f"/proc/{self.redis.pid}/io").read_text()
        written = next(line for line in disk.splitlines() if line.startswith("write_bytes"))
        used = sum(float(cpu[f"used_cpu_{kind}"]) for kind in ("user", "sys"))
        return {"redis_cpu_us": 1e6 * used,
                "redis_commands": int(stats["total_commands_processed"]),
                "redis_bytes_in": int(stats["total_net_input_bytes"]),
                "redis_bytes_out": int(stats["total_net_output_bytes"]),
                "redis_bytes_written": int(written.split()[1])}
