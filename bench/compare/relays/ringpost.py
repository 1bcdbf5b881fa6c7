# SPDX-License-Identifier: Apache-2.0
"""ringpostd, the release build."""
import os
import pathlib
import subprocess

from relays.relay import Relay, find_program

RELEASE = pathlib.Path(__file__).resolve().parents[3] / "build/release/ringpostd"

CONFIG = """
hostname: relay.test
workers: auto
allow_root: {root}
listeners:
  - {{ address: "{address}", role: relay }}
log: {{ file: {folder}/ringpost.log }}
queue: {{ store: spool, spool: {{ path: {folder}/spool }} }}
durability: disk
relay: {{ networks: [127.0.0.0/8] }}
routes:
  # As many connections to the next hop as the others may open.
  - {{ domain: "*", to: "smtp://{sink}", connections: {connections} }}
limits:
  # One generator is one client address: limits that tell clients apart would only stop it.
  exempt: [127.0.0.0/8]
  mails_max: 1000000000
"""


class Ringpost(Relay):
    name = "ringpostd"
    title = "Ringpost"
    synced = "the record of the mail in a log, O_DIRECT with RWF_DSYNC, many mails a write"
    delivery = "keeps connections to the next hop open, pipelines"
    needs_root = False
    connections = 50

    def program(self):
        return find_program(os.environ.get("RINGPOSTD") or RELEASE,
                            remedy="build it: cmake --preset release && "
                                   "cmake --build build/release")

    def version(self):
        return subprocess.run([self.program(), "--version"], check=True, capture_output=True,
                              text=True).stdout.split()[-1]

    def set_up(self):
        (self.folder / "spool").mkdir()
        (self.folder / "ringpost.yaml").write_text(CONFIG.format(
            root=str(os.geteuid() == 0).lower(), address=self.address, folder=self.folder,
            sink=f"{self.sink_host}:{self.sink_port}", connections=self.connections))

    def command(self):
        return [self.program(), "--config", str(self.folder / "ringpost.yaml")]
