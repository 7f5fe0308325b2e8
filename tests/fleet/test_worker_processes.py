"""Worker processes: their CPUs and GPUs, how they die, and who else notices."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from neuralparts import machine
from neuralparts.fleet import FleetError, Processes, default_workers, worker_processes
from neuralparts.fleet.worker import THREAD_VARIABLES
from tests.fleet.runs import ROOT, STUB, children_of, is_alive, run_stubs, wait_for


def test_workers_are_kept_for_many_parts_and_all_have_work(tmp_path):
    names = [f"slow_{k}" for k in range(6)]
    results = run_stubs(names, Processes(STUB, 2))
    by_process = Counter(result["pid"] for result in results.values())
    assert sorted(by_process.values()) == [3, 3] and os.getpid() not in by_process


def test_processors_threads_and_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setattr(worker_processes, "usable_processors", lambda: [0, 1, 2, 3, 4])
    settings = Processes(STUB, 2, ["GPU-a", "GPU-b"]).settings
    assert [cores for _, cores in settings] == [[0, 2, 4], [1, 3]]
    for (environment, cores), gpu in zip(settings, ["GPU-a", "GPU-b"], strict=True):
        assert environment["CUDA_VISIBLE_DEVICES"] == gpu
        assert {environment[name] for name in THREAD_VARIABLES} == {str(len(cores))}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x")
    assert machine.usable_gpus() == ["3", "GPU-x"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.usable_gpus() == []


def test_a_worker_has_what_was_dealt_to_it():
    processors = machine.usable_processors()
    results = run_stubs(["shows_1", "shows_2"], Processes(STUB, 2, gpus=["7", "8"]))
    found = [result["found"] for result in results.values()]
    assert {one["CUDA_VISIBLE_DEVICES"] for one in found} == {"7", "8"}
    assert {one["OMP_NUM_THREADS"] for one in found} == {one["NUMBA_NUM_THREADS"] for one in found}
    assert sorted({core for one in found for core in one["processors"]}) == processors


def test_a_worker_frees_the_cycles_of_a_part():
    results = run_stubs(["cycle_1", "cycle_2", "cycle_3"], Processes(STUB, 1))
    assert [result["found"] for result in results.values()] == [False] * 3
    assert len({result["pid"] for result in results.values()}) == 1


def test_default_number_of_workers_is_bounded_by_parts_and_memory(monkeypatch):
    monkeypatch.setattr(worker_processes, "usable_processors", lambda: list(range(16)))
    monkeypatch.setattr(worker_processes, "usable_memory", lambda: 10 * 2**30)
    assert default_workers(200, 2**29) == 16
    assert default_workers(3, 2**29) == 3
    assert default_workers(200, 2 * 2**30) == 5
    assert default_workers(200, 40 * 2**30) == 1


def test_a_process_that_can_do_no_more_is_replaced():
    results = run_stubs(["fatal", "good_1", "good_2"], Processes(STUB, 1))
    assert results["fatal"]["status"] == "failed" and results["good_1"]["status"] == "done"
    assert results["fatal"]["pid"] != results["good_1"]["pid"] == results["good_2"]["pid"]


def test_when_a_worker_dies_only_its_part_fails(tmp_path):
    log = tmp_path / "log"
    names = ["good_1", "segfault_2", "good_3", "oom_4", "good_5", "terminated_6", "good_7"]
    results = run_stubs(names, Processes(STUB, 2), log=str(log))
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == dict.fromkeys(names, "done") | {"segfault_2": "failed"}
    assert "SIGSEGV" in results["segfault_2"]["reason"] and "Segmentation fault" in results["segfault_2"]["reason"]
    assert results["segfault_2"]["reason"].startswith("/parts/segfault_2.stl: ")
    attempts = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert attempts == dict.fromkeys(names, 1) | {"segfault_2": 2, "oom_4": 2, "terminated_6": 2}


def test_a_part_that_hangs_is_ended_and_not_tried_again(tmp_path):
    log = tmp_path / "log"
    results = run_stubs(["hang_1", "good_2", "good_3"], Processes(STUB, 2, part_timeout=0.5), log=str(log))
    assert {name: result["status"] for name, result in results.items()} == {
        "hang_1": "failed",
        "good_2": "done",
        "good_3": "done",
    }
    assert (
        results["hang_1"]["reason"].endswith("timed out after 0.5 s (--partTimeout)")
        and log.read_text().count("hang_1") == 1
    )


def test_a_part_that_exceeds_the_memory_of_a_worker_is_tried_once_more(tmp_path):
    log = tmp_path / "log"
    place = Processes(STUB, 2, memory=2**27)
    results = run_stubs(["greedy_1", "gluttonous_2", "good_3"], place, log=str(log))
    assert results["greedy_1"]["status"] == results["good_3"]["status"] == "done"
    assert results["gluttonous_2"]["status"] == "failed"
    assert results["gluttonous_2"]["reason"].endswith("its worker exceeded the 128 MiB of --workerMemory")
    assert Counter(line.split()[0] for line in log.read_text().splitlines())["gluttonous_2"] == 2


def test_a_worker_that_cannot_start_ends_the_run_with_a_line():
    with pytest.raises(FleetError, match=r"cannot start: .*no_such_module"):
        run_stubs(["good_1"], Processes("no_such_module:act", 1))


def test_workers_end_when_their_driver_is_killed(tmp_path):
    mark = tmp_path / "mark"
    program = f"""
from neuralparts.fleet import Processes, run
run([{{"name": "waits", "input": {str(mark)!r}}}], Processes({STUB!r}, 1), print)
"""
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    wait_for(mark.exists, "the worker")
    workers = children_of(driver.pid)
    driver.kill()
    driver.wait()
    assert workers
    wait_for(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")


def test_a_worker_imports_from_where_the_driver_does(tmp_path):
    """Whatever the current folder is, and whatever modules lie there."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "neuralparts").mkdir()
    (tmp_path / "neuralparts/__init__.py").write_text("raise SystemExit('the wrong package')")
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
os.chdir({str(tmp_path)!r})
from neuralparts.fleet import Processes, run
place = Processes({STUB!r}, 1)
run([{{"name": "good", "input": "x"}}], place, lambda job, result: print(result["status"]))
place.close()
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


def test_the_driver_imports_no_heavy_library():
    program = """
import sys
import neuralparts.commands.fit, neuralparts.fleet, neuralparts.job, neuralparts.output
heavy = {"torch", "matplotlib", "numba", "scipy", "trimesh", "plotly", "skimage", "sklearn", "PIL", "ray", "igl"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
