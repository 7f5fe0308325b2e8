"""Runs of folders for the tests: drivers with light fits, what they leave, and who is killed."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trimesh

from neuralparts import part
from neuralparts.commands import fit as commands_fit
from neuralparts.fleet import run
from tests import fleet_stubs

ROOT = Path(__file__).resolve().parents[2]
STUB = "tests.fleet_stubs:act"
# Seconds after which a test that waits has failed; nothing takes so long unless it hangs.
PATIENCE = 120.0
# Words in the command line of a worker process.
WORKER_COMMAND = "neuralparts.fleet import work"
# Flags of a real fit of seconds.
REAL = ["--num_points", 3000, "--batchSize", 128, "--numLayers", 3, "--layerWidth", 32, "--reconstructionRes", 24]


def jobs_of(names, **more):
    """A job for each name, whose input is /parts/NAME.stl."""
    return [{"name": name, "input": f"/parts/{name}.stl", **more} for name in names]


def run_stubs(names, place, should_stop=lambda: False, tick=lambda *_: None, **more):
    """Results by name, each part's once."""
    results = {}

    def finished(job, result):
        assert job["name"] not in results
        results[job["name"]] = result

    try:
        run(jobs_of(names, **more), place, finished, tick, should_stop)
    finally:
        place.kill()
    return results


def wait_for(condition, what):
    """Wait until condition() is True; `what` names it if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def children_of(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants_of(pid):
    children = children_of(pid)
    return children + [below for child in children for below in descendants_of(child)]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def kill_something(driver, generator, kinds=("driver", "worker")):
    """Kill the driver, or one of its descendants: a worker, or Ray's raylet; returns what was killed."""
    kind = generator.choice(kinds)
    if kind == "driver":
        victims = [driver.pid]
    else:
        word = "raylet/raylet" if kind == "raylet" else "ray::" if "raylet" in kinds else WORKER_COMMAND
        victims = [pid for pid in descendants_of(driver.pid) if word in command_of(pid)]
    for pid in victims and [generator.choice(victims)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return kind
    return "nothing"


def a_folder(path, count=6, bad=()):
    """A folder of `count` files for light fits, which refuse those whose numbers are in `bad`."""
    path.mkdir()
    for k in range(count):
        (path / f"part_{k:02d}.stl").write_bytes(b"bad" if k in bad else f"{k:04d}".encode())
    return path


def command(worker, source, out, *flags):
    """The command line of a driver; parts are fitted one by one, unless the flags say how many at once."""
    if "--partsPerBatch" not in flags:
        flags = *flags, "--partsPerBatch", 1
    return [sys.executable, "-m", "tests.fleet_stubs", worker, str(source), "--outputDir", str(out), *map(str, flags)]


def start(worker, source, out, *flags, log=None):
    """A driver in a process of its own."""
    environment = os.environ | ({"FLEET_LOG": str(log)} if log else {})
    pipe = subprocess.PIPE
    words = command(worker, source, out, *flags)
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process):
    """(exit code, standard output, standard error) of a driver."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    return process.returncode, out, err


def summary(out):
    with open(out / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def hashes(out, names):
    """SHA-256 of files of a folder, by name."""
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}


def check_folder(source, out, log=None, refused=()):
    """Check that each part is whole, that nothing else exists, that the summary agrees, that none was fitted twice."""
    names = sorted(path.stem for path in source.iterdir())
    good = [name for name in names if name not in refused]
    suffixes = ("safetensors", "stl", "html", "png", "json")
    expected = {f"{name}.{suffix}" for name in good for suffix in suffixes} | {"summary.csv", "index.html"}
    expected |= {f"thumbnails/{name}.png" for name in good}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected
    rows = summary(out)
    assert [row["name"] for row in rows] == names
    page = (out / "index.html").read_text()
    for row in rows:
        assert (row["status"] == "refused") == (row["name"] in refused) == bool(row["reason"])
        if row["name"] in refused:
            continue
        record = json.loads((out / f"{row['name']}.json").read_text())
        assert row["status"] == "done" and float(row["surface_error"]) == record["metrics"]["surface_error"]
        assert row["input"] == record["input"] == str(source / f"{row['name']}.stl")
        assert {name: described["sha256"] for name, described in record["files"].items()} == hashes(
            out, record["files"]
        )
        assert len(record["files"]) == 5 and f'href="{row["name"]}.html"' in page
    if log is not None:
        fits = Counter(line.split()[0] for line in log.read_text().splitlines())
        assert set(fits) <= set(good) and all(count == 1 for count in fits.values()), fits


@pytest.fixture
def here(capsys, monkeypatch):
    """The trainer's command line in this process with a light fit: (exit code, output, errors, names fitted)."""
    fitted = []

    def fit(source, flags, files, watch, name):
        fitted.append(files.name)
        return fleet_stubs.light_fit(source, flags, files, watch, name)

    def fit_here(source, out, *flags):
        fitted.clear()
        words = [str(word) for word in (source, "--outputDir", out, *flags)]
        code = commands_fit.main(words if Path(source).is_file() else [*words, "--workers", "0"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err, list(fitted)

    monkeypatch.setattr(part, "fit_part", fit)
    monkeypatch.setattr(commands_fit, "print_result", lambda *_: None)
    return fit_here


def real_folder(path, count=2):
    path.mkdir()
    for k in range(count):
        trimesh.creation.box((20, 16, 12 + 2 * k)).export(path / f"box_{k}.stl")
    return path


def run_here(capsys, *words):
    code = commands_fit.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
