"""A fuzzer of the files that somebody else may have written: models, checkpoints and samples.

    python -m tests.fuzz_models --count 10000 --seed 0 [--kinds model checkpoint samples]

Each mutant is a healthy file with flipped bits, replaced numbers, or a part cut out, doubled or cut off; inside an
archive or a header as well as outside. It must be read, or refused in one printable line that names the file, within
limits of memory and time. Mutants run in children; a fault is printed with the numbers that make the same mutant again.
"""

import argparse
import contextlib
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from neuralparts.commands import info, march, measure
from neuralparts.errors import Interrupted, UserError, with_place
from neuralparts.fitting import FitHooks, FitSettings, fit
from neuralparts.mesh_files import write_mesh
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler
from neuralparts.sampling import load_samples, negative_inside

KINDS = ("model", "checkpoint", "samples")
# Memory that a child may take beyond what it has after its imports, bytes; seconds for one mutant, and for a child's
# start.
MEMORY, SECONDS, STARTING = 2**30, 10.0, 60.0
# Mutants of a child.
BATCH = 500
NUMBERS = ["0", "1", "2", "0.25", "8", "-1", "1e308", "1e-320", "NaN", "Infinity", "null", "true", "[]", "{}", '"x"']
NUMBERS += ["9" * 20, "9" * 5000]


# ------------------------------------------------------------------------------------------------------- mutations


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """Bytes with one to four changes anywhere: a bit flipped, a byte replaced, a part removed, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(generator.integers(1, 5)):
        place, other = sorted(generator.integers(0, len(changed) + 1, 2)) if changed else (0, 0)
        kind = generator.integers(0, 10)
        if kind < 5 and place < len(changed):
            changed[place] ^= 1 << generator.integers(0, 8)
        elif kind < 7 and place < len(changed):
            changed[place] = generator.integers(0, 256)
        elif kind == 7:
            del changed[place : min(other, place + 64)]
        elif kind == 8:
            changed[place:place] = changed[place : min(other, place + 64)]
        else:
            del changed[other:]
    return bytes(changed)


def with_another_number(text: str, generator: np.random.Generator) -> str:
    """A text in which one number or word has become something else."""
    words = list(re.finditer(r"-?\d[\d.e+-]*|[\w|<>]+", text))
    word = words[generator.integers(len(words))]
    return text[: word.start()] + NUMBERS[generator.integers(len(NUMBERS))] + text[word.end() :]


def mutated_safetensors(data: bytes, generator: np.random.Generator) -> bytes:
    """A safetensors file changed as bytes, in its header, in the JSON inside the header, or in its tensors."""
    size = int.from_bytes(data[:8], "little")
    header, tensors = data[8 : 8 + size], data[8 + size :]
    kind = generator.integers(0, 7)
    if kind == 0:
        return mutated(data, generator)
    if kind == 1:
        header = mutated(header, generator)
    elif kind == 2:  # one bit of a number
        tensors = bytearray(tensors)
        tensors[generator.integers(0, len(tensors))] ^= 1 << generator.integers(0, 8)
    elif kind in (3, 4):
        tensors = np.frombuffer(tensors, np.float32).copy()
        values = np.array([np.nan, np.inf, 3e38, -3e38, 1e20, -1e20, 1e10, -1e5, 1e-40, 0, -1, 1], np.float32)
        many = generator.integers(1, 4)
        tensors[generator.integers(0, len(tensors), many)] = generator.choice(values, many)
        tensors = tensors.tobytes()
    else:  # the text within the text
        parts = json.loads(header)
        key = next(iter(parts["__metadata__"]))
        text = parts["__metadata__"][key]
        change = (
            mutated(text.encode(), generator).decode("latin1") if kind == 3 else with_another_number(text, generator)
        )
        parts["__metadata__"][key] = change
        header = json.dumps(parts).encode()
    return len(header).to_bytes(8, "little") + header + tensors


def mutated_archive(data: bytes, generator: np.random.Generator) -> bytes:
    """An .npz changed as bytes, or in the bytes, the header or the numbers of one member, with a right checksum."""
    if generator.integers(0, 3) == 0:
        return mutated(data, generator)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[generator.integers(0, len(members))]
    head, numbers = members[name][:128], members[name][128:]
    kind = generator.integers(0, 3)
    if kind == 0:
        head = mutated(head, generator)
    elif kind == 1:
        text = with_another_number(head[10:].decode("latin1"), generator).encode("latin1")
        head = head[:8] + (len(text) % 65536).to_bytes(2, "little") + text
    else:
        numbers = mutated(numbers, generator)
    members[name] = head + numbers
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][generator.integers(0, 2)]) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


# ---------------------------------------------------------------------------------------------------- healthy files


def ball_samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """points (count, 3) and sdf (count,), float32, of a ball."""
    points = np.random.default_rng(0).uniform(-1, 1, (count, 3)).astype(np.float32)
    return points, np.linalg.norm(points, axis=1) - np.float32(0.6)


def networks() -> list[NeuralSDF]:
    """Small networks: all scalers, with and without a hash grid."""
    sdf = ball_samples(500)[1]
    made = [NeuralSDF((8, 8), "sine", None, fit_scaler("PowerTransformer", sdf), (0.1, 0.2, 0.3), 0.5)]
    for scaler in ("none", "StandardScaler", "QuantileTransformer"):
        made.append(NeuralSDF((8, 8), "relu", HashGrid(2, 2, 4, 8, 6), fit_scaler(scaler, sdf)))
        made.append(NeuralSDF((8,), "relu", None, fit_scaler(scaler, sdf)))
    for network in made:
        network.initialise("he_uniform", torch.Generator().manual_seed(0))
    return made


def run_fit(network: NeuralSDF, checkpoint: Path, stop_after: int, resume: bool) -> None:
    """A fit of 16 steps that is interrupted after so many. Raises as `fit` does, but for the interruption."""
    settings = FitSettings(epochs=1, batch_size=32, optimizer="soap" if network.encoding is None else "adam")
    left = iter(range(stop_after))
    hooks = FitHooks(checkpoint=checkpoint, should_stop=lambda: next(left, None) is None)
    with contextlib.suppress(Interrupted):
        fit(network, *ball_samples(512), settings, hooks, resume)


def healthy_files(kind: str, folder: Path) -> list[bytes]:
    """The contents of healthy files of a kind."""
    path, files = folder / "healthy", []
    if kind == "samples":
        points, sdf = ball_samples(60)
        train = np.column_stack([points, sdf])
        for save in (np.savez, np.savez_compressed):
            save(path, train=train, center=np.zeros(3), scale=np.float64(0.5))
            files.append(path.with_suffix(".npz").read_bytes())
        return files
    for network in networks():
        if kind == "model":
            network.save(path)
        else:
            run_fit(network, path, 6, resume=False)
        files.append(path.read_bytes())
    return files


# --------------------------------------------------------------------------------------------------------- targets


def read_model(path: Path, index: int) -> None:
    """Load a model, ask it, and run a command on it."""
    model = NeuralSDF.load(path)
    model(np.zeros((3, 3))), model.gradient(np.zeros((3, 3)))
    assert np.isnan(model(np.array([[0, np.nan, 0]]))).all()
    output = str(path.with_suffix(".ply"))
    commands = {
        info.main: [str(path)],
        march.main: [str(path), "--reconstructionRes", "12", "--output", output],
        measure.main: [str(path), str(path.with_name("box.stl")), "--num_points", "100", "--reconstructionRes", "12"],
    }
    command = list(commands)[index % 3]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = command(commands[command])
    lines = [line for line in re.split(r"[\r\n]", said.getvalue()) if ".py: " in line]
    is_good = code == len(lines) == 0 or (
        code == len(lines) == 1 and str(path.parent) in lines[0] and lines[0].isprintable()
    )
    assert is_good, f"exit code {code}, {lines}"


def read_checkpoint(path: Path, index: int) -> None:
    """Resume a fit from a checkpoint, and take some more steps."""
    made = networks()
    run_fit(made[index % len(made)], path, 3, resume=True)


def read_samples(path: Path, index: int) -> None:
    """Load samples and look at their convention."""
    points, sdf, _ = load_samples(path)
    negative_inside(path, points, sdf)


TARGETS = {
    "model": (read_model, mutated_safetensors, "mutant.safetensors"),
    "checkpoint": (read_checkpoint, mutated_safetensors, "mutant.checkpoint"),
    "samples": (read_samples, mutated_archive, "mutant.npz"),
}


def outcome(target: Callable[[Path, int], None], path: Path, index: int) -> str:
    """'read', 'refused', or the fault of one mutant."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target(path, index)
        result = "read"
    except UserError as error:
        text = str(error)
        is_good = text.isprintable() and len(text) < 500 and ("not a number" in text or str(path) in text)
        result = "refused" if is_good else f"message: {text!r}"
    except Exception as error:
        result = with_place(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.monotonic() - start > SECONDS:
        result = f"slow: {time.monotonic() - start:.1f} s, {result}"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MEMORY / 1024 / 4:
        result = f"memory: {result}"
    return result


def _timed_out(*_: object) -> None:
    """Raise TimeoutError in whatever runs when a mutant's time is over."""
    raise TimeoutError("a mutant takes too long")


# -------------------------------------------------------------------------------------------------------- children


def child(kind: str, seed: int, first: int, count: int) -> None:
    """Run mutants first to first + count of a kind; prints a line of JSON for each."""
    warnings.simplefilter("error", RuntimeWarning)
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _timed_out)
    target, mutate, name = TARGETS[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        healthy = healthy_files(kind, Path(folder))
        corners = np.array([[x, y, z] for x in (-0.4, 0.4) for y in (-0.3, 0.3) for z in (-0.2, 0.2)])
        faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
        faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
        write_mesh(path.with_name("box.stl"), corners, np.array(faces))
        # Healthy files first: they must be read, and they have Numba load its loops before memory is limited.
        for index, data in enumerate(healthy):
            for turn in range(3 if kind == "model" else 1):
                path.write_bytes(data)
                assert (result := outcome(target, path, index + len(healthy) * turn)) == "read", result
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGESIZE") + MEMORY,) * 2)
        for index in range(first, first + count):
            print(json.dumps(["begun", index]), flush=True)
            generator = np.random.default_rng([seed, KINDS.index(kind), index])
            path.write_bytes(mutate(healthy[index % len(healthy)], generator))
            print(json.dumps([outcome(target, path, index), index]), flush=True)


def run_child(kind: str, seed: int, first: int, count: int) -> tuple[Counter, list[str], int]:
    """(counts of outcomes, faults, first mutant that was not run) of a child with mutants first to first + count."""
    words = [sys.executable, "-m", "tests.fuzz_models", "--child", kind, str(seed), str(first), str(count)]
    limit = STARTING + SECONDS + count * 0.5
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
        printed, end = done.stdout, f"exit code {done.returncode}: {done.stderr[-300:]}"
    except subprocess.TimeoutExpired as expired:
        printed, end = (expired.stdout or b"").decode(), f"no end after {limit:.0f} s"
    lines = [json.loads(line) for line in printed.splitlines() if line.endswith("]")]
    if not lines:
        raise RuntimeError(f"no mutant was run: {end}")
    results = [(text, index) for text, index in lines if text != "begun"]
    counts = Counter(text if text in ("read", "refused") else "fault" for text, _ in results)
    where = f"--child {kind} {seed}"
    faults = [f"{where} {index} 1: {text}" for text, index in results if text not in ("read", "refused")]
    finished = first + len(results)
    if finished < first + count:
        counts["fault"] += 1
        faults.append(f"{where} {finished} 1: {end}")
        finished += 1
    return counts, faults, finished


def fuzz(kinds: tuple[str, ...], count: int, seed: int = 0) -> tuple[Counter, list[str]]:
    """Run `count` mutants of each kind: counts of (kind, outcome), and the faults, a line each."""
    counts, faults = Counter(), []
    for kind in kinds:
        first = 0
        while first < count:
            some, wrong, first = run_child(kind, seed, first, min(BATCH, count - first))
            counts.update({(kind, name): number for name, number in some.items()})
            faults += wrong
    return counts, faults


def main() -> int:
    """The command line; returns the exit code, 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="mutants of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--child", nargs=4, metavar=("KIND", "SEED", "FIRST", "COUNT"), help="run these mutants here")
    flags = parser.parse_args()
    if flags.child:
        child(flags.child[0], *map(int, flags.child[1:]))
        return 0
    counts, faults = fuzz(flags.kinds, flags.count, flags.seed)
    print("\n".join([*faults, *(f"{kind} {name}: {number}" for (kind, name), number in sorted(counts.items()))]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
