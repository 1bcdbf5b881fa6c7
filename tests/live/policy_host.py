# SPDX-License-Identifier: Apache-2.0
"""An HTTPS server on loopback for files of many hosts, told apart by SNI, and for what is posted.

    with PolicyHost("127.0.0.9", authority) as web:
        web.serve("mta-sts.good.test", "version: STSv1\\n...")
        web.serve("mta-sts.slow.test", stall=True)
        web.wait(2)                 # requests, in web.requests
        web.wait_posts(1)           # what was posted, in web.posts

It needs root for port 443. Each host has a certificate of its own; `certificate` of serve()
replaces it. stall: the request is never answered.
"""
import collections
import http.server
import ssl
import threading
import time

Answer = collections.namedtuple("Answer", "body status type headers stall")
Request = collections.namedtuple("Request", "method host path headers body")

PATH = "/.well-known/mta-sts.txt"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body):
        web = self.server.web
        host = self.headers.get("Host", "").split(":")[0]
        request = Request(self.command, host, self.path, dict(self.headers), body)
        found = web.note(request)
        if found.stall:
            web.closing.wait()
            return
        self.send_response(found.status)
        if found.type:
            self.send_header("Content-Type", found.type)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Connection", "close")
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found.body)

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address, web):
        self.web = web
        super().__init__(address, Handler)

    def finish_request(self, request, client_address):
        # On the connection's own thread: a handshake that fails or hangs is nobody else's.
        try:
            with self.web.context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)
        except OSError:
            pass

    def handle_error(self, request, client_address):
        pass


class PolicyHost:
    def __init__(self, host, authority, port=443):
        self.host, self.port, self.authority = host, port, authority
        self.contexts, self.answers = {}, {}
        self.requests, self.posts = [], []
        self.changed = threading.Condition()
        self.closing = threading.Event()
        self.server = None
        self.context = self.context_of(authority.issue("nobody.test"))
        self.context.sni_callback = self.on_name

    @staticmethod
    def context_of(certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        return context

    def on_name(self, connection, name, _):
        if name in self.contexts:
            connection.context = self.contexts[name]

    def serve(self, host, body="", status=200, type="text/plain", headers=None, stall=False,
              certificate=None):
        body = body.encode() if isinstance(body, str) else body
        if certificate or host not in self.contexts:
            self.contexts[host] = self.context_of(certificate or self.authority.issue(host))
        self.answers[host] = Answer(body, status, type, headers or {}, stall)

    def note(self, request):
        with self.changed:
            (self.posts if request.method == "POST" else self.requests).append(request)
            self.changed.notify_all()
        return self.answers.get(request.host, Answer(b"", 404, "text/plain", {}, False))

    def requests_of(self, host):
        return [request for request in self.requests if request.host == host]

    def wait_for(self, wanted, what, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not wanted():
                left = deadline - time.monotonic()
                assert left > 0, f"{what}: not within {timeout_s} s; {self.requests}"
                self.changed.wait(left)

    def wait(self, count, host=None, timeout_s=30):
        self.wait_for(lambda: len(self.requests_of(host) if host else self.requests) >= count,
                      f"{count} requests for {host}", timeout_s)

    def wait_posts(self, count, timeout_s=30):
        self.wait_for(lambda: len(self.posts) >= count, f"{count} posts", timeout_s)
        return self.posts[:count]

    def start(self):
        self.closing.clear()
        self.server = Server((self.host, self.port), self)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def stop(self):
        self.closing.set()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
        self.server = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
