"""A real browser without a window, spoken to by the DevTools protocol over a pipe: what a page shows, what it says to the
console, and what it asks the network for."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from harness import Failure

LOWEST_FD = 10  # the browser is given 3 and 4


def find():
    """The browser's command, or None."""
    for name, arguments in (("chromium-headless-shell", []), ("chromium", ["--headless"])):
        path = shutil.which(name)
        if path:
            return [path, *arguments]
    return None


class Page:
    """One page. `problems`: what the console was told, as errors or warnings; `requests`: addresses asked for, but for
    those that the page's own policy forbade."""

    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        self.problems = []
        self.asked = {}
        self.loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, parameters)

    def take(self, method, parameters):
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            self.asked[parameters["requestId"]] = parameters["request"]["url"]
        elif method == "Network.loadingFailed" and parameters.get("blockedReason") == "csp":
            self.asked.pop(parameters["requestId"], None)
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] != "verbose":
            self.problems.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(str(parameters["args"]))

    @property
    def requests(self):
        return list(self.asked.values())

    def open(self, address):
        self.loaded = False
        self.call("Page.navigate", url=address)
        self.browser.wait(f"{address} to be loaded", lambda: self.loaded)

    def evaluate(self, expression):
        """The value of an expression; the page's policy has no say in it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Failure(f"{expression[:200]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def look(self, scheme="light", media="screen", width=1280, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", media=media,
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])


class Browser:
    def __init__(self, command, folder):
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST_FD) for fd in (to_read, from_write)]
        for fd in (to_read, from_write):
            os.close(fd)
        self.write_end, self.read_end = to_write, from_read
        # As root it has no sandbox of its own; the page is ours, and no other is opened.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        arguments = [*command, *sandbox, "--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-gpu",
                     "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "about:blank"]
        self.errors = open(os.path.join(folder, "stderr"), "wb")  # noqa: SIM115  (closed with the browser)
        self.process = subprocess.Popen(["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "-", *arguments],
                                        pass_fds=ends, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)
        for fd in ends:
            os.close(fd)
        self.pending = b""
        self.answers = {}
        self.pages = {}
        self.last = 0

    def close(self):
        for fd in (self.write_end, self.read_end):
            os.close(fd)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def read(self, seconds):
        if not select.select([self.read_end], [], [], seconds)[0]:
            return
        data = os.read(self.read_end, 1 << 20)
        if not data:
            raise Failure(f"the browser ended: {self.said()}")
        self.pending += data
        *whole, self.pending = self.pending.split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self.answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].take(message["method"], message.get("params", {}))

    def said(self):
        with open(self.errors.name, encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]

    def wait(self, what, condition, seconds=120.0):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Failure(f"waited {seconds:g} s in vain for the browser: {what}; {self.said()}")
            self.read(0.2)

    def call(self, method, session=None, parameters=None):
        self.last += 1
        number = self.last
        message = {"id": number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write_end, data):]
        self.wait(method, lambda: number in self.answers)
        answer = self.answers.pop(number)
        if "error" in answer:
            raise Failure(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self):
        """The one that it opened with: another would stand behind it, and pictures are taken of the front."""
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        session = self.call("Target.attachToTarget", parameters={"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page.__new__(Page)
        page.__init__(self, session)
        return page


@contextlib.contextmanager
def browser():
    folder = tempfile.mkdtemp(prefix="daemoneye-browser-", dir="/var/tmp")
    running = None
    try:
        running = Browser(find(), folder)
        yield running
    finally:
        if running:
            running.close()
        shutil.rmtree(folder, ignore_errors=True)
