"""Runs mutants in child processes, with limits of memory and time, and counts their outcomes."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import torch

from neuralparts.mesh_files import write_mesh
from tests.fuzz import targets
from tests.fuzz.mesh_seeds import mesh_files
from tests.fuzz.model_seeds import model_files
from tests.fuzz.mutations import MUTATORS
from tests.meshes import box

KINDS = tuple(MUTATORS)
TARGETS = {
    "model": (targets.read_model, "mutant.safetensors"),
    "checkpoint": (targets.read_checkpoint, "mutant.checkpoint"),
    "samples": (targets.read_samples, "mutant.npz"),
}
# Seconds of CPU time for one mutant; of real time for a child's start, and beyond a mutant's if its child hears no
# signal.
SECONDS, STARTING, DEAF = 10.0, 120.0, 50.0
# Mutants of a child: as many as make its start a small part of its time.
BATCH = 20_000


def healthy_files(kind: str, folder: Path) -> list[bytes]:
    """The seeds of a kind. folder: for what lies beside them."""
    return model_files(kind, folder) if kind in TARGETS else mesh_files(kind, folder)


def mutant(kind: str, healthy: list[bytes], seed: int, index: int) -> bytes:
    """Mutant `index` of a kind: the same bytes for the same numbers."""
    random = Random(f"{kind} {seed} {index}")
    return MUTATORS[kind](healthy[index % len(healthy)], random.choice(healthy), random)


def run_here(kind: str, seed: int, first: int, count: int, saved: Path | None = None) -> None:
    """Run mutants first to first + count of a kind in this process; prints a line of JSON for each.

    saved: a folder in which each mutant is kept, or None.
    """
    warnings.simplefilter("error", RuntimeWarning)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # the commands compare the limit of memory with the number of threads
    signal.signal(signal.SIGPROF, _timed_out)
    target, name = TARGETS.get(kind, (targets.read_mesh, f"mutant.{kind}"))
    # In memory where there is such a folder: a disk would take longer than the reading.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        path = Path(folder) / name
        healthy = healthy_files(kind, Path(folder))
        write_mesh(path.with_name("box.stl"), *box())
        # Healthy files first: they must be read, and they have Numba load its loops before memory is limited.
        for index, data in enumerate(healthy):
            path.write_bytes(data)
            target(path, index)
        for index in range(first, first + count):
            data = mutant(kind, healthy, seed, index)
            path.write_bytes(data)
            if saved is not None:
                (saved / f"{kind}_{seed}_{index}{path.suffix}").write_bytes(data)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            result = targets.outcome(target, path, index)
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps(result), flush=True)


def _timed_out(*_: object) -> None:
    """Raise TimeoutError in whatever runs when a mutant's time is over."""
    raise TimeoutError("a mutant takes too long")


def run_child(kind: str, seed: int, first: int, count: int) -> tuple[Counter, list[str], int]:
    """(counts of outcomes, faults, first mutant that was not run) of a child with mutants first to first + count."""
    words = [sys.executable, "-m", "tests.fuzz", "--here", kind, str(seed), str(first), str(count)]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said) as child,
    ):
        results, in_time = _results(child)
        child.kill()
        code = child.wait()
        said.seek(0)
        words_of_child = said.read()[-300:]
    if not results:
        raise RuntimeError(f"no mutant was run: exit code {code}: {words_of_child}")
    counts = Counter(text if text in ("read", "refused") else "fault" for text in results)
    faults = [_fault(kind, seed, first + k, text) for k, text in enumerate(results) if text not in ("read", "refused")]
    finished = first + len(results)
    if finished < first + count:
        counts["fault"] += 1
        end = f"exit code {code}: {words_of_child}" if in_time else "no end"
        faults.append(_fault(kind, seed, finished, end))
        finished += 1
    return counts, faults, finished


def _results(child: subprocess.Popen) -> tuple[list[str], bool]:
    """The outcomes that a child printed until it ended, and False if it was given up."""
    text, wait = b"", STARTING
    while select.select([child.stdout], [], [], wait)[0]:
        new = child.stdout.read1(65536)
        if not new:
            child.wait()
            return [json.loads(line) for line in text.splitlines() if line.endswith(b'"')], True
        text, wait = text + new, SECONDS + DEAF
    return [json.loads(line) for line in text.splitlines() if line.endswith(b'"')], False


def _fault(kind: str, seed: int, index: int, text: str) -> str:
    """A fault as a line that begins with the flags that run the same mutant again."""
    return f"--here {kind} {seed} {index} 1: {text}"


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
