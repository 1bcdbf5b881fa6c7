# SPDX-License-Identifier: Apache-2.0
"""OpenSMTPD, Debian's package, unpacked beside Postfix by tests/packages.sh, as a smarthost.

Its places are compiled in (/var/spool/smtpd, /var/run/smtpd.sock, the empty folder of its chroot);
a private mount namespace puts them in our folder. Source of the settings: smtpd.conf(5) and, for
the limits that it does not describe, the grammar in smtpd's parse.y.
"""
import os
import pathlib
import re
import subprocess

import namespace
from relays.relay import Relay, find_program

PEERS = pathlib.Path(os.environ.get("RINGPOST_PEERS", "/var/tmp/ringpost-test-peers"))
USERS = ("opensmtpd", "opensmtpq")


class OpenSmtpd(Relay):
    name = "opensmtpd"
    title = "OpenSMTPD"
    pipelining = False
    # Seen with strace too: it writes the envelope and the message, renames, and says 250.
    synced = "**nothing**: the files are written and renamed, not synced"
    delivery = "keeps connections to the next hop open, 1000 mails each; no pipelining"

    def program(self):
        return find_program(PEERS / "usr/sbin/smtpd", "/usr/sbin/smtpd",
                            remedy="run tests/packages.sh compare")

    def version(self):
        # -h prints usage with the version.
        text = subprocess.run([self.program(), "-h"], capture_output=True, text=True)
        return re.search(r"OpenSMTPD (\S+)", text.stdout + text.stderr).group(1)

    def settings(self):
        return f"""
listen on {self.host} port {self.port} hostname relay.test
# Mails over one connection of a client; the default is 100, then it says 421.
smtp limit max-mails 1000000
smtp max-message-size 50M
# To one host; the defaults are 10 a host and 5 a route, with pauses of seconds between connections
# and between mails of one connection.
mta limit max-conn-per-host 50
mta limit max-conn-per-route 50
mta limit max-conn-per-source 50
mta limit max-conn-per-connector 50
mta limit max-conn-per-relay 50
mta limit max-conn-per-domain 50
mta limit conn-delay-host 0
mta limit conn-delay-route 0
mta limit reconn-delay-route 0
mta limit conn-delay-source 0
mta limit conn-delay-connector 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
mta limit session-transaction-delay 0
mta limit session-mail-max 1000
# Envelopes that the scheduler hands out before outcomes return, and those of one batch.
scheduler limit max-inflight 50000
scheduler limit max-schedule 1000
scheduler limit max-evp-batch-size 1024
scheduler limit max-msg-batch-size 1024
action "out" relay host "smtp+notls://{self.sink_host}:{self.sink_port}"
match from any for any action "out"
"""

    def set_up(self):
        # Its children look for the program itself below the empty chroot's owner: root.
        for name in ("lib/opensmtpd/empty", "spool/smtpd", "run"):
            (self.folder / name).mkdir(parents=True, mode=0o711)
        (self.folder / "smtpd.conf").write_text(self.settings())
        # Without an entry it would ask DNS for the name of the client's address.
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n"
                                           f"{self.sink_host} sink.test\n{self.host} relay.test\n")
        self.binds = {**namespace.accounts(self.folder, USERS), "/var/lib": self.folder / "lib",
                      "/var/spool": self.folder / "spool", "/run": self.folder / "run",
                      "/etc/hosts": self.folder / "hosts"}

    def command(self):
        return namespace.command(self.binds, [
            self.program(), "-d", "-f", str(self.folder / "smtpd.conf")])
