# SPDX-License-Identifier: Apache-2.0
"""The parts of the live tests that the comparison shares: ports, waiting, a bare SMTP client."""
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests/live"))

from daemon import Client, terminate, wait_connectable  # noqa: E402
from ports import address, free_port  # noqa: E402

__all__ = ["Client", "Failure", "address", "free_port", "terminate", "wait_connectable"]


class Failure(Exception):
    """Something that the caller can mend; the text says how."""
