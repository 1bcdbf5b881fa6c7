# SPDX-License-Identifier: Apache-2.0
"""Haraka from npm, pinned by haraka/package-lock.json, with its outbound queue on disk.

Its plugin queue/smtp_forward would be faster, but passes a mail on while the client waits and keeps
none: another promise. Sources of the settings: config/smtp.ini, docs/Outbound.md, the README of
haraka-plugin-relay, and the project's page on performance (one process a core).
"""
import json
import pathlib
import shutil

from relays.relay import Relay, find_program

HOME = pathlib.Path(__file__).resolve().parents[1] / "haraka"
MODULES = HOME / "node_modules"


class Haraka(Relay):
    name = "haraka"
    title = "Haraka"
    synced = "fsync of the queue file, one a mail and recipient domain"
    delivery = "a new connection for each mail"
    needs_root = False

    def version(self):
        find_program(MODULES / "Haraka/bin/haraka", remedy="run tests/packages.sh compare")
        return json.loads((MODULES / "Haraka/package.json").read_text())["version"]

    def files(self):
        return {
            # One process a core; the default is one in all.
            "smtp.ini": f"listen={self.host}:{self.port}\nnodes=cpus\n",
            # Only what a relay for known clients needs: no filter, no look-up.
            "plugins": "relay\n",
            "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
            "relay_acl_allow": "127.0.0.0/8\n",
            "relay_dest_domains.ini": "[domains]\nany={\"action\":\"continue\",\"nexthop\":"
                                      f"\"{self.sink_host}:{self.sink_port}\"}}\n",
            # As many deliveries at a time as the others have connections, over both processes;
            # loopback has to be allowed as a next hop.
            "outbound.ini": "concurrency_max=25\nenable_tls=false\nlocal_mx_ok=true\n"
                            "inet_prefer=v4\n",
            "connection.ini": (MODULES / "Haraka/config/connection.ini").read_text().replace(
                "bytes=26214400", "bytes=52428800"),
            "me": "relay.test\n",
        }

    def set_up(self):
        config = self.folder / "config"
        shutil.copytree(MODULES / "Haraka/config", config)  # as haraka --install does
        (self.folder / "queue").mkdir()
        (self.folder / "plugins").mkdir()
        for name, text in self.files().items():
            (config / name).write_text(text)
        # It looks for plugins in the node_modules of its folder.
        (self.folder / "node_modules").symlink_to(MODULES)

    def command(self):
        return [find_program("node", remedy="run tests/packages.sh compare"),
                str(MODULES / "Haraka/bin/haraka"), "-c", str(self.folder)]
