# SPDX-License-Identifier: Apache-2.0
"""What an idle session costs: 15 000 of them from two client processes, 3 000 with TLS."""
import pathlib
import resource
import subprocess
import sys

import pytest

import authority
import ports
from daemon import Lines, Ringpost, terminate

SESSIONS = 15000
TLS_SESSIONS = 3000
PSS_MAX = 8 << 10
TLS_PSS_MAX = 24 << 10
HERE = pathlib.Path(__file__).parent
BODY = b"Subject: hi\r\n\r\nhello\r\n"


def pss_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Pss in smaps_rollup")


def kernel_bytes():
    """Slab of the whole machine, which holds both ends of every connection, and socket buffers."""
    slab = next(int(line.split()[1]) << 10
                for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
                if line.startswith("Slab:"))
    tcp = next(line.split() for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines()
               if line.startswith("TCP:"))
    return slab, int(tcp[tcp.index("mem") + 1]) * resource.getpagesize()


def start_clients(host, port, count, *more):
    process = subprocess.Popen(
        [sys.executable, str(HERE / "idle_client.py"), host, str(port), str(count), *more],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, Lines(process.stdout)


def test_memory_of_an_idle_session(folder, sink):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < SESSIONS + 500:
        pytest.skip(f"needs {SESSIONS + 500} descriptors for the daemon, the hard limit is {hard}")
    changes = {"limits": {"connections": SESSIONS + 100, "connections_per_client": 0,
                          "connection_rate_per_client": 0}}
    with Ringpost(folder / "relay", changes, [{"domain": "*", "to": sink.url}]) as relay:
        empty, (slab, tcp) = pss_bytes(relay.process.pid), kernel_bytes()
        clients = [start_clients(relay.host, relay.port, SESSIONS // 2) for _ in range(2)]
        try:
            for _, lines in clients:
                lines.wait_for(lambda line: line == "ready\n", 200, "all sessions")
            metrics = relay.metrics()
            assert metrics.sum("ringpost_connections", side="receive") == SESSIONS
            full, (slab_full, tcp_full) = pss_bytes(relay.process.pid), kernel_bytes()
            each = (full - empty) / SESSIONS
            print(f"PSS: empty {empty >> 10} KiB, with {SESSIONS} idle sessions {full >> 10} KiB: "
                  f"{each:.0f} bytes a session")
            print(f"kernel, both ends: slab {(slab_full - slab) / SESSIONS:.0f} bytes a session, "
                  f"socket buffers {(tcp_full - tcp) / SESSIONS:.0f}")
            with relay.connect() as client:  # and it still works
                client.greet()
                assert client.mail(body=BODY)[0] == 250
            sink.wait(1)
            for process, _ in clients:
                process.stdin.close()
                assert process.wait(60) == 0
        finally:
            for process, _ in clients:
                terminate(process)
        assert each <= PSS_MAX


def test_memory_of_an_idle_session_with_tls(folder):
    certificate = authority.Authority(folder / "authority").issue("relay.test")
    tls_port = ports.free_port()
    changes = {"limits": {"connections": TLS_SESSIONS + 100, "connections_per_client": 0,
                          "connection_rate_per_client": 0},
               "tls": {"certificates": [{"chain": str(certificate.chain),
                                         "key": str(certificate.key)}]}}
    running = Ringpost(folder / "relay", changes)
    running.config["listeners"].append(
        {"address": f"{running.host}:{tls_port}", "tls": "implicit"})
    running.write_config()
    with running as relay:
        empty = pss_bytes(relay.process.pid)
        clients = [start_clients(relay.host, tls_port, TLS_SESSIONS // 2, "tls")
                   for _ in range(2)]
        try:
            for _, lines in clients:
                lines.wait_for(lambda line: line == "ready\n", 200, "all sessions")
            metrics = relay.metrics()
            assert metrics.sum("ringpost_connections", side="receive") == TLS_SESSIONS
            full = pss_bytes(relay.process.pid)
            each = (full - empty) / TLS_SESSIONS
            print(f"PSS: empty {empty >> 10} KiB, with {TLS_SESSIONS} idle TLS sessions "
                  f"{full >> 10} KiB: {each:.0f} bytes a session")
            for process, _ in clients:
                process.stdin.close()
                assert process.wait(60) == 0
        finally:
            for process, _ in clients:
                terminate(process)
        assert each <= TLS_PSS_MAX
