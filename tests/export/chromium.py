"""Shader functions evaluated by headless Chromium's WebGL 2 on the CPU (SwiftShader)."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = Path(__file__).with_name("webgl_page.html").read_text()
# Points of a job are padded to a multiple of a row of the framebuffer.
ROW = 64


def job(shader: Path, name: str, width: int, points: np.ndarray) -> dict:
    """A job of the page: the shader text `shader`, its data beside if there are any, points (N, 3)."""
    padded = np.zeros((-(-len(points) // ROW) * ROW, 4), "<f4")
    padded[: len(points), :3] = points
    data = shader.with_suffix(".bin")
    return {
        "text": shader.read_text(),
        "name": name,
        "width": width,
        "data": text(data.read_bytes()) if data.exists() else "",
        "points": text(padded.tobytes()),
        "count": len(points),
    }


def text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def evaluate(jobs: list[dict], folder: Path, timeout: float = 300) -> list[np.ndarray]:
    """The values (N,) of each job. A page without an answer fails the test.

    The test is skipped where no Chromium starts, or it has no WebGL 2 with float framebuffers.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    page = folder / "page.html"
    page.write_text(PAGE.replace("/*JOBS*/", json.dumps(jobs)))
    switches = ["--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    words = [CHROMIUM, *switches, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        pytest.skip(f"Chromium does not start here: exit code {done.returncode}")
    found = re.search(r'<pre id="answer">(.+?)</pre>', done.stdout, re.S)
    assert found, done.stdout[:500] + done.stderr[-500:]
    if found[1] == "null":
        pytest.skip("Chromium has no WebGL 2 with float framebuffers here")
    answers = json.loads(found[1])
    assert not [answer["error"] for answer in answers if isinstance(answer, dict)]
    return [
        np.frombuffer(base64.b64decode(answer), "<f4")[: one["count"]]
        for answer, one in zip(answers, jobs, strict=True)
    ]
