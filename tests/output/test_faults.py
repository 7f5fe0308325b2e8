"""A fit whose n-th file operation fails, or whose process is killed in front of it, for every n."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.fleet.runs import ROOT
from tests.output import faults

PART = ["part.html", "part.json", "part.png", "part.safetensors", "part.stl", "thumbnails", "thumbnails/part.png"]


def a_place(tmp_path, earlier, parts=("part",), action="part"):
    """A folder with inputs in `in`, and in `out` the result of an earlier fit of one epoch if `earlier`."""
    place = tmp_path / "place"
    (place / "in").mkdir(parents=True)
    (place / "out").mkdir()
    for name in parts:
        (place / "in" / f"{name}.stl").write_bytes(b"good")
    if earlier:
        assert faults.child(lambda: faults.ACTIONS[action](1), place) == 0
    return place


def campaign(how, place, action="part"):
    """What `tests.output.faults` prints, a dictionary a line."""
    words = [sys.executable, "-m", "tests.output.faults", how, str(place), action]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("how", ["fail", "kill"])
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier result"])
def test_a_fault_at_any_file_operation_loses_nothing_and_leaves_nothing(tmp_path, how, earlier):
    *runs, last = campaign(how, a_place(tmp_path, earlier))
    assert len(runs) > 40 and last["end"] == 0 and last["after"]["epochs"] == {"part": 2}
    moved = 0
    for run in runs:
        found = run["between"]["faults"].get("part")
        # Nothing yet, or the earlier result, or the new one; or the new one, whole, between its two folders.
        if found:
            assert how == "kill" or run["code"] == 1, run
            assert found[0].startswith("a process was killed while it replaced this part"), run
            moved += 1
        else:
            assert run["between"]["epochs"].get("part") in ([1, 2] if earlier else [None, 2]), run
            assert ("part" in run["between"]["epochs"]) >= earlier, run
        assert run["code"] == (-9 if how == "kill" else run["code"]) and run["code"] in (0, 1, -9), run
        assert run["again"] == 0 and run["after"] == {"faults": {"part": []}, "epochs": {"part": 2}, "files": PART}, run
    assert moved >= 5  # a move of each file after the first


@pytest.mark.long
@pytest.mark.parametrize("how", ["fail", "kill"])
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier result"])
def test_a_fault_at_any_file_operation_of_a_folder_run(tmp_path, how, earlier):
    names = ["a", "b", "c"]
    *runs, last = campaign(how, a_place(tmp_path, earlier, names, "folder"), "folder")
    assert len(runs) > 150 and last["end"] == 0
    whole = {"faults": {name: [] for name in names}, "epochs": dict.fromkeys(names, 2)}
    for run in runs:
        for name in names:
            found = run["between"]["faults"].get(name)
            if found:
                assert found[0].startswith("a process was killed while it replaced this part"), run
            elif earlier:
                assert run["between"]["epochs"][name] in (1, 2), run
        assert run["again"] == 0, run
        assert {key: run["after"][key] for key in whole} == whole and run["after"]["files"] == last["after"]["files"], (
            run
        )
    shutil.rmtree(tmp_path / "place")
