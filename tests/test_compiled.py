"""The cache of machine code: damage is repaired, a place that refuses is done without, and no command ends by it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuralparts.mesh_files import write_mesh
from tests.meshes import box

ROOT = Path(__file__).resolve().parents[1]
# A module with one loop of its own, and a program that calls it twice: by two dispatchers, as two starts would.
LOOPS = """
from neuralparts.compiled import cached_njit


def double(value):
    return 2 * value


def start():
    loop = cached_njit(nogil=True)(double)
    return loop(21), sum(loop.stats.cache_hits.values())
"""
DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "cut within the checksum": lambda data: data[:7],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "zeros at the end": lambda data: data[:-4096] + bytes(4096),
    "one bit": lambda data: data[:-100] + bytes([data[-100] ^ 16]) + data[-99:],
    "longer": lambda data: data + b"\0",
}


@pytest.fixture
def loops(tmp_path, monkeypatch):
    """The module LOOPS, imported from a folder of its own, and that folder's cache."""
    (tmp_path / "some_kernels.py").write_text(LOOPS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_kernels", raising=False)
    import some_kernels

    yield some_kernels, tmp_path / "__pycache__"
    del sys.modules["some_kernels"]


def test_damaged_machine_code_is_compiled_again_once(loops, capfd):
    module, folder = loops
    assert module.start() == (42, 0) and module.start() == (42, 1)
    (file,) = folder.glob("*.nbc")
    whole = file.read_bytes()
    for name, damage in DAMAGE.items():
        file.write_bytes(damage(whole))
        assert module.start() == (42, 0), name
        assert module.start() == (42, 1), name
    file.unlink()
    file.mkdir()  # neither read nor replaced: the next folder takes it
    assert module.start()[0] == 42
    assert capfd.readouterr() == ("", "")


def test_machine_code_of_another_source_does_not_count(loops):
    module, folder = loops
    module.start()
    (folder.parent / "other_kernels.py").write_text("# a loop that may be compiled into this one")
    from neuralparts import compiled

    compiled._source_stamp.cache_clear()
    assert module.start() == (42, 0) and module.start() == (42, 1)


def run_start(folder, **environment):
    """The result of two calls of `start` in a process, and what it says on stderr."""
    program = "import some_kernels; print(some_kernels.start(), some_kernels.start())"
    words = [sys.executable, "-B", "-c", program]
    setting = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])} | environment
    done = subprocess.run(words, env=setting, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_a_place_that_cannot_be_written_is_done_without_and_said_once(tmp_path):
    (tmp_path / "some_kernels.py").write_text(LOOPS)
    (tmp_path / "__pycache__").write_text("a file where the folder would be")
    nowhere = {"HOME": "/proc", "NUMBA_CACHE_DIR": str(tmp_path / "some_kernels.py/x")}
    nowhere["XDG_CACHE_HOME"] = "/proc"
    result, said = run_start(tmp_path, **nowhere)
    assert result == "(42, 0) (42, 0)"
    assert said.startswith("compiled loops cannot be kept (") and said.count("\n") == 1 and "NUMBA_CACHE_DIR" in said
    # A folder that takes it ends that.
    result, said = run_start(tmp_path, **nowhere | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")})
    assert (result, said) == ("(42, 0) (42, 1)", "")


# ------------------------------------------------------------------------------------------- whole commands, minutes


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with machine code of a fit, a mesh, and the arguments of a small fit."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "neuralparts", folder / "neuralparts", ignore=shutil.ignore_patterns("__pycache__"))
    for script in ROOT.glob("*.py"):
        shutil.copy(script, folder)
    write_mesh(folder / "box.stl", *box())
    assert fit(folder, "out").returncode == 0
    return folder


def fit(folder, output, *before, source="box.stl", more=(), **environment):
    """A small fit as a process. before: words that run the command."""
    flags = "--num_points 20000 --epochs 4 --batchSize 512 --reconstructionRes 32 --encoding hashgrid --numLayers 1"
    flags += " --layerWidth 16 --hashLevels 3 --hashFinestRes 32 --overwrite 1"
    words = [*before, sys.executable, "trainer.py", source, "--outputDir", output, *flags.split(), *more]
    return subprocess.run(words, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


def damage_all(folder, seed):
    """Damage every file of machine code in a different way; returns their number."""
    random, files = np.random.default_rng(seed), list(folder.rglob("*.nbc"))
    for file in files:
        file.write_bytes(random.choice(list(DAMAGE.values()))(file.read_bytes()))
    return len(files)


@pytest.mark.long
def test_all_commands_go_on_with_damaged_machine_code(project):
    model = "out/box.safetensors"
    commands = {
        "trainer.py": None,
        "marching.py": [model, "--reconstructionRes", "32", "--output", "again.stl"],
        "metrics.py": [model, "box.stl", "--num_points", "500", "--reconstructionRes", "32"],
        "sampling.py": ["box.stl", "--num_points", "500", "--out", "samples.npz"],
        "network.py": [model],
    }
    for seed, (script, arguments) in enumerate(commands.items()):
        assert damage_all(project, seed) > 20
        if arguments is None:
            done = fit(project, "out")
        else:
            words = [sys.executable, script, *arguments]
            done = subprocess.run(words, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr, (script, done.stderr)
        assert "cannot be kept" not in done.stderr


@pytest.mark.long
def test_two_fits_at_once_repair_the_same_machine_code(project):
    damage_all(project, 9)
    words = [
        sys.executable,
        "-c",
        "import sys; from tests.test_compiled import fit; sys.exit(fit(*sys.argv[1:]).returncode)",
    ]
    both = [subprocess.Popen([*words, str(project), out], cwd=ROOT) for out in ("a", "b")]
    assert [one.wait() for one in both] == [0, 0]
    assert fit(project, "out").returncode == 0


@pytest.mark.long
def test_workers_go_on_with_damaged_machine_code(project):
    (project / "many").mkdir()
    for name in "abc":
        shutil.copy(project / "box.stl", project / f"many/{name}.stl")
    damage_all(project, 10)
    done = fit(project, "folder", source="many", more=("--workers", "2"))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts need root")
def test_a_read_only_project_without_a_home_fits(project, tmp_path):
    for file in project.rglob("*.nbc"):
        file.unlink()
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
    done = fit(project, str(tmp_path / "out"), "unshare", "-m", "bash", "-c", mount, str(project), HOME="/proc")
    if done.returncode == 1 and "unshare" in done.stderr:
        pytest.skip("no mounts here")
    assert done.returncode == 0 and done.stderr.count("cannot be kept") == 1, done.stderr
    assert (tmp_path / "out/box.safetensors").exists()
