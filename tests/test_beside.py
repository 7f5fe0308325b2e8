"""What runs beside what: torch is imported while a part is labelled, the page is drawn while it is measured."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import neuralparts
from neuralparts import beside as beside_module
from neuralparts import kept, network_stages
from neuralparts.beside import beside
from neuralparts.errors import Interrupted
from neuralparts.flags import parse_fit_flags
from neuralparts.mesh_files import write_mesh
from neuralparts.part import fit_part, import_network_stages
from neuralparts.watch import Watch
from tests.meshes import box

ROOT = Path(__file__).resolve().parents[1]
# Modules named torch: one whose import takes longer than any test, one that lacks a library.
SLOW, BROKEN = "import time; time.sleep(3600)", "raise ModuleNotFoundError('No module named torch', name='torch')"
SMALL = ["--num_points", "3000", "--epochs", "1", "--batchSize", "256", "--encoding", "hashgrid", "--numLayers", "1"]
SMALL += ["--hashTableLog2", "9", "--numPairs", "100", "--reconstructionRes", "24", "--showVis", "0"]


@pytest.fixture
def trainer(tmp_path):
    """Starts the trainer in a folder with box.stl, with another torch or environment."""
    write_mesh(tmp_path / "box.stl", *box())

    def start(*words, torch="", **environment):
        paths = [str(ROOT)]
        if torch:
            (tmp_path / "other/torch").mkdir(parents=True)
            (tmp_path / "other/torch/__init__.py").write_text(torch)
            paths.insert(0, str(tmp_path / "other"))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment
        call = [sys.executable, str(ROOT / "trainer.py"), *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(call, cwd=tmp_path, env=environment, **pipes)

    return start


def test_a_bad_file_is_refused_before_torch_is_there(tmp_path, trainer):
    (tmp_path / "bad.stl").write_text("solid x\nfacet")
    process = trainer("bad.stl", "--outputDir", "out", torch=SLOW)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err.count("\n") == 1 and "bad.stl" in err


def test_ctrl_c_ends_while_torch_is_imported(trainer):
    process = trainer("box.stl", "--num_points", "100000000", "--outputDir", "out", torch=SLOW)
    assert "12 triangles" in process.stderr.readline()  # it has been read
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped" in out + err and "Traceback" not in err


def test_a_torch_that_cannot_be_imported_is_named_in_one_line(trainer):
    process = trainer("box.stl", *SMALL, "--outputDir", "out", torch=BROKEN)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "torch" in err.splitlines()[-1] and "Traceback" not in err, out + err


def test_one_thread_and_two_leave_the_same_files(tmp_path, trainer):
    """With one thread everything runs one after the other."""
    records = []
    for threads in ("1", "2"):
        process = trainer("box.stl", *SMALL, "--outputDir", threads, OMP_NUM_THREADS=threads)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        record = json.loads((tmp_path / threads / "box.json").read_text())
        records.append({key: record[key] for key in ("metrics", "off_surface", "reconstruction", "diagnosis")})
    assert records[0] == records[1]
    for suffix in (".safetensors", ".stl", ".png"):
        first, second = ((tmp_path / threads / f"box{suffix}").read_bytes() for threads in ("1", "2"))
        assert first == second, suffix


@pytest.mark.parametrize("threads", [1, 2])
def test_work_beside_gives_its_result_or_its_error(monkeypatch, threads):
    monkeypatch.setattr(beside_module, "thread_count", lambda: threads)
    where = beside(threading.current_thread)
    assert (where() is threading.current_thread()) == (threads == 1)
    fails = beside(lambda: {}["a key that is missing"])
    with pytest.raises(KeyError, match="a key that is missing"):
        fails()


def test_a_fit_begins_when_the_device_is_chosen_and_warm(tmp_path, monkeypatch):
    """While steps are captured, no other thread may use the GPU."""
    monkeypatch.setattr(beside_module, "thread_count", lambda: 2)
    happened = []

    def warm_up(device, flags):
        threading.Event().wait(0.1)
        happened.append(f"{device} is warm")

    def train(data, device, *more):
        happened.append(f"fitted on {device}")
        raise Interrupted

    for name, stub in (("choose_device", lambda gpu, watch: "cuda:0"), ("warm_up", warm_up), ("train", train)):
        monkeypatch.setattr(network_stages, name, stub)
    write_mesh(tmp_path / "box.stl", *box())
    flags = parse_fit_flags([str(tmp_path / "box.stl"), *SMALL])
    with pytest.raises(Interrupted):
        fit_part(tmp_path / "box.stl", flags, None, Watch())
    assert happened == ["cuda:0 is warm", "fitted on cuda:0"]


@pytest.mark.parametrize("collects", [True, False])
def test_importing_torch_leaves_garbage_collection_as_it_was(monkeypatch, collects):
    monkeypatch.setattr(neuralparts, "network_stages", network_stages)  # put back at the end
    monkeypatch.delitem(sys.modules, "neuralparts.network_stages")
    try:
        (gc.enable if collects else gc.disable)()
        assert import_network_stages() is not network_stages
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def test_what_is_kept_is_made_again_if_it_is_damaged_or_of_another_origin(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "cache_folders", lambda source: [tmp_path / "a file" / "below", tmp_path / "kept"])
    (tmp_path / "a file").write_text("")  # so the first folder cannot be made
    assert kept.read_kept("source", "name", b"origin") is None
    kept.keep("source", "name", b"origin", b"content")
    assert kept.read_kept("source", "name", b"origin") == b"content"
    assert kept.read_kept("source", "name", b"another") is None
    path = tmp_path / "kept/name"
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.read_kept("source", "name", b"origin") is None


@pytest.mark.parametrize("failing", ["evaluate", "model_card"])
def test_a_part_that_fails_does_not_leave_its_drawing_to_the_next(monkeypatch, failing):
    monkeypatch.setattr(beside_module, "thread_count", lambda: 2)
    is_drawn = threading.Event()

    def fails(*arguments):
        raise OSError("no space left")

    def draws(*arguments):
        threading.Event().wait(0.2)
        is_drawn.set()

    stubs = {"evaluate": lambda *_: SimpleNamespace(metrics={}, notes=[]), "evaluate_off_surface": lambda *_: {}}
    stubs |= {"reconstruct": lambda *_: (None, ""), "draw_report": draws, "facts": lambda _: {}, failing: fails}
    for name in ("about_fit", "about_part", "about_search"):
        stubs[name] = lambda *_: {}
    for name, stub in stubs.items():
        monkeypatch.setattr(network_stages, name, stub)
    flags = SimpleNamespace(outputs="page", reconstructionRes=0, precision="float32", seed=0, modelCard=1)
    files = SimpleNamespace(name="part", model=Path("part.safetensors"), write_card=print)
    network, result = SimpleNamespace(about={}), SimpleNamespace(collapsed="")
    with pytest.raises(OSError, match="no space left"):
        network_stages.finish(None, "", network, result, "cpu", flags, files, Watch(), "part.stl", 0.0)
    assert is_drawn.is_set()
