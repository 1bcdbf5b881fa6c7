# SPDX-License-Identifier: Apache-2.0
"""Postfix, the installed package, as a smarthost.

Sources of the settings: TUNING_README, SCHEDULER_README, CONNECTION_CACHE_README, postconf(5). The
table of services is the package's own (master.cf.dist), without its chroot column, which costs
nothing while it runs but would need copies of /etc in the queue.
"""
import pathlib
import subprocess

from relays.relay import Relay, find_program, own

SERVICES = pathlib.Path("/usr/share/postfix/master.cf.dist")


class Postfix(Relay):
    name = "postfix"
    title = "Postfix"
    synced = "fsync of the queue file, one a mail (cleanup)"
    delivery = "keeps connections to the next hop open while there is a backlog, pipelines"

    def version(self):
        find_program("/usr/sbin/postfix", "postfix", remedy="run bench/compare/run.sh")
        return subprocess.run(["postconf", "-d", "-h", "mail_version"], check=True,
                              capture_output=True, text=True).stdout.strip()

    def settings(self):
        return f"""
compatibility_level = 3.6
queue_directory = {self.folder}/spool
data_directory = {self.folder}/data
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
myhostname = relay.test
inet_protocols = ipv4
inet_interfaces = all
multi_instance_enable = no
# A smarthost: nothing is local, everything goes to one next hop, given by address.
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
biff = no
relayhost = [{self.sink_host}]:{self.sink_port}
smtp_host_lookup = native
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
# No look-ups in DNS, no TLS.
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtp_address_preference = ipv4
# The pause that lets deliveries keep up with a client that sends faster.
in_flow_delay = 0
# One smtpd and one smtp a connection, and cleanups beside them (TUNING_README: raise it where the
# machine has memory for more processes).
default_process_limit = 500
# One generator is one client address.
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
# Everything goes to one destination: begin with as many connections as it may get.
default_destination_concurrency_limit = 50
initial_destination_concurrency = 50
# Connections to the next hop stay open even while there is no backlog.
smtp_connection_cache_destinations = [{self.sink_host}]:{self.sink_port}
# Processes serve more than 100 clients or mails before they are replaced.
max_use = 10000
# The active queue holds the whole backlog of a run.
qmgr_message_active_limit = 100000
qmgr_message_recipient_limit = 100000
message_size_limit = 52428800
"""

    def set_up(self):
        etc = self.folder / "etc"
        etc.mkdir()
        (self.folder / "spool").mkdir()
        own(self.folder / "data", "postfix")
        (etc / "main.cf").write_text(self.settings())
        rows = []
        for line in SERVICES.read_text().splitlines():
            row = line.split()
            if len(row) >= 8 and not line.startswith(("#", " ")):
                row[4] = "n"
                if row[0] == "smtp" and row[1] == "inet":
                    row[0] = self.address
                if row[7] != "pipe":
                    rows.append(" ".join(row))
        (etc / "master.cf").write_text("\n".join(rows) + "\n")

    def command(self):
        return ["postfix", "-c", str(self.folder / "etc"), "start-fg"]
