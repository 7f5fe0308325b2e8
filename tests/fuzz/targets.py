"""The reading of a mutant, and the judgement: read, refused in one good line, or a fault.

A fault is any other exception, a line that does not name the file or does not print, or a warning of numpy.
"""

import contextlib
import io
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from neuralparts.commands import info, march, measure
from neuralparts.distance import DistanceOracle
from neuralparts.errors import UserError, with_place
from neuralparts.mesh import load_mesh
from neuralparts.network import NeuralSDF
from neuralparts.sampling import draw_samples, load_samples, negative_inside
from tests.fuzz.model_seeds import networks, run_fit

# Memory that a mutant may take: so many bytes, and so many times its own.
MEMORY, MEMORY_PER_BYTE = 500 * 2**20, 50
# Characters of a line.
LONGEST_LINE = 500
# One of so many meshes that were read is asked for distances, and one of so many for samples.
ASKED, SAMPLED = 4, 50
QUESTIONS = np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32)


def read_mesh(path: Path, index: int) -> None:
    """Load a mesh; ask some of them for distances, and a few for samples."""
    mesh = load_mesh(path, 32)
    assert all(line.isprintable() and len(line) < LONGEST_LINE for line in mesh.diagnosis["changes"])
    assert np.isfinite(mesh.vertices).all() and np.abs(mesh.vertices).max() < 1.001
    if index % ASKED == 0:
        oracle = DistanceOracle(mesh)
        assert np.isfinite(oracle.signed_distance(QUESTIONS)).all()
        if index % SAMPLED == 0:
            points, sdf = draw_samples("Importance", oracle, 100, np.random.default_rng(0))
            assert np.isfinite(points).all() and np.isfinite(sdf).all()


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


def outcome(target: Callable[[Path, int], None], path: Path, index: int) -> str:
    """'read', 'refused', or the fault of one mutant."""
    try:
        with memory_limit(path.stat().st_size):
            target(path, index)
    except UserError as error:
        text = str(error)
        # A fit whose loss is not a number says so; the fit of a whole command names its file.
        is_good = text.isprintable() and len(text) < LONGEST_LINE and ("not a number" in text or str(path) in text)
        return "refused" if is_good else f"message: {text!r}"
    except Exception as error:
        return with_place(error)
    return "read"


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Let the block take no more address space than a mutant of so many bytes may."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY + MEMORY_PER_BYTE * size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
