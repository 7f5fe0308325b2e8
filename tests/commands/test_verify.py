"""`neuralparts verify`: every file of an output folder against its record."""

import json
import os
import shutil

import pytest

from neuralparts import commands
from neuralparts.output import PartFiles, StagedFiles
from tests.fleet.runs import a_folder


@pytest.fixture
def fitted(tmp_path, here):
    """The output folder of three fitted parts."""
    source, out = a_folder(tmp_path / "parts", 3), tmp_path / "out"
    assert here(source, out)[0] == 0
    return out


def verify(capsys, folder):
    """(exit code, lines printed, what standard error holds)."""
    code = commands.main(["verify", str(folder)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def contents(out):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}


def test_whole_parts_give_exit_code_0_and_nothing_is_written(fitted, capsys):
    (fitted / "own.json").write_text('{"files": {"x": 1}}')
    (fitted / "broken.json").write_text("{")
    before = contents(fitted)
    assert verify(capsys, fitted) == (0, ["3 parts, 0 damaged or missing"], "")
    assert contents(fitted) == before


def test_each_damaged_or_missing_file_is_named(fitted, capsys):
    weights = fitted / "part_00.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    (fitted / "part_00.png").unlink()
    picture = fitted / "thumbnails/part_02.png"
    picture.write_bytes(picture.read_bytes() + b"x")
    code, lines, _ = verify(capsys, fitted)
    assert (code, lines) == (
        1,
        [
            "part_00: part_00.safetensors is damaged, part_00.png is missing",
            "part_02: thumbnails/part_02.png is damaged",
            "3 parts, 2 damaged or missing",
        ],
    )


def test_a_part_without_its_record_is_named(fitted, capsys):
    (fitted / "part_00.json").unlink()  # its model is there
    (fitted / "part_01.json").write_text("{")
    for path in [*fitted.glob("part_02.*"), fitted / "thumbnails/part_02.png"]:
        path.unlink()  # summary.csv says that it is done
    code, lines, _ = verify(capsys, fitted)
    assert code == 1 and lines == [
        "part_00: part_00.json is missing",
        "part_01: part_01.json is damaged",
        "part_02: part_02.json is missing",
        "3 parts, 3 damaged or missing",
    ]


def test_a_part_whose_replacement_was_killed_is_named(fitted, capsys):
    files = PartFiles(fitted, "part_01")
    staged = StagedFiles(files)
    shutil.copytree(fitted, staged.folder, ignore=lambda folder, names: [n for n in names if "part_01" not in n])
    assert not (staged.folder / "thumbnails").exists()
    staged.model.write_bytes(b"new")
    staged.write_record(files.read_record())
    os.replace(staged.model, files.model)
    code, lines, _ = verify(capsys, fitted)
    assert code == 1 and lines[0].startswith("part_01: a process was killed while it replaced this part; the next fit")


def test_records_of_an_earlier_version_are_compared_by_size(fitted, capsys):
    path = fitted / "part_00.json"
    record = json.loads(path.read_text())
    record["files"] = {name: described["bytes"] for name, described in record["files"].items()}
    path.write_text(json.dumps(record))
    code, lines, _ = verify(capsys, fitted)
    assert code == 0 and lines[-1] == "1 record of an earlier version: sizes were compared, not contents"
    (fitted / "part_00.html").write_bytes(b"")
    assert verify(capsys, fitted)[:2][1][0] == "part_00: part_00.html is damaged"


def test_a_folder_without_parts_or_none_at_all_gets_one_line(tmp_path, capsys):
    (tmp_path / "own.json").write_text("{}")
    for folder, words in ((tmp_path, "no fitted part"), (tmp_path / "none", "No such file")):
        code, lines, err = verify(capsys, folder)
        assert (code, lines) == (1, []) and err.count("\n") == 1 and words in err
