"""Commands under `ulimit -v`: one line about memory, no traceback, no crash by a signal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuralparts.machine import ADDRESS_SPACE, check_address_space
from neuralparts.mesh_files import write_mesh
from tests.meshes import box

resource = pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "trainer.py": ["box.stl", "--outputDir", "out"],
    "sampling.py": ["box.stl", "--out", "samples.npz"],
    "marching.py": ["box.safetensors"],
    "metrics.py": ["box.safetensors", "box.stl"],
    "network.py": ["box.safetensors"],
    "export.py": ["box.safetensors", "--to", "c"],
}


def run_limited(folder, script, *arguments, limit):
    """A command in `folder` on one thread, with so many bytes of address space; (exit code, lines on stderr)."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("script", COMMANDS)
@pytest.mark.parametrize("limit", [2**26, 3 * 2**28 - 1])
def test_too_little_address_space_is_refused_in_one_line(tmp_path, script, limit):
    code, lines = run_limited(tmp_path, script, *COMMANDS[script], limit=limit)
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith(f"{script}: not enough memory: ulimit -v allows {limit // 1024} KiB, and 1 thread")


def test_without_a_limit_nothing_is_refused():
    check_address_space()


@pytest.mark.long
@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_a_part_that_needs_more_than_the_limit_fails_in_a_line(tmp_path, workers):
    (tmp_path / "in").mkdir()
    write_mesh(tmp_path / "in/box.stl", *box())
    source = "in" if workers else "in/box.stl"
    flags = [source, "--outputDir", "out", "--num_points", "60000000", "--epochs", "1", *workers]
    code, lines = run_limited(tmp_path, "trainer.py", *flags, limit=ADDRESS_SPACE + 2**27)
    assert code == 1 and not any("Traceback" in line for line in lines)
    assert sum("in/box.stl: out of memory" in line for line in lines) == 1
