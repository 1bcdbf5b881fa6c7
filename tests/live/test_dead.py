# SPDX-License-Identifier: Apache-2.0
"""Dead hosts by the thousand hold up nobody who lives."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

LARGE = "RINGPOST_DEAD_LARGE" in os.environ
DOMAINS, MAILS, LIVE = (10000, 100000, 100) if LARGE else (2000, 10000, 50)


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
def test_the_living_are_served_at_once(folder):
    script = pathlib.Path(__file__).parent / "dead_domains.py"
    done = subprocess.run(["unshare", "-n", sys.executable, "-B", str(script), str(folder),
                           str(DOMAINS), str(MAILS), str(LIVE)], capture_output=True, text=True,
                          check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(result)
    assert len(result["took_ms"]) == LIVE
    assert result["took_ms"][-1] < 1000
    assert result["pss_mib"] < 512
