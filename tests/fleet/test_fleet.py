"""Many parts: every place to run them, workers that die, runs that are killed, folders that cannot be written."""

import csv
import importlib.util
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh

from neuralparts import machine, part
from neuralparts.commands import fit as commands_fit
from neuralparts.fitting import loop as fitting
from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import fleet, folders
from neuralparts.job import fit_one, fit_sent
from neuralparts.output import files as artifacts
from tests import fleet_stubs

ROOT = Path(__file__).resolve().parents[2]
STUB = "tests.fleet_stubs:act"
# Seconds after which a test that waits has failed; nothing takes so long that does not hang.
PATIENCE = 120.0


def jobs_of(names, **more):
    return [{"name": name, "input": f"/parts/{name}.stl", **more} for name in names]


def run_stubs(names, place, should_stop=lambda: False, tick=lambda *_: None, **more):
    """Results by name, each part's once."""
    results = {}

    def finished(job, result):
        assert job["name"] not in results
        results[job["name"]] = result

    try:
        fleet.run(jobs_of(names, **more), place, finished, tick, should_stop)
    finally:
        place.kill()
    return results


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------- places to run


@pytest.mark.parametrize("place", ["here", "processes"])
def test_every_place_gives_the_same_results(place):
    place = fleet.Here(STUB) if place == "here" else fleet.Processes(STUB, 2)
    results = run_stubs(["good_1", "refused_2", "raises_3", "exhausted_4", "good_5"], place)
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == {
        "good_1": "done",
        "refused_2": "refused",
        "raises_3": "failed",
        "exhausted_4": "done",
        "good_5": "done",
    }
    assert results["raises_3"]["reason"].startswith("/parts/raises_3.stl: KeyError: 'no such key' (fleet_stubs.py:")


def test_workers_are_kept_for_many_parts_and_all_have_work(tmp_path):
    names = [f"slow_{k}" for k in range(6)]
    results = run_stubs(names, fleet.Processes(STUB, 2))
    by_process = Counter(result["pid"] for result in results.values())
    assert sorted(by_process.values()) == [3, 3] and os.getpid() not in by_process


def test_processors_threads_and_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setattr(fleet, "usable_processors", lambda: [0, 1, 2, 3, 4])
    settings = [fleet.worker_settings(k, 2, ["GPU-a", "GPU-b"]) for k in range(2)]
    assert [cores for _, cores in settings] == [[0, 2, 4], [1, 3]]
    for (environment, cores), gpu in zip(settings, ["GPU-a", "GPU-b"], strict=True):
        assert environment["CUDA_VISIBLE_DEVICES"] == gpu
        assert {environment[name] for name in fleet.THREAD_VARIABLES} == {str(len(cores))}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x")
    assert machine.usable_gpus() == ["3", "GPU-x"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.usable_gpus() == []


def test_a_worker_has_what_was_dealt_to_it():
    processors = machine.usable_processors()
    results = run_stubs(["shows_1", "shows_2"], fleet.Processes(STUB, 2, gpus=["7", "8"]))
    found = [result["found"] for result in results.values()]
    assert {one["CUDA_VISIBLE_DEVICES"] for one in found} == {"7", "8"}
    assert {one["OMP_NUM_THREADS"] for one in found} == {one["NUMBA_NUM_THREADS"] for one in found}
    assert sorted({core for one in found for core in one["processors"]}) == processors


def test_default_number_of_workers_is_bounded_by_parts_and_memory(monkeypatch):
    monkeypatch.setattr(fleet, "usable_processors", lambda: list(range(16)))
    monkeypatch.setattr(fleet, "usable_memory", lambda: 10 * 2**30)
    assert fleet.default_workers(200, 2**29, []) == 16
    assert fleet.default_workers(3, 2**29, []) == 3
    assert fleet.default_workers(200, 2 * 2**30, []) == 5
    assert fleet.default_workers(200, 40 * 2**30, []) == 1
    assert fleet.default_workers(200, 2**30, ["0", "1"]) == 2


@pytest.mark.parametrize("version", [1, 2])
def test_bounds_of_the_control_groups_around_it_are_kept(tmp_path, monkeypatch, version):
    inner = tmp_path / ("job/step" if version == 2 else "memory/job/step")
    inner.mkdir(parents=True)
    lines = {1: "4:memory:/job/step\n", 2: "0::/job/step\n"}
    (tmp_path / "own").write_text(lines[version])
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    free = machine.usable_memory()
    limit, taken, kept = fleet.MEMORY_FILES[version]
    (inner / limit).write_text("max\n" if version == 2 else "9223372036854771712\n")
    assert machine.usable_memory() == pytest.approx(free, rel=0.2)
    (inner.parent / limit).write_text(f"{64 * 2**20}\n")
    (inner.parent / taken).write_text(f"{48 * 2**20}\n")
    (inner.parent / "memory.stat").write_text(f"anon 5\n{kept} {40 * 2**20}\n")
    assert machine.usable_memory() == 56 * 2**20


@pytest.mark.parametrize("version", [1, 2])
def test_a_quota_of_processors_is_kept(tmp_path, monkeypatch, version):
    (tmp_path / "own").write_text({1: "3:cpu,cpuacct:/job\n", 2: "0::/job\n"}[version])
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    everything = machine.usable_processors()
    folder = tmp_path / ("job" if version == 2 else "cpu,cpuacct/job")
    folder.mkdir(parents=True)
    quotas = (
        {"cpu.max": "120000 100000"} if version == 2 else {"cpu.cfs_quota_us": "120000", "cpu.cfs_period_us": "100000"}
    )
    for name, words in quotas.items():
        (folder / name).write_text(words)
    assert machine.usable_processors() == everything[:1]


def test_gpus_are_those_that_torch_can_use(tmp_path, monkeypatch):
    """A driver that lists a GPU, and a torch that cannot use it."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Some Card'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(machine.usable_gpus()) == torch.cuda.device_count()


# ---------------------------------------------------------------------------------------------- bad parts


def test_a_run_in_this_process_ends_with_it():
    with pytest.raises(fleet.FleetError, match="the same command goes on"):
        run_stubs(["fatal", "good_1"], fleet.Here(STUB))


def test_a_process_that_can_do_no_more_is_replaced():
    results = run_stubs(["fatal", "good_1", "good_2"], fleet.Processes(STUB, 1))
    assert results["fatal"]["status"] == "failed" and results["good_1"]["status"] == "done"
    assert results["fatal"]["pid"] != results["good_1"]["pid"] == results["good_2"]["pid"]


def test_a_worker_that_dies_costs_its_part_alone(tmp_path):
    log = tmp_path / "log"
    names = ["good_1", "segfault_2", "good_3", "oom_4", "good_5", "told_6", "good_7"]
    results = run_stubs(names, fleet.Processes(STUB, 2), log=str(log))
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == dict.fromkeys(names, "done") | {"segfault_2": "failed"}
    assert "SIGSEGV" in results["segfault_2"]["reason"] and "Segmentation fault" in results["segfault_2"]["reason"]
    assert results["segfault_2"]["reason"].startswith("/parts/segfault_2.stl: ")
    attempts = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert attempts == dict.fromkeys(names, 1) | {"segfault_2": 2, "oom_4": 2, "told_6": 2}


def test_a_part_that_hangs_is_ended_and_not_tried_again(tmp_path):
    log = tmp_path / "log"
    results = run_stubs(["hang_1", "good_2", "good_3"], fleet.Processes(STUB, 2, part_timeout=0.5), log=str(log))
    assert {name: result["status"] for name, result in results.items()} == {
        "hang_1": "failed",
        "good_2": "done",
        "good_3": "done",
    }
    assert "--partTimeout" in results["hang_1"]["reason"] and log.read_text().count("hang_1") == 1


def test_a_part_that_needs_more_memory_than_a_worker_has_is_tried_in_smaller_chunks(tmp_path):
    log = tmp_path / "log"
    place = fleet.Processes(STUB, 2, memory=2**27)
    results = run_stubs(["greedy_1", "gluttonous_2", "good_3"], place, log=str(log))
    assert results["greedy_1"]["status"] == results["good_3"]["status"] == "done"
    assert results["gluttonous_2"]["status"] == "failed"
    assert "128 MiB of --workerMemory (tried twice" in results["gluttonous_2"]["reason"]
    assert Counter(line.split()[0] for line in log.read_text().splitlines())["gluttonous_2"] == 2


def test_a_worker_that_cannot_start_ends_the_run_with_a_line():
    with pytest.raises(fleet.FleetError, match=r"cannot start: .*no_such_module"):
        run_stubs(["good_1"], fleet.Processes("no_such_module:act", 1))


def test_a_part_of_another_run_is_asked_about_again(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "BUSY_SECONDS", 0.05)
    results, released = {}, tmp_path / "released"
    jobs = [{"name": name, "input": str(released)} for name in ("busy_1", "good_2")]

    def tick(running, waiting):
        if waiting and "good_2" in results:
            released.touch()

    place = fleet.Processes(STUB, 1)
    fleet.run(jobs, place, lambda job, result: results.update({job["name"]: result["status"]}), tick)
    place.close()
    assert list(results) == ["good_2", "busy_1"] and results["busy_1"] == "done"


# ---------------------------------------------------------------------------------------------- stopping


def test_a_stop_is_passed_on_and_nothing_new_is_begun(tmp_path):
    marks = [tmp_path / name for name in "abc"]
    jobs = [{"name": "waits", "input": str(mark)} for mark in marks]
    place, results = fleet.Processes(STUB, 2), []
    fleet.run(
        jobs, place, lambda *pair: results.append(pair), should_stop=lambda: marks[0].exists() and marks[1].exists()
    )
    place.close()
    assert results == [] and not marks[2].exists() and place.running == 0


def test_workers_end_when_their_driver_is_killed(tmp_path):
    mark = tmp_path / "mark"
    program = (
        f"import fleet; fleet.run([{{'name': 'waits', 'input': {str(mark)!r}}}], fleet.Processes({STUB!r}, 1), print, "
        f"lambda *_: open({str(tmp_path / 'pids')!r}, 'a').close())"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    wait_for(mark.exists, "the worker")
    workers = children_of(driver.pid)
    driver.kill()
    driver.wait()
    assert workers
    wait_for(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")


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


# ---------------------------------------------------------------------------------------------- folders, light fits


def a_folder(path, count=6, bad=()):
    """A folder of files that light fits take, `count` of them, those of the numbers in `bad` refused."""
    path.mkdir()
    for k in range(count):
        (path / f"part_{k:02d}.stl").write_bytes(b"bad" if k in bad else f"{k:04d}".encode())
    return path


def command(worker, source, out, *flags):
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


def check_folder(source, out, log=None, refused=()):
    """Every part of `source` is there once and whole, nothing else is, the summary says so, nothing was done twice."""
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
        assert record["files"] == {name: (out / name).stat().st_size for name in record["files"]}
        assert len(record["files"]) == 5 and f'href="{row["name"]}.html"' in page
    if log is not None:
        fits = Counter(line.split()[0] for line in log.read_text().splitlines())
        assert set(fits) <= set(good) and all(count == 1 for count in fits.values()), fits


def test_a_folder_is_done_once_and_bad_parts_are_named_last(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", bad=[2]), tmp_path / "out", tmp_path / "log"
    (source / "._part_00.stl").write_bytes(b"bad")
    code, printed, err = finish(start("light", source, out, "--workers", 2, log=log))
    (source / "._part_00.stl").unlink()
    assert code == 1 and printed.splitlines()[-1] == f"refused: {source / 'part_02.stl'}: not a mesh"
    assert "5 of 6 done; " in printed and "0 left" in err.splitlines()[-1]
    check_folder(source, out, log, refused=["part_02"])
    before = {path: path.stat().st_mtime_ns for path in out.glob("part*")}
    (source / "part_02.stl").write_bytes(b"good")
    code, printed, _ = finish(start("light", source, out, "--workers", 1, "--partTimeout", 50, log=log))
    assert code == 0 and "6 of 6 done (5 of them before)" in printed
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.glob("part*")}.items()
    check_folder(source, out, log)


@pytest.fixture
def here(capsys, monkeypatch):
    """The trainer's command line in this process with a light fit: (exit code, output, errors) and names fitted."""
    fitted = []

    def fit(source, flags, files, watch, name):
        fitted.append(files.name)
        return fleet_stubs.light_fit(source, flags, files, watch, name)

    def run(source, out, *flags):
        fitted.clear()
        words = [str(word) for word in (source, "--outputDir", out, *flags)]
        code = commands_fit.main(words if Path(source).is_file() else [*words, "--workers", "0"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err, list(fitted)

    monkeypatch.setattr(part, "fit_part", fit)
    monkeypatch.setattr(commands_fit, "print_result", lambda *_: None)
    return run


def test_done_means_the_same_flags_the_same_content_and_all_files(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 3), tmp_path / "out"
    assert here(source, out)[3] == ["part_00", "part_01", "part_02"]
    assert here(source, out, "--checkpointSeconds", 7, "--maxMemory", "1G", "--showVis", 1)[3] == []
    (source / "part_01.stl").write_bytes(b"other")
    assert here(source, out)[3] == ["part_01"]
    (out / "part_02.html").unlink()
    assert here(source, out)[3] == ["part_02"]
    (out / "part_00.safetensors").write_bytes(b"cut short")
    assert here(source, out)[3] == ["part_00"]
    (out / "part_00.json").write_text('{"flags": ')
    assert here(source, out)[3] == ["part_00"]
    assert here(source, out, "--epochs", 9)[3] == ["part_00", "part_01", "part_02"]
    assert here(source, out, "--epochs", 9, "--overwrite", 1)[3] == ["part_00", "part_01", "part_02"]
    code, printed, _, fitted = here(source, out, "--epochs", 9)
    assert (code, fitted) == (0, []) and "3 of 3 done (3 of them before)" in printed
    check_folder(source, out)


def test_a_single_file_is_done_once_too(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"
    assert here(source, out)[3] == ["part_00"]
    code, _, err, fitted = here(source, out)
    assert (code, fitted) == (0, []) and "--overwrite 1" in err
    assert here(source, out, "--overwrite", 1)[3] == ["part_00"]


def test_an_unfinished_fit_leaves_the_earlier_result_whole_or_not_done(tmp_path, here, monkeypatch):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    here(source, out)
    with monkeypatch.context() as patch:

        def fails(*_):
            raise OSError(28, "No space left on device", "somewhere")

        patch.setattr(artifacts, "write_bytes", fails)
        code, printed, _, fitted = here(source, out, "--epochs", 9)
        assert (code, fitted) == (1, ["part_00"]) and "No space left" in printed
    assert not (out / "part_00.json").exists()
    assert here(source, out)[3] == ["part_00"]  # its other files were another fit's


def test_leavings_of_killed_processes_are_removed_unless_their_part_is_held(tmp_path):
    for name in (".a.json.123.part", ".b.c.stl.123.part", ".held.json.123.part", ".summary.csv.1.part", "own.part"):
        (tmp_path / name).write_bytes(b"half")
    with artifacts.Artifacts(tmp_path, "held").lock():
        artifacts.remove_leavings(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".held.json.123.part", ".held.lock", "own.part"]
    artifacts.remove_leavings(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own.part"]


def test_names_are_different_and_not_those_of_the_folders_own_files():
    paths = [Path(name) for name in ("a.obj", "a.stl", "A.STL", "a_stl.ply", "b.stl", "index.stl", "summary.obj")]
    names = commands_fit.names_of(paths, "_x")
    assert names[0] == "a_obj_x" and names[4] == "b_x"
    assert names[5:] == ["index_stl_x", "summary_obj_x"]
    assert len({name.casefold() for name in names}) == len(names)
    assert commands_fit.names_of([Path("running.stl")], "") == ["running_stl"]
    assert commands_fit.names_of([Path("index.stl")], "", in_folder=False) == ["index"]


def test_inputs_are_never_written_over(tmp_path, here):
    source = a_folder(tmp_path / "parts", 2)
    code, _, err, fitted = here(source / "part_00.stl", source)
    assert (code, fitted) == (1, []) and "written over" in err
    code, _, err, fitted = here(source, source)
    assert (code, fitted) == (1, []) and "choose another --outputDir" in err
    assert sorted(path.name for path in source.iterdir()) == ["part_00.stl", "part_01.stl"]


@pytest.mark.parametrize("suffix", ["stl", "json", "html", "png", "safetensors"])
def test_a_users_own_file_of_the_same_name_stays(tmp_path, here, suffix):
    out, source = tmp_path / "out", tmp_path / "box.ply"
    source.write_bytes(b"good")
    out.mkdir()
    (out / f"box.{suffix}").write_bytes(b"my own")
    for flags in ((), ("--overwrite", 1), ("--reconstructionRes", 0)):
        code, _, err, fitted = here(source, out, *flags)
        assert (
            (code, fitted) == (1, []) and f"box.{suffix}: no fit left this file" in err and len(err.splitlines()) == 1
        )
    assert [path.name for path in out.iterdir()] == [f"box.{suffix}"]
    code, _, err, fitted = here(source, out, "--suffix", "_fit")
    assert (code, fitted) == (0, ["box_fit"]) and (out / f"box.{suffix}").read_bytes() == b"my own"


def test_a_users_own_json_beside_a_model_stays(tmp_path, here):
    out, source = tmp_path / "out", tmp_path / "box.ply"
    source.write_bytes(b"good")
    here(source, out)
    (out / "box.json").write_text('{"drawing": 7}')
    code, _, err, fitted = here(source, out)
    assert (code, fitted) == (1, []) and "box.html: no fit left this file" in err
    assert (out / "box.json").exists() and (out / "box.stl").exists()


def test_a_result_that_is_fitted_in_turn_stays(tmp_path, here):
    source, out = tmp_path / "box.stl", tmp_path / "out"
    source.write_bytes(b"good")
    here(source, out, "--outputFormat", "obj")
    for format in ("obj", "stl"):
        code, _, err, fitted = here(out / "box.obj", out, "--outputFormat", format)
        assert (code, fitted) == (1, []) and "written over it" in err and (out / "box.obj").exists()
    assert here(source, out, "--outputFormat", "stl")[3] == ["box"] and not (out / "box.obj").exists()


def test_a_users_own_page_or_table_stays(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    here(source, out)
    assert here(source, out, "--overwrite", 1)[0] == 0
    for name in ("index.html", "summary.csv"):
        left = (out / name).read_bytes()
        (out / name).write_text("<html>my own</html>")
        code, _, err, fitted = here(source, out, "--overwrite", 1)
        assert (code, fitted) == (1, []) and f"{name}: no run left this file" in err
        (out / name).write_bytes(left)


def test_all_again_goes_on_where_it_was_stopped(tmp_path, here, monkeypatch):
    """Without --overwrite 1, as it says; what it had not reached keeps the earlier result."""
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    here(source, out)
    job = {"name": "part_00", "input": str(source / "part_00.stl"), "folder": True}
    job["flags"] = json.loads((out / "part_00.json").read_text())["flags"] | {"overwrite": 1}
    with monkeypatch.context() as patch:
        patch.setattr(part, "fit_part", lambda *_: (_ for _ in ()).throw(fitting.Interrupted("stopped")))
        assert fit_one(job)["status"] == "stopped"
    assert here(source, out)[3] == ["part_00"]


def test_another_memory_bound_is_another_try(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"
    here(source, out, "--maxMemory", "1M")
    record = json.loads((out / "part_00.json").read_text())
    (out / "part_00.json").write_text(json.dumps(record | {"failure": "the memory bound is 1 MiB: raise it"}))
    assert here(source, out, "--maxMemory", "1M")[3] == []
    assert here(source, out, "--maxMemory", "2G")[3] == ["part_00"]


def test_a_gltf_is_its_buffers_too(tmp_path, here):
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box((1, 2, 3)))).items():
        (tmp_path / (name if name != "model.gltf" else "box.gltf")).write_bytes(data)
    source, out = tmp_path / "box.gltf", tmp_path / "out"
    assert here(source, out)[3] == ["box"] and here(source, out)[3] == []
    beside = folders.read_beside(source)
    assert list(beside) and all((tmp_path / name).read_bytes() == data for name, data in beside.items())
    name = next(iter(beside))
    (tmp_path / name).write_bytes(beside[name][::-1])
    assert here(source, out)[3] == ["box"]
    described = json.loads(source.read_text())
    described["buffers"][0]["uri"] = "../elsewhere.bin"
    source.write_text(json.dumps(described))
    with pytest.raises(ValueError, match="outside its folder"):
        folders.read_beside(source)


def test_a_gltf_travels_with_its_buffers(tmp_path):
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box((1, 2, 3)))).items():
        (tmp_path / (name if name != "model.gltf" else "box.gltf")).write_bytes(data)
    words = ["box.gltf", "--num_points", "4000", "--epochs", "2", "--batchSize", "128", "--reconstructionRes", "32"]
    flags = vars(parse_fit_flags([*words, "--layerWidth", "48", "--outputDir", str(tmp_path / "out")]))
    (tmp_path / "out").mkdir()
    job = {"name": "box", "input": str(tmp_path / "box.gltf"), "flags": flags, "folder": True}
    sender = folders.Sender()
    result = sender.receive(job, fit_sent(sender.send(job)))
    assert result["status"] == "done" and (tmp_path / "out/box.stl").exists()


def test_notes_of_a_sent_fit_name_no_folder_of_the_other_machine(tmp_path):
    trimesh.creation.box((1, 1, 1)).apply_translation((1e6, 0, 0)).export(tmp_path / "far.ply")
    words = ["far.ply", "--num_points", "4000", "--epochs", "2", "--batchSize", "128", "--reconstructionRes", "32"]
    flags = vars(parse_fit_flags([*words, "--layerWidth", "48", "--outputDir", str(tmp_path / "out")]))
    (tmp_path / "out").mkdir()
    sender, job = folders.Sender(), {"name": "far", "input": str(tmp_path / "far.ply"), "flags": flags, "folder": True}
    result = sender.receive(job, fit_sent(sender.send(job)))
    assert result["notes"][0].startswith("far.stl: ") and result["record"]["notes"][0] == result["notes"][0]


def test_a_link_to_nowhere_is_a_part_that_failed(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    (source / "gone.stl").symlink_to(tmp_path / "nowhere.stl")
    (source / "loop.stl").symlink_to("loop.stl")
    (source / "folder.stl").mkdir()
    os.mkfifo(source / "pipe.stl")
    code, printed, _, fitted = here(source, out)
    assert (code, fitted) == (1, ["gone", "loop", "part_00"])
    assert [row["status"] for row in summary(out)] == ["failed", "failed", "done"]
    assert "gone.stl: No such file" in printed


def test_notes_of_a_part_are_said_by_the_driver(tmp_path, capsys):
    book = folders.FolderBook(tmp_path, ["a"], {"overwrite": 0, "outputFormat": "stl"}, fresh=True)
    job = {"name": "a", "input": "parts/a.stl"}
    book.take(job, {"status": "done", "reason": "", "notes": ["no checkpoint written: no space"]})
    assert "parts/a.stl: no checkpoint written: no space" in capsys.readouterr().err


def test_lines_that_wait_are_written_while_nothing_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "FIRST_PAGE_SECONDS", 0.3)
    book = folders.FolderBook(tmp_path, ["a", "b"], {"overwrite": 0, "outputFormat": "stl"}, fresh=True)
    for name in ("a", "b"):
        book.take({"name": name, "input": f"{name}.stl"}, {"status": "refused", "reason": "no mesh"})
    assert len(summary(tmp_path)) == 1 and not (tmp_path / "index.html").exists()

    def all_there():
        book.tick(0, 0)
        return len(summary(tmp_path)) == 2 and (tmp_path / "index.html").exists()

    wait_for(all_there, "both lines and the page")


@pytest.mark.parametrize(
    "flags", [["--workers", 2], ["--ray", "local"], ["--partTimeout", 5], ["--workerMemory", "1G"]]
)
def test_flags_of_a_folder_with_a_file_get_one_line(tmp_path, here, flags):
    code, _, err, fitted = here(a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out", *flags)
    assert (code, fitted) == (1, []) and err.count("\n") == 1 and f"{flags[0]} is for a folder" in err


def test_names_that_are_no_utf8_and_hold_commas_and_lines(tmp_path, here):
    source, out = tmp_path / "parts", tmp_path / "out"
    source.mkdir()
    for name in (b'a,"b.stl', b"c\nd.stl", b"e\xff.stl"):
        (source / os.fsdecode(name)).write_bytes(b"0001")
    assert here(source, out)[0] == 0
    assert [row["name"] for row in summary(out)] == ['a,"b', "c\nd", "e\\udcff"]
    assert 'href="e%FF.html"' in (out / "index.html").read_text()
    assert here(source, out)[3] == []


# ---------------------------------------------------------------------------------------------- locks, summaries


def test_a_lock_ends_with_its_process_and_is_told_apart_from_a_dead_machines(tmp_path, monkeypatch):
    path = tmp_path / ".part.lock"
    program = f"import artifacts, pathlib, time\nwith artifacts.Lock(pathlib.Path({str(path)!r})):\n  time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    wait_for(lambda: path.exists() and path.read_text(), "the lock")
    with pytest.raises(artifacts.BusyError, match=f"process {holder.pid}"), artifacts.Lock(path):
        pass
    holder.kill()
    holder.wait()
    assert path.exists()
    with artifacts.Lock(path):
        pass
    assert not path.exists()
    path.write_text("another-machine 12345678 99\n")
    with pytest.raises(artifacts.BusyError, match="another-machine"), artifacts.Lock(path):
        pass
    start = artifacts.this_machine().rpartition(" ")[2]
    path.write_text(f"a-container-that-was-killed {start} 1\n")  # flock of the same kernel has told already
    with artifacts.Lock(path):
        pass
    path.write_text("another-machine 12345678 99\n")
    os.utime(path, (0, time.time() - artifacts.DEAD_SECONDS - 1))
    with artifacts.Lock(path):
        pass


def test_locks_where_the_file_system_has_no_flock(tmp_path, monkeypatch):
    def no_flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(artifacts.fcntl, "flock", no_flock)
    monkeypatch.setattr(artifacts, "SETTLING_SECONDS", 0.01)
    path = tmp_path / ".part.lock"
    with artifacts.Lock(path), pytest.raises(artifacts.BusyError), artifacts.Lock(path):
        pass
    path.write_text(f"{artifacts.this_machine()} 999999999\n")
    with artifacts.Lock(path):
        pass
    assert not path.exists()


def test_a_held_lock_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / ".part.lock"
    program = (
        "import artifacts, pathlib, time\nartifacts.HEARTBEAT_SECONDS = 0.05\n"
        f"with artifacts.Lock(pathlib.Path({str(path)!r})):\n  time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    wait_for(lambda: path.exists() and path.read_text(), "the lock")
    os.utime(path, (0, 0))
    wait_for(lambda: path.stat().st_mtime > 0, "a sign of life")
    holder.kill()
    holder.wait()


def test_two_summaries_of_one_folder_keep_each_others_lines(tmp_path):
    first, second = artifacts.Summary(tmp_path), artifacts.Summary(tmp_path)
    first.start()
    for k in range(6):
        book = first if k % 2 else second
        book.add(artifacts.summary_row(f"p{k}", "in", {"metrics": {"iou": k / 8}}, "done"))
        book.flush()
        assert len(summary(tmp_path)) == k + 1
    first.add(artifacts.summary_row("p0", "in", None, "failed", "a reason,\nwith a line"))
    first.finish(["p5", "p0", "p1", "p9"], lambda name: artifacts.summary_row(name, "known", None, "done"))
    rows = [(row["name"], row["input"], row["status"], row["iou"]) for row in summary(tmp_path)]
    assert rows == [
        ("p5", "in", "done", "0.625"),
        ("p0", "in", "failed", ""),
        ("p1", "in", "done", "0.125"),
        ("p9", "known", "done", ""),
    ]


def test_the_driver_keeps_nothing_of_ten_thousand_parts(tmp_path):
    class Instant:
        """A place in which every part ends at once, with a record as large as a real one."""

        running, room = 0, True

        def __init__(self):
            self.ended = []

        def submit(self, job):
            record = {"metrics": {"iou": 0.5}, "diagnosis": {"notes": "x" * 2000}}
            self.ended.append((job, {"status": "done", "reason": "", "record": json.loads(json.dumps(record))}))
            self.running, self.room = len(self.ended), len(self.ended) < 8

        def wait(self, seconds):
            ended, self.ended, self.running, self.room = self.ended, [], 0, True
            return ended

    names = [f"part_{k:05d}" for k in range(10_000)]
    book = folders.FolderBook(tmp_path, names, {"outputFormat": "stl", "overwrite": 0}, fresh=True)
    occupied = []

    def finished(job, result):
        book.take(job, result)
        occupied.append(machine.resident_memory(os.getpid()))

    fleet.run(({"name": name, "input": name} for name in names), Instant(), finished, book.progress.show)
    book.summary.finish(names, lambda name: None)
    assert [row["name"] for row in summary(tmp_path)] == names
    # 2 KB and more a part would be 16 MB and more from the 2,000th to the last.
    assert occupied[-1] - occupied[2000] < 8 * 2**20


# ---------------------------------------------------------------------------------------------- kills and signals


def kill_something(driver, generator, kinds=("driver", "worker")):
    """Kill the driver, or one of its descendants: a worker, or Ray's raylet; returns what was killed."""
    kind = generator.choice(kinds)
    if kind == "driver":
        victims = [driver.pid]
    else:
        word = "raylet/raylet" if kind == "raylet" else "ray::" if "raylet" in kinds else "fleet.py"
        victims = [pid for pid in descendants_of(driver.pid) if word in command_of(pid)]
    for pid in victims and [generator.choice(victims)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return kind
    return "nothing"


def descendants_of(pid):
    children = children_of(pid)
    return children + [below for child in children for below in descendants_of(child)]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 24, bad=[5]), tmp_path / "out", tmp_path / "log"
    generator = random.Random(7)
    for _ in range(6):
        driver = start("light", source, out, "--workers", 2, log=log)
        time.sleep(generator.uniform(0.3, 1.0))
        kill_something(driver, generator, ("driver", "driver", "worker"))
        if generator.random() < 0.5:  # the next run begins while workers of this one may still write
            driver.kill()
        driver.communicate(timeout=PATIENCE)
    code, printed, _ = finish(start("light", source, out, "--workers", 2, log=log))
    assert code == 1 and "23 of 24 done" in printed
    check_folder(source, out, log, refused=["part_05"])


def test_two_runs_at_once_share_a_folder(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 12, bad=[3]), tmp_path / "out", tmp_path / "log"
    runs = [start("light", source, out, "--workers", 1, log=log) for _ in range(2)]
    outcomes = [finish(run) for run in runs]
    assert all(code == 1 and "11 of 12 done" in printed for code, printed, _ in outcomes)
    check_folder(source, out, log, refused=["part_03"])
    processes = {line.split()[1] for line in log.read_text().splitlines()}
    assert len(log.read_text().splitlines()) == 11 and len(processes) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order_and_the_same_command_goes_on(tmp_path, number):
    source, out, log = a_folder(tmp_path / "parts", 40), tmp_path / "out", tmp_path / "log"
    driver = start("light", source, out, "--workers", 2, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 4, "some parts")
    driver.send_signal(number)
    code, printed, err = finish(driver)
    assert code == 128 + number and "stopping in order" in err and "stopped; the same command" in printed
    done = sorted(path.stem for path in out.glob("*.json"))
    assert [row["name"] for row in summary(out)] == done and len(done) < 40
    assert len(list(out.glob("*.checkpoint"))) <= 2 and not list(out.rglob(".*"))
    assert finish(start("light", source, out, "--workers", 2, log=log))[0] == 0
    check_folder(source, out, log)


def test_a_second_signal_ends_the_run_at_once(tmp_path):
    source, out = tmp_path / "parts", tmp_path / "out"
    source.mkdir()
    (source / "hang.stl").write_bytes(b"x")
    environment = os.environ | {"FLEET_LOG": str(tmp_path / "log")}
    driver = subprocess.Popen(
        command("light", source, out, "--workers", 1), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: [pid for pid in descendants_of(driver.pid) if "fleet.py" in command_of(pid)], "the worker")
    time.sleep(0.5)
    workers = descendants_of(driver.pid)
    driver.send_signal(signal.SIGINT)
    assert "stopping in order" in driver.stderr.readline() + driver.stderr.readline() + driver.stderr.readline()
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=PATIENCE) == 130
    wait_for(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")
    assert summary(out) == []


# ---------------------------------------------------------------------------------------------- bad folders


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 2 MB, and a function that mounts it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip() or done.returncode}")

    if not shutil.which("mount"):
        pytest.skip("there is no mount here")
    mount("size=2m")
    try:
        yield folder, lambda options: mount(f"remount,{options}")
    finally:
        while folder.is_mount():
            subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_recorded_and_room_for_more_lets_the_run_go_on(tmp_path, small_disk):
    out, mount_again = small_disk
    source, log = a_folder(tmp_path / "parts", 20), tmp_path / "log"
    code, printed, _ = finish(start("light", source, out, "--workers", 2, log=log))
    failed = [line for line in printed.splitlines() if line.startswith("failed: ")]
    done = sorted(path.stem for path in out.glob("*.json"))
    assert code == 1 and failed and all("No space left on device" in line for line in failed)
    assert 0 < len(done) == 20 - len(failed)
    for name in done:
        record = json.loads((out / f"{name}.json").read_text())
        assert record["files"] == {file: (out / file).stat().st_size for file in record["files"]}
    assert not list(out.rglob(".*.part")) and all(len(row) == len(artifacts.SUMMARY_COLUMNS) for row in summary(out))
    mount_again("size=20m")
    code, printed, _ = finish(start("light", source, out, "--workers", 2, log=log))
    assert code == 0 and f"20 of 20 done ({len(done)} of them before)" in printed
    check_folder(source, out, log)


def test_a_disk_without_any_room_is_told_in_one_line(tmp_path, small_disk):
    out, _ = small_disk
    with pytest.raises(OSError):
        (out / "filler").write_bytes(bytes(2**30))
    code, _, err = finish(start("light", a_folder(tmp_path / "parts", 3), out, "--workers", 1))
    assert code == 1 and err.count("\n") == 1 and "No space left on device" in err


def test_a_read_only_folder_is_told_in_one_line_and_left_alone(tmp_path, small_disk, here):
    out, mount_again = small_disk
    source = a_folder(tmp_path / "parts", 3)
    assert here(source, out)[0] == 0
    before = sorted(path.name for path in out.rglob("*"))
    mount_again("ro")
    code, _, err, fitted = here(source, out)
    assert (code, fitted) == (1, []) and err.count("\n") == 1
    assert "cannot write there (Read-only file system)" in err
    assert sorted(path.name for path in out.rglob("*")) == before


def test_a_folder_that_turns_read_only_in_mid_run_fails_its_parts_and_loses_none(tmp_path, small_disk):
    out, mount_again = small_disk
    mount_again("size=20m")
    source, log = a_folder(tmp_path / "parts", 20), tmp_path / "log"
    driver = start("light", source, out, "--workers", 1, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 2, "two parts")
    # A second mount over the first: files that are open stay as they are, every name is read-only from now on.
    subprocess.run(["mount", "--bind", out, out], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", out], check=True)
    done = {path.stem for path in out.glob("*.json")}
    code, printed, err = finish(driver)
    failed = [line for line in printed.splitlines() if line.startswith("failed: ")]
    assert code == 1 and 2 <= len(done) == 20 - len(failed) < 20
    assert all("Read-only file system" in line for line in failed) and "not written: " in err
    subprocess.run(["umount", out], check=True)
    code, printed, _ = finish(start("light", source, out, "--workers", 1, log=log))
    assert code == 0 and f"20 of 20 done ({len(done)} of them before)" in printed
    check_folder(source, out, log)


def test_a_folder_that_goes_away_fails_its_parts_and_loses_none(tmp_path, here, monkeypatch):
    source, out = a_folder(tmp_path / "parts", 4), tmp_path / "out"
    take = folders.FolderBook.take

    def take_and_move(book, job, result):
        take(book, job, result)
        if job["name"] == "part_01":
            out.rename(tmp_path / "unmounted")

    with monkeypatch.context() as patch:
        patch.setattr(folders.FolderBook, "take", take_and_move)
        code, printed, err, _ = here(source, out)
    assert code == 1 and "2 of 4 done" in printed and printed.count("No such file or directory") == 2
    assert "not written: " in err and "Traceback" not in err
    (tmp_path / "unmounted").rename(out)
    assert here(source, out)[3] == ["part_02", "part_03"]
    check_folder(source, out)


def test_bad_parts_of_every_kind_cost_themselves_alone(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 4), tmp_path / "out", tmp_path / "log"
    for name in ("gluttonous", "hang", "oom", "segfault"):
        (source / f"{name}.stl").write_bytes(b"x")
    limits = ["--workers", 2, "--partTimeout", 2, "--workerMemory", "128M"]
    code, printed, err = finish(start("light", source, out, *limits, log=log))
    last = printed.splitlines()[-3:]
    assert code == 1 and "5 of 8 done" in printed and "5 of 8 done, 3 failed, 0 left" in err
    for line, (name, reason) in zip(
        last, {"gluttonous": "--workerMemory", "hang": "--partTimeout", "segfault": "SIGSEGV"}.items(), strict=True
    ):
        assert line.startswith(f"failed: {source / name}.stl: ") and reason in line
    assert [row["status"] for row in summary(out)] == ["failed", "failed", "done", *["done"] * 4, "failed"]
    assert len(list(out.glob("part*.json"))) == 4


# ---------------------------------------------------------------------------------------------- what a person sees


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_in_place_on_a_terminal_and_few_lines_in_a_log(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(fleet.time, "monotonic", lambda: clock[0])
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        clock[0] = 100.0
        progress = fleet.Progress(50, stream)
        for k in range(40):
            clock[0] += 1.0
            progress.count("done", skipped=k < 10)
            progress.show(2, 1)
        progress.say("trainer.py: a reason")
        progress.count("failed", skipped=False)
        progress.show(2, 0, force=True)
        progress.close()
    assert terminal.getvalue().count("\n") == 2 and "\r\033[K" in terminal.getvalue()
    lines = log.getvalue().splitlines()
    assert len(lines) == 4 and "\r" not in log.getvalue() and lines[-2] == "trainer.py: a reason"
    assert lines[-1].endswith("40 of 50 done (10 before), 1 failed, 9 left, 2 running, 0:00:12 to go")
    assert "1 with another run" in lines[1]


def test_durations():
    for seconds, words in ((0.4, "0:00:00"), (75, "0:01:15"), (3601, "1:00:01"), (90_061, "1 d 1:01:01")):
        assert fleet.duration(seconds) == words


# ---------------------------------------------------------------------------------------------- real fits

REAL = ["--num_points", 3000, "--batchSize", 128, "--numLayers", 3, "--layerWidth", 32, "--reconstructionRes", 24]


def real_folder(path, count=2):
    path.mkdir()
    for k in range(count):
        trimesh.creation.box((20, 16, 12 + 2 * k)).export(path / f"box_{k}.stl")
    return path


def run_here(capsys, *words):
    code = commands_fit.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_an_interrupted_part_goes_on_from_its_checkpoint(tmp_path, capfd):
    source, whole, out = real_folder(tmp_path / "parts", 1), tmp_path / "whole", tmp_path / "out"
    flags = [*REAL, "--epochs", 12, "--checkpointSeconds", 0.01]
    assert run_here(capfd, source, "--outputDir", whole, "--workers", 0, *flags)[0] == 0

    def interrupt():
        while not (out / "box_0.checkpoint").exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    code, printed, err = run_here(capfd, source, "--outputDir", out, "--workers", 0, *flags)
    assert code == 130 and "stopping in order" in err and "0 of 1 done" in printed
    assert (out / "box_0.checkpoint").exists() and summary(out) == []
    shutil.copytree(out, tmp_path / "other")
    code, _, err = run_here(capfd, source, "--outputDir", out, "--workers", 0, *flags)
    assert code == 0 and "went on from the checkpoint" in err
    assert (out / "box_0.safetensors").read_bytes() == (whole / "box_0.safetensors").read_bytes()
    assert json.loads((out / "box_0.json").read_text())["fit"]["resumed_at"] > 0
    assert not (out / "box_0.checkpoint").exists()
    code, _, err = run_here(
        capfd, source, "--outputDir", tmp_path / "other", "--workers", 0, *flags, "--learningRate", 0.002
    )
    assert code == 0 and "begun anew: " in err and "learning_rate" in err
    assert json.loads((tmp_path / "other/box_0.json").read_text())["fit"]["resumed_at"] == 0


def test_worker_processes_make_what_one_process_makes(tmp_path, capsys):
    source, here, there = real_folder(tmp_path / "parts"), tmp_path / "here", tmp_path / "there"
    flags = [*REAL, "--epochs", 2]
    assert run_here(capsys, source, "--outputDir", here, "--workers", 0, *flags)[0] == 0
    code, printed, _ = finish(start("real", source, there, "--workers", 1, *flags, "--workerMemory", "4G"))
    assert code == 0 and "2 of 2 done" in printed
    check_folder(source, there)
    for name in ("box_0", "box_1"):
        theirs, ours = (json.loads((out / f"{name}.json").read_text()) for out in (there, here))
        assert theirs["metrics"]["surface_error"] == pytest.approx(ours["metrics"]["surface_error"], rel=0.2)


def test_a_fit_that_fails_is_named_though_its_reason_names_no_file(tmp_path, capsys):
    points = np.random.default_rng(0).uniform(-1, 1, (3000, 3))
    (tmp_path / "parts").mkdir()
    np.savez(tmp_path / "parts/air.npz", train=np.column_stack([points, 0.9 + 0.1 * points[:, 0]]).astype(np.float32))
    words = [tmp_path / "parts", "--outputDir", tmp_path / "out", "--workers", 0, *REAL, "--epochs", 6]
    code, printed, _ = run_here(capsys, *words)
    assert code == 1 and printed.splitlines()[-1].startswith(f"failed: {tmp_path / 'parts/air.npz'}: ")
    code, again, _ = run_here(capsys, *words)  # its files say so: it is not fitted again
    assert code == 1 and again.splitlines()[-1] == printed.splitlines()[-1]
    assert [row["status"] for row in summary(tmp_path / "out")] == ["failed"]


@pytest.mark.parametrize("overwrite", [0, 1])
def test_files_of_a_sent_fit_that_failed_replace_those_of_an_earlier_one(tmp_path, overwrite):
    flags = {"outputDir": str(tmp_path), "outputFormat": "stl", "overwrite": overwrite}
    sender, job = folders.Sender(), {"name": "a", "input": str(tmp_path / "in.stl"), "flags": flags}
    (tmp_path / "in.stl").write_bytes(b"x")
    for name in ("a.json", "a.safetensors", "a.stl"):
        (tmp_path / name).write_bytes(b"{}")
    assert "no fit left this file" in sender.send(job)["reason"]
    (tmp_path / "a.json").write_text('{"files": {"a.safetensors": 2, "a.stl": 2}}')
    (tmp_path / "a.safetensors").write_bytes(fleet_stubs.MODEL_HEAD)
    assert "reason" not in sender.send(job)
    sender.receive(job, {"status": "stopped", "files": {"a.checkpoint": b"1"}})
    assert (tmp_path / "a.json").exists() == (not overwrite) and (tmp_path / "a.checkpoint").read_bytes() == b"1"
    sender.send(job)
    sender.receive(job, {"status": "failed", "files": {"a.safetensors": b"new", "a.checkpoint": b"2"}})
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("a.")}
    assert left == {"a.safetensors": b"new", "a.checkpoint": b"2"}


@pytest.mark.long
def test_fifty_kills_of_drivers_workers_and_raylets_with_real_fits(tmp_path):
    """Worker processes and Ray in turn, over the same folder until 50 kills have struck."""
    source, log = real_folder(tmp_path / "parts", 8), tmp_path / "log"
    (source / "bad.stl").write_bytes(b"bad")
    generator, struck, rounds = random.Random(11), Counter(), 0
    places = {"processes": (["--workers", 2], ("driver", "worker"))}
    if importlib.util.find_spec("ray"):
        places["ray"] = (["--ray", "local"], ("driver", "worker", "raylet"))
    while sum(struck.values()) < 50:
        out = tmp_path / f"out{rounds}"
        rounds += 1
        log.write_text("")
        for _ in range(5):
            where, kinds = places[generator.choice(list(places))]
            driver = start("real", source, out, *where, *REAL, "--epochs", 2, "--checkpointSeconds", 0.05, log=log)
            for _ in range(2):
                time.sleep(generator.uniform(1.0, 10.0))
                kind = kill_something(driver, generator, kinds)
                struck.update([kind] if kind != "nothing" else [])
            driver.kill()
            driver.communicate(timeout=PATIENCE)
        code, printed, _ = finish(start("real", source, out, "--workers", 2, *REAL, "--epochs", 2, log=log))
        assert code == 1 and "8 of 9 done" in printed
        check_folder(source, out, log, refused=["bad"])
    print(f"struck: {dict(struck)}, in {rounds} folders")
    assert set(struck) >= {"driver", "worker"}


# ---------------------------------------------------------------------------------------------- Ray


@pytest.mark.parametrize("transfer", ["paths", "bytes"])
def test_ray_does_the_same(tmp_path, transfer):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 5, bad=[1]), tmp_path / "out", tmp_path / "log"
    code, printed, err = finish(start("light", source, out, "--ray", "local", "--ray-transfer", transfer, log=log))
    assert code == 1 and "4 of 5 done" in printed, err
    check_folder(source, out, log, refused=["part_01"])
    code, printed, _ = finish(start("light", source, out, "--workers", 1, log=log))
    assert "4 of 5 done (4 of them before)" in printed
    check_folder(source, out, log, refused=["part_01"])


@pytest.mark.long
def test_a_raylet_that_dies_is_started_anew(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 60), tmp_path / "out", tmp_path / "log"
    driver = start("light", source, out, "--ray", "local", log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 4, "some parts")
    assert kill_something(driver, random.Random(0), ("raylet",)) == "raylet"
    code, printed, err = finish(driver)
    assert code == 0 and "60 of 60 done" in printed, err
    check_folder(source, out, log)


@pytest.mark.long
@pytest.mark.parametrize("transfer", ["paths", "bytes"])
def test_ray_survives_parts_that_hang_and_crash_and_stops_in_order(tmp_path, transfer):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 4), tmp_path / "out", tmp_path / "log"
    for name in ("hang", "oom", "segfault"):
        (source / f"{name}.stl").write_bytes(b"x")
    flags = ["--ray", "local", "--ray-transfer", transfer]
    code, printed, err = finish(start("light", source, out, *flags, "--partTimeout", 5, log=log))
    assert code == 1 and "5 of 7 done" in printed, err
    failed = printed.splitlines()[-2:]
    assert "hang.stl: no end after the 5 s of --partTimeout" in failed[0] and "segfault.stl: its worker" in failed[1]
    for name in ("hang", "oom", "segfault"):
        (source / f"{name}.stl").unlink()
    for k in range(10, 60):
        (source / f"part_{k}.stl").write_bytes(b"%04d" % k)
    driver = start("light", source, out, *flags, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 8, "some parts")
    driver.send_signal(signal.SIGTERM)
    code, printed, err = finish(driver)
    assert code == 128 + signal.SIGTERM and "stopped; the same command" in printed, err
    assert [row["name"] for row in summary(out)] == sorted(path.stem for path in out.glob("*.json"))
    assert finish(start("light", source, out, "--workers", 2, log=log))[0] == 0
    check_folder(source, out, log)


@pytest.mark.parametrize(("seconds", "reason"), [(1.0, "its worker crashed"), (3.0, "no end after the 2 s")])
def test_a_parts_time_on_ray_begins_when_it_is_begun(seconds, reason):
    """The wait for a processor is none of it, so that a crash after that is no hang."""
    switch = fleet.Switch()
    switch.begin(7)
    switch.begun[7] -= seconds
    place = object.__new__(fleet.Ray)
    place.stopping, place.part_timeout = False, 2.0
    place.switch = SimpleNamespace(seconds_of=SimpleNamespace(remote=switch.seconds_of))
    place.ray = SimpleNamespace(get=lambda answer, timeout: answer, exceptions=SimpleNamespace(RayError=RuntimeError))
    crash = type("WorkerCrashedError", (RuntimeError,), {})()
    assert reason in place._failure({"input": "a.stl"}, crash, 7)["reason"] and not switch.begun


@pytest.mark.long
def test_ray_refuses_parts_that_no_node_has_memory_for():
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    with pytest.raises(fleet.FleetError, match=r"no node of the cluster has the .* of --workerMemory"):
        fleet.Ray("local", STUB, None, False, 0.0, 2**50, folders.SharedFolder())


def test_ray_where_it_is_not_installed_or_has_no_cluster(tmp_path, capsys, monkeypatch):
    source = a_folder(tmp_path / "parts", 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run_here(capsys, source, "--outputDir", tmp_path / "out", "--ray", "local")
    assert code == 1 and err.splitlines() == [
        "trainer.py: --ray needs Ray: .venv/bin/pip install -r requirements-cluster.txt"
    ]
