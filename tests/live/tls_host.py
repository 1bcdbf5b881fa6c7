# SPDX-License-Identifier: Apache-2.0
"""A mail host with STARTTLS and a certificate: takes every mail, and remembers how it came.

    with TlsHost("127.90.1.1", certificate) as host:      # or None: without STARTTLS
        host.wait(1)
        host.mails[0].recipients, .tls ("TLSv1.3", or None), .server_name, .command (of MAIL)

`secure_offers` is what it offers besides to who has turned to TLS, `plain_offers` to others.
"""
import collections
import socket
import ssl
import threading

Mail = collections.namedtuple("Mail", "recipients content tls server_name command")


def chain_of(folder, *certificates):
    """A file with a certificate and those above it, of authority.Certificate or of files."""
    path = folder / ("chain-" + "-".join(str(getattr(c, "chain", c)).rpartition("/")[2]
                                         for c in certificates))
    path.write_bytes(b"".join(getattr(c, "chain", c).read_bytes() for c in certificates))
    return path


class TlsHost:
    def __init__(self, address, certificate=None, chain=None, port=25, secure_offers=(),
                 plain_offers=()):
        self.secure_offers, self.plain_offers = secure_offers, plain_offers
        self.mails, self.failures, self.connections = [], [], 0
        self.changed = threading.Condition()
        self.context = None
        if certificate:
            self.use(certificate, chain)
        self.listener = socket.create_server((address, port), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def use(self, certificate, chain=None):
        """For connections from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain or certificate.chain, certificate.key)
        context.sni_callback = self.on_server_name
        self.context = context

    @staticmethod
    def on_server_name(connection, name, _):
        connection.server_name_of_client = name

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with self.changed:
            self.connections += 1
        try:
            self.talk(connection)
        except ssl.SSLError as error:
            with self.changed:
                self.failures.append(str(error))
                self.changed.notify_all()
        except OSError:
            pass
        finally:
            connection.close()

    def talk(self, connection):
        stream, recipients, command = connection.makefile("rwb"), [], ""

        def say(text):
            stream.write(text.encode() + b"\r\n")
            stream.flush()

        say("220 host.test ready")
        while True:
            line = stream.readline()
            verb = line[:4].upper()
            secure = isinstance(connection, ssl.SSLSocket)
            if not line or verb == b"QUIT":
                return
            if verb == b"EHLO":
                offers = self.context is not None and not secure
                more = self.secure_offers if secure else self.plain_offers
                more = (*more, "STARTTLS") if offers else more
                say("250-host.test\r\n250-PIPELINING\r\n" +
                    "".join(f"250-{offer}\r\n" for offer in more) + "250 ENHANCEDSTATUSCODES")
            elif verb == b"STAR":
                say("220 2.0.0 go on")
                connection = self.context.wrap_socket(connection, server_side=True)
                stream, recipients = connection.makefile("rwb"), []
            elif verb == b"MAIL":
                command = line.decode().rstrip()
                say("250 2.1.0 yes")
            elif verb == b"RCPT":
                recipients.append(line.decode().partition("<")[2].partition(">")[0])
                say("250 2.1.5 yes")
            elif verb == b"DATA":
                say("354 go on")
                content = b""
                while not content.endswith(b"\r\n.\r\n") and content != b".\r\n":
                    content += stream.readline()
                with self.changed:
                    self.mails.append(Mail(
                        recipients, content[:-3], connection.version() if secure else None,
                        getattr(connection, "server_name_of_client", None), command))
                    self.changed.notify_all()
                recipients = []
                say("250 2.0.0 taken")
            else:
                say("250 2.0.0 yes")

    def wait(self, count, timeout_s=30):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.mails) >= count, timeout_s), \
                f"{len(self.mails)} mails, {self.failures}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
