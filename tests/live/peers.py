# SPDX-License-Identifier: Apache-2.0
"""Real mail servers, each as a private instance in a folder of its own that the test ends.

All of them have: start() and stop() (or `with`), `url` for a route, take(count) which waits for
that many new copies and returns their contents with CRLF line ends, and two lists of corpus cases,
with reasons: ALTERS, what this server changes by its nature, and REFUSES, what it cannot take.
test_peers.py asserts exactly these lists without a relay between. What a server adds on top at
final delivery (Return-Path and such) is named in `adds`.

Limits are raised wherever the server lets us.
"""
import atexit
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import threading

import aiosmtpd.controller
import aiosmtpd.smtp

import ports
from daemon import terminate, wait_connectable
from watch import Watch

SIZE_MAX = 100 << 20
NO_SMTPUTF8 = {"utf8-header": "has no SMTPUTF8", "utf8-address": "has no SMTPUTF8"}


def open_folder(name):
    """A temporary folder into which other users may look: servers drop to users of their own. Gone
    at the end of the process at the latest."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"ringpost-{name}-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Peer:
    scheme = "smtp"
    adds = (b"Received",)
    copies_per_mail = False  # one copy a transaction instead of one a recipient
    ALTERS, REFUSES = {}, {}

    def __init__(self, host=None, port=None):
        self.host, self.port = host or ports.address(), port or ports.free_port()
        self.folder = open_folder(type(self).__name__.lower())

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self.port}"

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def remove_folder(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for_log(server, wanted, what=None):
    """Until wanted(the server's whole log) is true, or the text `wanted` is in it. A server may
    write what it has done after the other side has seen it done."""
    is_there = wanted if callable(wanted) else lambda log: wanted in log
    watch = Watch(server.log_path.parent)
    watch.wait_for(lambda: is_there(server.log()), 30, what or wanted)
    watch.close()


class FilePeer(Peer):
    """A server that writes one file a copy into self.mailbox."""
    mailbox = None
    log_path = None

    def log(self):
        is_there = self.log_path is not None and self.log_path.exists()
        return self.log_path.read_text(errors="replace") if is_there else ""

    def watch_mailbox(self):
        self.taken = set()
        self.watch = Watch(self.mailbox)

    def new_files(self):
        return sorted(name for name in os.listdir(self.mailbox) if name not in self.taken)

    def take(self, count, timeout_s=60):
        def enough():
            names = self.new_files()
            return names if len(names) >= count else None
        names = self.watch.wait_for(enough, timeout_s, f"{count} mails in {self.mailbox}")
        self.taken.update(names)
        return [self.content_of(self.mailbox / name) for name in names]

    def content_of(self, path):
        """Mailboxes end lines with LF. A CR in front of one was CR CR LF and stays a CR."""
        return path.read_bytes().replace(b"\n", b"\r\n")

    def maildir(self, user):
        box = self.folder / "box"
        for part in (box, box / "new", box / "cur", box / "tmp"):
            part.mkdir()
            shutil.chown(part, user)
        self.mailbox = box / "new"
        return box

    def stop(self):
        if getattr(self, "watch", None):
            self.watch.close()
        self.remove_folder()


class Postfix(FilePeer):
    """As a server into a maildir, of all recipients or of these `users`; with relay_to, as a client
    that sends everything there. `settings` go into main.cf, in place of those below."""
    adds = (b"Return-Path", b"Delivered-To", b"X-Original-To", b"Received")

    def __init__(self, relay_to=None, users=None, settings=None, **where):
        super().__init__(**where)
        self.relay_to, self.users, self.settings = relay_to, users, settings or {}

    def command(self, verb):
        return subprocess.run(["postfix", "-c", str(self.folder / "etc"), verb], timeout=60,
                              capture_output=True, text=True)

    def write_config(self):
        etc = self.folder / "etc"
        for name in ("etc", "spool", "data"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "data", "postfix")
        box = self.maildir("nobody")
        nobody = pwd.getpwnam("nobody")
        maps = f"static:{box.name}/"
        if self.users:
            maps = "inline:{" + ", ".join(f"{u}={box.name}/" for u in self.users) + "}"
        # A relay must not know domains; a server delivers every domain into the one maildir.
        where = [f"relayhost = [{self.relay_to[0]}]:{self.relay_to[1]}", "mydestination ="] \
            if self.relay_to else [
                "mydestination =", "virtual_mailbox_domains = static:ok",
                f"virtual_mailbox_base = {self.folder}",
                f"virtual_mailbox_maps = {maps}",
                f"virtual_uid_maps = static:{nobody.pw_uid}", "virtual_minimum_uid = 1",
                f"virtual_gid_maps = static:{nobody.pw_gid}"]
        lines = where + [
            "compatibility_level = 3.6", f"queue_directory = {self.folder}/spool",
            f"data_directory = {self.folder}/data", "mail_owner = postfix",
            "setgid_group = postdrop", "command_directory = /usr/sbin",
            "daemon_directory = /usr/lib/postfix/sbin", "inet_interfaces = all",
            "inet_protocols = ipv4", "myhostname = postfix.test", "mynetworks = 127.0.0.0/8",
            f"maillog_file = {self.folder}/spool/log", f"maillog_file_prefixes = {self.folder}",
            "alias_maps =", "alias_database =", "local_recipient_maps =", "biff = no",
            "smtpd_recipient_restrictions = permit_mynetworks, reject",
            "smtpd_client_connection_rate_limit = 0", "smtpd_client_connection_count_limit = 0",
            "smtputf8_enable = yes", "local_header_rewrite_clients =",
            f"message_size_limit = {SIZE_MAX}", "virtual_mailbox_limit = 0",
            "mailbox_size_limit = 0", "smtpd_recipient_limit = 10000",
            "header_size_limit = 10000000", "smtp_line_length_limit = 0",
            "disable_mime_output_conversion = yes", "smtp_host_lookup = native",
            "disable_dns_lookups = yes", "smtpd_tls_security_level = none", "smtp_bind_address =",
            "smtp_address_preference = ipv4", "master_service_disable =",
            "minimal_backoff_time = 1s", "maximal_backoff_time = 2s", "queue_run_delay = 1s"]
        kept = [line for line in lines if line.split(" =")[0] not in self.settings]
        kept += [f"{name} = {value}" for name, value in self.settings.items()]
        (etc / "main.cf").write_text("\n".join(kept) + "\n")
        services = [f"{self.host}:{self.port} inet n - n - - smtpd"]
        for row in ("pickup unix n - n 60 1", "cleanup unix n - n - 0", "qmgr unix n - n 300 1",
                    "rewrite unix - - n - -", "bounce unix - - n - 0", "defer unix - - n - 0",
                    "trace unix - - n - 0", "verify unix - - n - 1", "flush unix n - n 1000? 0",
                    "proxymap unix - - n - -", "smtp unix - - n - -", "relay unix - - n - -",
                    "showq unix n - n - -", "error unix - - n - -", "retry unix - - n - -",
                    "discard unix - - n - -", "local unix - n n - -", "virtual unix - n n - -",
                    "lmtp unix - - n - -", "anvil unix - - n - 1", "scache unix - - n - 1",
                    "postlog unix-dgram n - n - 1", "tlsmgr unix - - n 1000? 1"):
            name = {"defer": "bounce", "trace": "bounce", "rewrite": "trivial-rewrite",
                    "relay": "smtp", "retry": "error", "postlog": "postlogd"}
            service = row.split()[0]
            services.append(f"{row} {name.get(service, service)}")
        (etc / "master.cf").write_text("\n".join(services) + "\n")

    def start(self):
        self.write_config()
        done = self.command("start")
        assert done.returncode == 0, done.stdout + done.stderr + self.log()
        wait_connectable(self.host, self.port)
        self.watch_mailbox()

    @property
    def log_path(self):
        return self.folder / "spool" / "log"

    def stop(self):
        self.command("stop")
        super().stop()


class Exim(FilePeer):
    """`settings` go into the main section, in place of those below; with `envelope` each copy tells
    for whom it is."""
    ALTERS = {"header-only": "adds the empty line that ends the header"}

    def __init__(self, settings=None, envelope=False, **where):
        super().__init__(**where)
        self.settings, self.envelope = settings or {}, envelope

    def start(self):
        user = "Debian-exim"
        box = self.maildir(user)
        for name in ("spool", "log"):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, user)
        main = f"""
primary_hostname = exim.test
exim_path = {exim_program()}
deliver_drop_privilege = true
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/log/%slog
message_size_limit = {SIZE_MAX}
recipients_max = 10000
smtp_accept_max = 100
smtp_accept_max_nonmail = 1000
smtp_accept_queue_per_connection = 0
header_maxsize = 10M
header_line_maxsize = 10M
smtputf8_advertise_hosts = *
accept_8bitmime = true
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
received_header_text =
host_lookup =
keep_environment =
rfc1413_hosts =
tls_advertise_hosts =
never_users =
check_spool_space = 0
qualify_domain = exim.test
acl_smtp_rcpt = accept
acl_smtp_data = accept
acl_smtp_vrfy = accept
smtp_enforce_sync = false
allow_utf8_domains = true
"""
        lines = [line for line in main.split("\n") if line.split(" =")[0] not in self.settings]
        lines += [f"{name} = {value}" for name, value in self.settings.items()]
        rest = f"""
begin acl
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  maildir_format
  directory = {box}
  create_directory = false
  user = {user}
  batch_max = 1
  message_prefix =
  message_suffix =
  quota =
  envelope_to_add = {str(self.envelope).lower()}
begin retry
* * F,1h,1s
"""
        config = self.folder / "exim.conf"
        config.write_text("\n".join(lines) + rest)
        self.process = subprocess.Popen(
            [exim_program(), "-C", str(config), "-bdf", "-oX", f"<; [{self.host}]:{self.port}",
             "-oP", str(self.folder / "log" / "pid")],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        wait_connectable(self.host, self.port, self.process)
        self.watch_mailbox()

    @property
    def log_path(self):
        return self.folder / "log" / "mainlog"

    def stop(self):
        if getattr(self, "process", None):
            terminate(self.process)
        super().stop()


def exim_program():
    """Installed, or unpacked by tests/packages.sh (its package conflicts with Postfix's)."""
    unpacked = pathlib.Path(os.environ.get("RINGPOST_PEERS", "/nowhere")) / "usr/sbin/exim4"
    return str(unpacked) if unpacked.exists() else "exim4"


class Dovecot(FilePeer):
    """LMTP into a maildir, of all recipients or of these `users`. certificate: what it shows."""
    scheme = "lmtp"
    adds = (b"Return-Path", b"Delivered-To", b"Received")
    REFUSES = NO_SMTPUTF8

    def __init__(self, users=None, certificate=None):
        super().__init__()
        self.users, self.certificate = users, certificate

    def security(self):
        if not self.certificate:
            return "ssl = no"
        return f"ssl = yes\nssl_cert = <{self.certificate.chain}\nssl_key = <{self.certificate.key}"

    def userdb(self, nobody):
        place = f"uid={nobody.pw_uid} gid={nobody.pw_gid} home={self.folder}/box"
        if not self.users:
            return f"driver = static\n  args = {place} allow_all_users=yes"
        file = self.folder / "users"
        file.write_text("".join(f"{user}::::::\n" for user in self.users))
        file.chmod(0o644)
        return f"driver = passwd-file\n  args = {file}\n  default_fields = {place}"

    def start(self):
        box = self.maildir("nobody")
        nobody = pwd.getpwnam("nobody")
        config = self.folder / "dovecot.conf"
        config.write_text(f"""
base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = {self.folder}/log
protocols = lmtp
{self.security()}
listen = {self.host}
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{box}
maildir_stat_dirs = no
recipient_delimiter =
lmtp_save_to_detail_mailbox = no
auth_username_chars =
auth_username_format =
mail_max_userip_connections = 0
userdb {{
  {self.userdb(nobody)}
}}
passdb {{
  driver = static
  args = nopassword=y
}}
service lmtp {{
  inet_listener lmtp {{
    address = {self.host}
    port = {self.port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(config)],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_connectable(self.host, self.port, self.process)
        self.watch_mailbox()

    @property
    def log_path(self):
        return self.folder / "log"

    def stop(self):
        if getattr(self, "process", None):
            terminate(self.process)
        super().stop()


class SmtpSink(FilePeer):
    """Postfix's smtp-sink. It writes X- lines of its own above each mail, and a newline below."""
    copies_per_mail = True
    adds = (b"X-Client-Addr", b"X-Client-Proto", b"X-Helo-Args", b"X-Mail-Args", b"X-Rcpt-Args",
            b"Received")
    REFUSES = NO_SMTPUTF8

    def start(self):
        self.mailbox = self.folder / "box"
        self.mailbox.mkdir()
        self.process = subprocess.Popen(
            ["smtp-sink", "-u", "root", "-d", str(self.mailbox / "mail."), "-m", "256",
             f"inet:{self.host}:{self.port}", "256"], stderr=subprocess.PIPE)
        wait_connectable(self.host, self.port, self.process)
        self.watch_mailbox()

    def new_files(self):
        return sorted(self.watch.closed - self.taken)  # it writes them in place

    def content_of(self, path):
        content = super().content_of(path)
        assert content.endswith(b"\r\n\r\n"), content[-20:]
        return content[:-2]

    def stop(self):
        if getattr(self, "process", None):
            self.process.terminate()
            self.process.wait(10)
        super().stop()


class Aiosmtpd(Peer):
    """Python's aiosmtpd with the limits of its class raised; keeps the content in memory."""
    copies_per_mail = True

    class Server(aiosmtpd.smtp.SMTP):
        line_length_limit = 64 << 20

    def __init__(self):
        super().__init__()
        self.contents, self.taken = [], 0
        self.arrived = threading.Condition()

    async def handle_DATA(self, server, session, envelope):
        with self.arrived:
            self.contents.append(envelope.original_content)
            self.arrived.notify_all()
        return "250 2.0.0 kept"

    def start(self):
        peer = self

        class Controller(aiosmtpd.controller.Controller):
            def factory(self):
                server = Aiosmtpd.Server(peer, hostname="aiosmtpd.test", data_size_limit=SIZE_MAX,
                                         enable_SMTPUTF8=True, loop=self.loop)
                server.command_size_limit = 65536
                server.command_size_limits.clear()
                return server
        self.controller = Controller(self, hostname=self.host, port=self.port)
        self.controller.start()

    def take(self, count, timeout_s=60):
        with self.arrived:
            came = self.arrived.wait_for(
                lambda: len(self.contents) >= self.taken + count, timeout_s)
            assert came, f"{len(self.contents) - self.taken} mails of {count} in {timeout_s} s"
            new = self.contents[self.taken:]
            self.taken = len(self.contents)
        return new

    def log(self):
        return ""

    def stop(self):
        if getattr(self, "controller", None):
            self.controller.stop(no_assert=True)
        self.remove_folder()


SERVERS = {"postfix": Postfix, "exim": Exim, "dovecot": Dovecot, "smtp-sink": SmtpSink,
           "aiosmtpd": Aiosmtpd}
