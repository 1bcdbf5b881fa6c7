# SPDX-License-Identifier: Apache-2.0
"""The files of deploy/ are what their readers take: parsed, and asked where a program can be."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from daemon import program

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "deploy" / "cluster"
PEERS = pathlib.Path(os.environ.get("RINGPOST_PEERS", "/var/tmp/ringpost-test-peers"))


def run(*words, **keywords):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=60, check=False, **keywords)


def find(name):
    path = shutil.which(name) or shutil.which(name, path=f"{PEERS}/usr/bin:{PEERS}/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.mark.parametrize("path", [CLUSTER / "ringpost.yaml", ROOT / "deploy/deb/ringpost.yaml"])
def test_configurations_are_accepted(folder, path):
    """But for the user, who is made by the package."""
    copy = folder / "ringpost.yaml"
    copy.write_text(re.sub(r"(?m)^user: .*\n", "", path.read_text()))
    done = run(program(), "--config", copy, "--check-config")
    assert done.returncode == 0, done.stderr


def test_prometheus_takes_rules_and_targets():
    promtool = find("promtool")
    for what, name in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        done = run(promtool, "check", what, CLUSTER / name)
        assert done.returncode == 0, done.stdout + done.stderr


def metrics():
    page = run(program(), "--doc", "metrics").stdout
    return set(re.findall(r"(?m)^## `(ringpost_\w+)`", page))


def test_rules_and_dashboard_name_metrics_that_exist():
    text = (CLUSTER / "alerts.yml").read_text() + (CLUSTER / "grafana/ringpost.json").read_text()
    named = {re.sub(r"_(bucket|sum|count)$", "", name)
             for name in re.findall(r"ringpost_\w+", text)}
    assert named and named <= metrics(), named - metrics()


def test_the_dashboard_is_one():
    board = json.loads((CLUSTER / "grafana/ringpost.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 10


def test_haproxy_takes_its_configuration(folder):
    haproxy = find("haproxy")
    copy = folder / "haproxy.cfg"
    copy.write_text(re.sub(r"relay-([123])", r"127.0.0.\1", (CLUSTER / "haproxy.cfg").read_text()))
    done = run(haproxy, "-c", "-f", copy)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_compose_mounts_is_there():
    services = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]
    assert {"relay-1", "redis-1", "haproxy", "prometheus", "grafana"} <= set(services)
    mounted = {volume.split(":")[0] for service in services.values()
               for volume in service.get("volumes", []) if volume.startswith(".")}
    assert mounted
    for path in mounted:
        assert (CLUSTER / path).exists(), path
    build = services["relay-1"]["build"]
    assert (CLUSTER / build["context"] / build["dockerfile"]).exists()


def test_the_unit_is_understood(folder):
    analyze = find("systemd-analyze")
    copy = folder / "ringpost.service"
    copy.write_text((ROOT / "deploy/ringpost.service").read_text().replace(
        "/usr/sbin/ringpostd", "/bin/true"))
    done = run(analyze, "verify", copy)
    assert done.returncode == 0 and done.stderr == "", done.stderr
