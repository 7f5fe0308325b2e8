"""Parts of `benchmarks/gpu.py` beside the fit: labels, marching, and commands as a user types them.

Each takes the findings and the flags of the check.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu_findings import Findings, judged, seconds_of
from benchmarks.gpu_high import IMPELLER, fit_of
from neuralparts.distance import DistanceOracle
from neuralparts.flags import parse_fit_flags
from neuralparts.inputs import load
from neuralparts.machine import gpu_number
from neuralparts.marching import march
from neuralparts.mesh import load_mesh
from neuralparts.network import NeuralSDF
from neuralparts.sampling import importance_samples
from neuralparts.steps import evaluate, evaluate_off_surface, make_network
from neuralparts.watch import Watch

ROOT = Path(__file__).resolve().parents[1]
# Of a rehearsal.
TINY = ["--num_points", "20000", "--epochs", "1", "--reconstructionRes", "32"]
# The folder's parts are every fifth of geometry_200.
EVERY = 5
# Seconds asked of instant.sh, and of 40 parts of the folder. The largest difference of a label, domain units.
INSTANT_SECONDS, FOLDER_SECONDS, LARGEST_DIFFERENCE = 6.0, 180.0, 1e-6
# Seconds that a stopped command has to write its checkpoints.
GRACE = 20


# --- labels


def labels(findings: Findings, flags: argparse.Namespace) -> None:
    """Labels a second on the CPU and on the GPU, and whether they are the same."""
    mesh = load_mesh(IMPELLER)
    few, count = np.random.default_rng(1), 2_000 if flags.small else 2_000_000
    here = DistanceOracle(mesh)
    points = importance_samples(here, count // 8, few)[0]  # compiles, or reads kept machine code
    points = np.concatenate([points, few.uniform(-1, 1, points.shape).astype(np.float32)])
    start = time.perf_counter()
    expected = here.signed_distance(points)
    findings.tell("labels on the CPU", rate(points, time.perf_counter() - start))

    def on_device() -> str:
        there = DistanceOracle(mesh, gpu=gpu_number(flags.device))
        start = time.perf_counter()
        there.signed_distance(points[:1000])
        first = time.perf_counter() - start
        start = time.perf_counter()
        found = there.signed_distance(points)
        seconds = time.perf_counter() - start
        signs, apart = int(np.count_nonzero((found < 0) != (expected < 0))), np.abs(found - expected).max()
        text = f"{rate(points, seconds)}, first call {first:.1f} s, largest difference {apart:.1g}"
        return judged(signs == 0 and apart < LARGEST_DIFFERENCE, f"{text}, {signs} signs differ")

    findings.attempt("labels on the device", on_device, "those of the CPU")
    for name, options in {"CPU": {}, "device": {"gpu": gpu_number(flags.device)}}.items():

        def draw(options=options) -> str:
            oracle = DistanceOracle(mesh, **options)
            oracle.signed_distance(points[:1000])
            start = time.perf_counter()
            drawn = importance_samples(oracle, count, np.random.default_rng(2))[0]
            return rate(drawn, time.perf_counter() - start)

        findings.attempt(f"importance samples by the {name}", draw)


def rate(points: np.ndarray, seconds: float) -> str:
    """Points a second, as text."""
    return f"{len(points) / seconds / 1e6:.2f} M/s"


# --- evaluation


def evaluation(findings: Findings, flags: argparse.Namespace) -> None:
    """Seconds of the errors of a network like that of instant.sh, without a mesh of its own: the first time on the
    device, which loads its code for them, the second time, and on the CPU."""
    words = [str(IMPELLER), "--encoding", "hashgrid", "--numLayers", "1", "--layerWidth", "64", "--hashBaseRes", "8"]
    options = parse_fit_flags(words)
    shape, _ = load(IMPELLER, options, Watch(in_folder=True))
    network = make_network(options, np.linspace(-1, 1, 100, dtype=np.float32), shape.transform)
    shape.oracle.signed_distance(np.zeros((1000, 3), np.float32))  # compiles, or reads kept machine code
    for name, device in (("first", flags.device), ("second", flags.device), ("first", "cpu"), ("second", "cpu")):
        network.to(device)
        start = time.perf_counter()
        evaluate(network, shape, None, options, Watch(in_folder=True))
        evaluate_off_surface(network, shape, options.seed)
        findings.tell(f"evaluation on {device}, {name}", f"{time.perf_counter() - start:.2f} s")


# --- marching


def marching(findings: Findings, flags: argparse.Namespace) -> None:
    """Marching on the device and on the CPU: seconds, and whether the meshes are the same.

    The network is that of High if the part before has fitted it, else one of a fortieth of its samples.
    """
    kept = flags.out / "gpu/high.safetensors"
    network = NeuralSDF.load(kept) if kept.exists() else fit_of(IMPELLER, flags, 750_000)[0]
    for resolution in (32,) if flags.small else (256, 512):
        meshes = {}
        for device in (flags.device, "cpu"):
            network.to(device)
            march(network.domain, 24)
            start = time.perf_counter()
            meshes[device] = march(network.domain, resolution)
            findings.tell(f"{resolution}^3 on {device}", f"{time.perf_counter() - start:.2f} s")
        one, other = meshes[flags.device], meshes["cpu"]
        equal = one.faces.shape == other.faces.shape and bool((one.faces == other.faces).all())
        apart = f", vertices {np.abs(one.vertices - other.vertices).max():.1g} apart" if equal else ""
        same = f"{'the same' if equal else 'other'} triangles, {len(one.faces):,}{apart}"
        findings.tell(f"{resolution}^3, both meshes", judged(equal, same), "the same")
    points = np.random.default_rng(0).uniform(-1, 1, (20_000 if flags.small else 2_000_000, 3)).astype(np.float32)
    network.to(flags.device)
    findings.tell("values at points", rate(points, seconds_of(lambda: network.domain(points), flags.device, 3)))


# --- commands


def run_command(words: list[str], log: Path, seconds: float) -> tuple[int, float]:
    """(exit code, seconds) of a command with its output in a file. After `seconds` it is stopped as by Ctrl-C."""
    start = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as output:
        options = {"stdout": output, "stderr": output, "stdin": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen(words, cwd=ROOT, **options)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return process.returncode, time.perf_counter() - start


def records_of(folder: Path) -> list[dict]:
    """The records of all finished parts in an output folder."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [record for record in records if isinstance(record, dict) and "timings" in record]


def timings_of(records: list[dict]) -> str:
    """Median seconds of the stages."""
    names = ("load", "label", "fit", "reconstruct", "evaluate", "total")
    medians = [statistics.median(record["timings"].get(name, 0.0) for record in records) for name in names]
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in zip(names, medians, strict=True))


def instant(findings: Findings, flags: argparse.Namespace) -> None:
    """presets/instant.sh from command to report: twice on the device, once on the CPU."""
    tries = {"first": gpu_number(flags.device), "second": gpu_number(flags.device), "on the CPU": -1}
    for name, gpu in tries.items():
        if findings.seconds_left() < 12 and not flags.small:
            continue
        folder = flags.out.resolve() / "gpu/instant" / name.replace(" ", "_")
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier check
        words = [str(ROOT / "presets/instant.sh"), "--outputDir", str(folder), "--showVis", "0"]
        words += ["--gpu", str(gpu)] + [*TINY, "--numPairs", "4000"] * flags.small

        def run(words=words, folder=folder, gpu=gpu) -> str:
            code, seconds = run_command(words, folder.with_suffix(".log"), max(5, findings.seconds_left() - GRACE))
            (record,) = records_of(folder)
            metrics = record["metrics"]
            text = (
                f"{seconds:.1f} s, exit code {code}; {timings_of([record])}; surface error "
                f"{metrics['surface_error']:.6f}, IoU {metrics['iou']:.4f}"
            )
            return text if gpu < 0 else judged(code == 0 and seconds <= INSTANT_SECONDS, text)

        findings.attempt(f"instant.sh, {name}", run, f"{INSTANT_SECONDS:g} s" if gpu >= 0 else "")


def folder(findings: Findings, flags: argparse.Namespace) -> None:
    """Parts of geometry_200 by presets/geometry_200_high.sh: the whole time, IoU and surface errors."""
    inputs, results = flags.out.resolve() / "gpu/inputs", flags.out.resolve() / "gpu/folder"
    shutil.rmtree(results, ignore_errors=True)  # of an earlier check
    count = make_parts(inputs, 3 if flags.small else flags.parts)
    words = [str(ROOT / "presets/geometry_200_high.sh"), str(inputs), "--outputDir", str(results), "--showVis", "0"]
    words += TINY * flags.small + ["--gpu", "-1"] * (gpu_number(flags.device) < 0)
    log = flags.out / "gpu/folder.log"
    code, seconds = run_command(words, log, max(5, findings.seconds_left() - GRACE))
    records = records_of(results)
    name = f"{count} parts, geometry_200_high.sh"
    is_met = len(records) == count and seconds <= FOLDER_SECONDS * max(1, count / 40)
    text = f"{len(records)} finished in {seconds:.0f} s, exit code {code}"
    findings.tell(name, judged(is_met, text), f"40 in {FOLDER_SECONDS:g} s")
    if not records:
        findings.tell("last lines", " / ".join(log.read_text().splitlines()[-4:]))
        return
    findings.tell("median seconds of the stages", timings_of(records))
    for metric, worst in (("iou", min), ("surface_error", max)):
        values = [r["metrics"][metric] for r in records if r["metrics"].get(metric) is not None]
        if values:
            middle = f"median {statistics.median(values):.6f}, worst {worst(values):.6f}, of {len(values)}"
            findings.tell(metric, middle)
    failures = [record["failure"] for record in records if record.get("failure")]
    text = f"{len(failures)} {'; '.join(failures)[:200]}"
    findings.tell("parts without a usable surface", judged(not failures, text), "0")


def make_parts(inputs: Path, count: int) -> int:
    """Write `count` parts, every fifth of geometry_200; without manifold3d, link those that data/geometry_200 has.

    Returns how many there are. Raises OSError if there are neither.
    """
    inputs.mkdir(parents=True, exist_ok=True)
    for path in inputs.glob("*"):
        path.unlink()
    try:
        from data.make_geometry_200 import part_bytes
    except ImportError:
        parts = sorted((ROOT / "data/geometry_200").iterdir())
        for path in parts[:: EVERY if len(parts) >= EVERY * count else 1][:count]:
            (inputs / path.name).symlink_to(path)
    else:
        for number in range(count):
            name, content = part_bytes(EVERY * number)
            (inputs / f"{name}.stl").write_bytes(content)
    return len(list(inputs.iterdir()))
