# SPDX-License-Identifier: Apache-2.0
"""What the live tests share: folders, a relay with its sink, and the reasons to skip."""
import os
import pathlib
import shutil

import pytest

import peers
from daemon import Ringpost
from sink import Sink


@pytest.fixture
def folder():
    """A folder that other users may enter; kept when RINGPOST_KEEP is set."""
    path = peers.open_folder("test")
    yield path
    if not os.environ.get("RINGPOST_KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def sink():
    with Sink() as running:
        yield running


@pytest.fixture
def relay(folder, sink):
    """A relay that sends everything to `sink`."""
    with Ringpost(folder / "relay", routes=[{"domain": "*", "to": sink.url}]) as running:
        yield running


@pytest.fixture
def root():
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a file system or binds a port below 1024")


@pytest.fixture
def loops(root):
    if not pathlib.Path("/dev/loop-control").exists():
        pytest.skip("needs loop devices: /dev/loop-control does not exist")


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: the few that also run under the sanitizers")


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"SKIPPED {report.nodeid}: {report.longrepr[2]}")
