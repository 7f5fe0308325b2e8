"""Chromium for tests: opens pages, evaluates JavaScript, takes pictures, drags the mouse, collects complaints."""

import base64
import fcntl
import json
import os
import select
import subprocess
import time

import numpy as np

from tests.report.shown import pixels_of


class Browser:
    """Chromium without a display, driven through its debugging pipe: JSON messages ending in a zero byte."""

    # Software WebGL needs no display and no GPU; the rest keeps the browser from calling anyone.
    FLAGS = (
        *("--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"),
        *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
        *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    )
    PATIENCE = 60.0  # seconds that a busy machine may take for one answer

    def __init__(self, program, folder):
        command_end, self.commands = os.pipe()
        self.answers, answer_end = os.pipe()
        # Chromium reads file descriptor 3 and writes 4: keep ours clear of those until the child has its own.
        child = [fcntl.fcntl(end, fcntl.F_DUPFD, 64) for end in (command_end, answer_end)]
        shell = ["/bin/bash", "-c", f'exec "$@" 3<&{child[0]} 4>&{child[1]}', "-", program]
        arguments = [*self.FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*shell, *arguments], pass_fds=child, **quiet)
        for end in (command_end, answer_end, *child):
            os.close(end)
        self.number, self.session, self.buffer, self.events = 0, None, b"", []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.be_screen()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def be_screen(self, width=1200, touch=False):
        """Become a screen of this width, in light colours; touch: of a phone, with a finger for a pointer."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", **size, mobile=touch)
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2)
        self.media(**{"hover": "none", "pointer": "coarse"} if touch else {})

    def media(self, kind="", **features):
        """Be on paper (kind "print"), or have other features, such as prefers_color_scheme="dark"."""
        wanted = {"prefers_color_scheme": "light"} | features
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in wanted.items()]
        self.send("Emulation.setEmulatedMedia", media=kind, features=listed)

    def receive(self):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], self.PATIENCE)
            received = os.read(self.answers, 1 << 20) if ready else b""
            assert received, "Chromium gives no answer"
            self.buffer += received
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def value(self, expression):
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression):
        """Wait until an expression is true in the page."""
        end = time.monotonic() + self.PATIENCE
        while not self.value(expression):
            assert time.monotonic() < end, f"never came true: {expression}\n{self.complaints()}"
            time.sleep(0.05)

    def open(self, path, page):
        path.write_text(page, encoding="utf-8")
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.until(f"location.href === {json.dumps(path.as_uri())} && document.readyState === 'complete'")

    def box(self, element):
        """x, y, width and height of an element on the screen, in pixels."""
        place = f"document.querySelector('{element}').getBoundingClientRect()"
        return json.loads(self.value(f"JSON.stringify({place})"))

    def picture(self, element):
        """The pixels (H, W, 3) of an element as they are on the screen."""
        box = self.box(element)
        clip = {key: box[key] for key in ("x", "y", "width", "height")}
        shot = self.send("Page.captureScreenshot", clip={**clip, "scale": 1}, captureBeyondViewport=True)
        return pixels_of(base64.b64decode(shot["data"]))

    def drag(self, element, right, down):
        box = self.box(element)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
        for step in np.linspace(0.1, 1.0, 10):
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + right * step, y=y + down * step, **mouse)
            time.sleep(0.05)  # one drawn frame each, as a hand would
        mouse["buttons"] = 0
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=x + right, y=y + down, **mouse)

    def swipe(self, element, right, down):
        """Move a finger over an element, from its middle."""
        box = self.box(element)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        for step in np.linspace(0.1, 1.0, 10):
            point = {"x": x + right * step, "y": y + down * step}
            self.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[point])
        time.sleep(0.3)  # a finger that rests leaves no momentum
        self.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[point])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def complaints(self):
        """Errors in the console, uncaught exceptions, dialogs, and requests for anything but files."""
        found = []
        for event in self.events:
            parameters, method = event["params"], event["method"]
            if method in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
                found.append(parameters)
            if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(parameters)
            if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
                found.append(parameters)
            if method == "Network.requestWillBeSent":
                address = parameters["request"]["url"]
                found += [address] if not address.startswith(("file:", "data:", "blob:")) else []
        return found

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
