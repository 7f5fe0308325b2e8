"""Folder runs as a user meets them: finished parts, bad parts, two runs at once, real fits."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from neuralparts import part
from neuralparts.commands import fit as commands_fit
from neuralparts.output import FOLDER_NAMES
from tests import fleet_stubs
from tests.fleet.runs import REAL, a_folder, check_folder, finish, real_folder, run_here, start, summary


def test_finished_parts_are_skipped_and_bad_parts_listed_last(tmp_path):
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
    assert [row["name"] for row in summary(out)] == ['a,"b', "c\\nd", "e\\udcff"]
    assert 'href="e%FF.html"' in (out / "index.html").read_text()
    assert here(source, out)[3] == []


def test_two_runs_at_once_divide_a_folder(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 12, bad=[3]), tmp_path / "out", tmp_path / "log"
    runs = [start("light", source, out, "--workers", 1, log=log) for _ in range(2)]
    outcomes = [finish(run) for run in runs]
    assert all(code == 1 and "11 of 12 done" in printed for code, printed, _ in outcomes)
    check_folder(source, out, log, refused=["part_03"])
    processes = {line.split()[1] for line in log.read_text().splitlines()}
    assert len(log.read_text().splitlines()) == 11 and len(processes) == 2


def test_bad_parts_of_every_kind_fail_alone(tmp_path):
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


def test_an_interrupted_part_resumes_from_its_checkpoint(tmp_path, capfd):
    source, whole, out = real_folder(tmp_path / "parts", 1), tmp_path / "whole", tmp_path / "out"
    flags = [*REAL, "--epochs", 12, "--checkpointSeconds", 0.01]
    assert run_here(capfd, source, "--outputDir", whole, "--workers", 0, *flags)[0] == 0

    def interrupt():
        while not (out / "box_0.checkpoint").exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    code, printed, err = run_here(capfd, source, "--outputDir", out, "--workers", 0, *flags)
    assert code == 130 and "stopping: checkpoints are written" in err and "0 of 1 done" in printed
    assert (out / "box_0.checkpoint").exists() and summary(out) == []
    shutil.copytree(out, tmp_path / "other")
    code, _, err = run_here(capfd, source, "--outputDir", out, "--workers", 0, *flags)
    assert code == 0 and "resumed from the checkpoint" in err
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
    train = np.column_stack([points, 0.9 + 0.1 * points[:, 0]]).astype(np.float32)
    train[0, 3] = -1e-3  # samples without a single one inside are refused
    np.savez(tmp_path / "parts/air.npz", train=train)
    words = [tmp_path / "parts", "--outputDir", tmp_path / "out", "--workers", 0, *REAL, "--epochs", 6]
    code, printed, _ = run_here(capsys, *words)
    assert code == 1 and printed.splitlines()[-1].startswith(f"failed: {tmp_path / 'parts/air.npz'}: ")
    code, again, _ = run_here(capsys, *words)  # not fitted again: its record has the reason
    assert code == 1 and again.splitlines()[-1] == printed.splitlines()[-1]
    assert [row["status"] for row in summary(tmp_path / "out")] == ["failed"]


def test_finished_parts_that_a_stopped_run_did_not_reach_keep_their_line(tmp_path, here, monkeypatch):
    source, out = a_folder(tmp_path / "parts", 4), tmp_path / "out"
    assert here(source, out)[0] == 0
    (source / "part_00.stl").write_bytes(b"new")

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return fleet_stubs.light_fit(*arguments)

    monkeypatch.setattr(part, "fit_part", stopped)
    assert here(source, out)[0] == 128 + signal.SIGTERM
    assert [row["name"] for row in summary(out)] == [f"part_0{k}" for k in range(4)]


def test_names_differ_from_each_other_and_from_the_folders_own_files():
    paths = [Path(name) for name in ("a.obj", "a.stl", "A.STL", "a_stl.ply", "b.stl", "index.stl", "summary.obj")]
    names = commands_fit.names_of(paths, "_x", FOLDER_NAMES)
    assert names[0] == "a_obj_x" and names[4] == "b_x"
    assert names[5:] == ["index_x", "summary_x"]
    assert len({name.casefold() for name in names}) == len(names)
    assert commands_fit.names_of([Path("running.stl")], "", FOLDER_NAMES) == ["running_stl"]
    assert commands_fit.names_of([Path("index.stl")], "") == ["index"]
    assert commands_fit.names_of([Path("ind.stl")], "ex", FOLDER_NAMES) == ["ind_stlex"]
