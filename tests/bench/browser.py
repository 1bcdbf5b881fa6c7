# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its debugging pipe with nothing but the standard library.

Browser is a context manager. open() loads a page and waits for its load event; script() evaluates
an expression in it; problems collects what a reader of the console would see in red, requests every
address that was asked for. The pipe carries JSON, a NUL after each message.
"""
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

ANSWER_S = 60


class Browser:
    def __init__(self):
        self.program = shutil.which("chromium")
        self.problems = []
        self.requests = []
        self.last_id = 0
        self.pending = b""
        self.events = []
        self.session = None

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self.to_fd = os.pipe()
        self.from_fd, from_browser = os.pipe()
        log = open(pathlib.Path(self.profile.name) / "log", "wb")
        # The debugging pipe is on descriptors 3 and 4; the shell puts it there.
        start = (f'exec 3<&{to_browser} 4>&{from_browser}; exec "$0" "$@"')
        self.process = subprocess.Popen(
            ["bash", "-c", start, self.program, "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--remote-debugging-pipe",
             f"--user-data-dir={self.profile.name}/profile", "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        os.close(to_browser)
        os.close(from_browser)
        try:
            self.attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        os.close(self.to_fd)  # Chromium ends with its pipe
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.from_fd)
        self.profile.cleanup()

    def attach(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def next_message(self, deadline):
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.from_fd], [], [], max(0, deadline - time.monotonic()))
            got = os.read(self.from_fd, 1 << 20) if ready else b""
            if not got:
                log = (pathlib.Path(self.profile.name) / "log").read_text(errors="replace")
                raise RuntimeError(f"no answer of {self.program}: {log[-2000:]}")
            self.pending += got
        text, self.pending = self.pending.split(b"\0", 1)
        message = json.loads(text)
        self.note(message)
        return message

    def note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", details).get("description", details))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning",
                                                                         "assert"):
            self.problems.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if method:
            self.events.append(method)

    def call(self, method, **params):
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_fd, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while True:
            answer = self.next_message(deadline)
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def view(self, width, height=900, dark=False, media="screen", phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri())
        deadline = time.monotonic() + ANSWER_S
        while "Page.loadEventFired" not in self.events:
            self.next_message(deadline)
        self.settle()

    def settle(self):
        """Until what follows from a change of size has been drawn: two frames."""
        self.script("new Promise((done) => requestAnimationFrame(() =>"
                    " requestAnimationFrame(() => done(true))))")

    def script(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def place_of(self, selector):
        """The rectangle of an element, scrolled into view."""
        return self.script(f"""(() => {{
            const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{ block: 'center', inline: 'center' }});
            const {{ left, top, width, height }} = node.getBoundingClientRect();
            return {{ left, top, width, height }};
        }})()""")

    def move(self, selector, share_x=0.5, share_y=0.5):
        place = self.place_of(selector)
        at = {"x": place["left"] + place["width"] * share_x,
              "y": place["top"] + place["height"] * share_y}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        self.settle()
        return at

    def click(self, selector):
        at = self.move(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)
        self.settle()

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self.settle()

    def screenshot(self, path, whole=True):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole,
                         **({"clip": self.whole_page()} if whole else {}))
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))

    def whole_page(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def pdf(self, path):
        printed = self.call("Page.printToPDF", printBackground=True, paperWidth=8.27,
                            paperHeight=11.69)
        pathlib.Path(path).write_bytes(base64.b64decode(printed["data"]))
