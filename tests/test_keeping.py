"""What a fit keeps: the earlier result until the new one is whole, other inputs' fits, and a user's own files."""

import json
import os
from pathlib import Path

import pytest

from neuralparts import part
from neuralparts.job import fit_one
from neuralparts.output import PartFiles, StagedFiles
from tests import fleet_stubs
from tests.fleet.runs import a_folder, check_folder, summary


def contents(out):
    """Every file of a folder, hidden ones included: its bytes, or where a link leads, by name."""
    return {
        str(path.relative_to(out)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in out.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def fitted(tmp_path, here, name="box.ply", *flags):
    """(source, output folder) of a part that was fitted."""
    source, out = tmp_path / name, tmp_path / "out"
    source.write_bytes(b"good")
    assert here(source, out, *flags)[0] == 0
    return source, out


# ------------------------------------------------------------------------------------------------ a user's own files


@pytest.mark.parametrize("suffix", ["stl", "html", "png", "safetensors"])
@pytest.mark.parametrize("flags", [["--epochs", 9], ["--overwrite", 1], ["--outputFormat", "obj"]])
def test_a_result_that_a_user_changed_is_neither_replaced_nor_removed(tmp_path, here, suffix, flags):
    source, out = fitted(tmp_path, here)
    changed = out / f"box.{suffix}"
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")  # of the same size
    before = contents(out)
    code, _, err, names = here(source, out, *flags)
    if suffix == "stl" and "obj" in flags:  # it is in nobody's way
        assert code == 0 and changed.read_bytes() == before["box.stl"]
        return
    assert (code, names) == (1, []) and err.count("\n") == 1
    assert f"{changed}: not as the fit left it (changed or damaged), and the result would overwrite it" in err
    assert contents(out) == before


def test_a_users_json_that_names_files_is_no_record(tmp_path, here):
    out, source = tmp_path / "out", tmp_path / "box.ply"
    source.write_bytes(b"good")
    out.mkdir()
    (out / "box.stl").write_bytes(b"mine")
    for own in ({"files": {"box.stl": 4}}, {"files": {}, "flags": {}, "input": "x", "metrics": {}}, [1], {"files": 7}):
        (out / "box.json").write_text(json.dumps(own))
        before = contents(out)
        for flags in ((), ("--overwrite", 1)):
            code, _, err, names = here(source, out, *flags)
            assert (code, names) == (1, []) and "box.json: no fit left this file" in err
        assert contents(out) == before


@pytest.mark.parametrize("name", ["box.stl", "box.json", "box.png", "box.checkpoint"])
@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_users_link_stays(tmp_path, here, name, target):
    out, source = tmp_path / "out", tmp_path / "box.ply"
    source.write_bytes(b"good")
    out.mkdir()
    (tmp_path / "there").write_bytes(b"mine")
    (out / name).symlink_to(tmp_path / target)
    before = contents(out)
    code, _, err, names = here(source, out)
    assert (code, names) == (1, []) and f"{name}: no fit left this file" in err
    assert contents(out) == before and (tmp_path / "there").read_bytes() == b"mine"


def test_a_folder_run_keeps_every_hidden_file_of_a_user(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    out.mkdir()
    own = [".part_00.json", ".part_00.new", ".part_00", ".other.json.0123abcd.part", ".other.0123abcd.new/a", ".x.lock"]
    own += [".part_00.0123abcd.new/part_00.stl", "part_00.stl.bak", ".part_00.unfinished2", ".git/config"]
    for name in own:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"mine")
    for flags in ((), ("--overwrite", 1), ("--epochs", 9)):
        assert here(source, out, *flags)[0] == 0
    after = contents(out)
    assert all(after.pop(name) == b"mine" for name in own)
    assert not [name for name in after if name.startswith(".")]


@pytest.mark.parametrize("own", ["folder/notes.txt", "file", "link"])
def test_what_stands_where_the_hidden_folder_would_be_stays(tmp_path, here, own):
    source, out = fitted(tmp_path, here)
    hidden = StagedFiles(PartFiles(out, "box")).folder
    if own == "link":
        hidden.symlink_to(tmp_path)
    elif own == "file":
        hidden.write_bytes(b"mine")
    else:
        hidden.mkdir()
        (hidden / "notes.txt").write_bytes(b"mine")
    before = contents(out)
    code, _, err, names = here(source, out, "--epochs", 9)
    assert (code, names) == (1, []) and "no fit left this file" in err and err.count("\n") == 1
    assert contents(out) == before


def test_a_users_checkpoint_stays(tmp_path, here):
    source, out = tmp_path / "box.ply", tmp_path / "out"
    source.write_bytes(b"good")
    out.mkdir()
    (out / "box.checkpoint").write_bytes(b"mine")
    code, _, err, names = here(source, out)
    assert (code, names) == (1, []) and "box.checkpoint: no fit left this file" in err
    assert contents(out) == {"box.checkpoint": b"mine"}


# --------------------------------------------------------------------------------------------------- another input


def test_the_fit_of_another_input_of_the_same_name_stays(tmp_path, here):
    first, second, out = tmp_path / "p1/part.stl", tmp_path / "p2/part.obj", tmp_path / "out"
    for path, content in ((first, b"one"), (second, b"two")):
        path.parent.mkdir()
        path.write_bytes(content)
    assert here(first, out)[0] == 0
    before = contents(out)
    for flags in ((), ("--overwrite", 1), ("--outputFormat", "obj")):
        code, _, err, names = here(second, out, *flags)
        assert (code, names) == (1, []) and err.count("\n") == 1 and contents(out) == before
        assert str(first) in err and str(second) in err and "--suffix" in err and "--outputDir" in err
    assert here(second, out, "--suffix", "_2")[0] == 0 and here(first, out)[3] == []


def test_the_same_input_may_change_and_the_same_content_may_move(tmp_path, here, monkeypatch):
    source, out = fitted(tmp_path, here)
    source.write_bytes(b"new content")
    assert here(source, out)[3] == ["box"]
    monkeypatch.chdir(tmp_path)
    source.write_bytes(b"newer")
    assert here("./box.ply", "out")[3] == ["box"]  # the same file, spelled in another way
    (tmp_path / "moved").mkdir()
    source.rename(tmp_path / "moved/box.ply")
    assert here(tmp_path / "moved/box.ply", out)[3] == []
    assert here(tmp_path / "moved/box.ply", out, "--epochs", 9)[3] == ["box"]


def test_the_same_relative_path_in_another_folder_is_another_input(tmp_path, here, monkeypatch):
    out = tmp_path / "out"
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.stl").write_bytes(name.encode())
        monkeypatch.chdir(tmp_path / name)
        code, _, err, names = here("part.stl", out)
    assert (code, names) == (1, []) and str(tmp_path / "p1/part.stl") in err


def test_two_folders_with_the_same_names_and_one_output_folder(tmp_path, here):
    out = tmp_path / "out"
    one, two = a_folder(tmp_path / "one", 2), a_folder(tmp_path / "two", 2)
    (two / "part_00.stl").write_bytes(b"other")  # part_01 has the same content in both
    assert here(one, out)[0] == 0
    code, printed, _, names = here(two, out)
    assert (code, names) == (1, []) and "1 of 2 done" in printed
    assert str(one / "part_00.stl") in printed and str(two / "part_00.stl") in printed


# ------------------------------------------------------------------------------------------- a fit that fails, or dies


def test_a_collapsed_fit_does_not_replace_a_good_result(tmp_path, here, monkeypatch):
    source, out = fitted(tmp_path, here)
    before = contents(out)

    def collapses(source, flags, files, watch, name):
        write = files.write_record
        files.write_record = lambda record: write(record | {"failure": "the network collapsed"})
        return fleet_stubs.light_fit(source, flags, files, watch, name) | {"failure": "the network collapsed"}

    with monkeypatch.context() as patch:
        patch.setattr(part, "fit_part", collapses)
        for flags in (("--epochs", 9), ("--overwrite", 1)):
            code, _, err, _ = here(source, out, *flags)
            assert code == 1 and err.strip() == "trainer.py: the network collapsed; the earlier result stays"
            assert contents(out) == before
        other = tmp_path / "other"  # without an earlier result, the failure leaves its files
        code, _, err, _ = here(source, other)
        assert code == 1 and err.strip() == "trainer.py: the network collapsed"
        assert json.loads((other / "box.json").read_text())["failure"] and (other / "box.safetensors").exists()
        assert here(source, other, "--epochs", 9)[2].strip() == "trainer.py: the network collapsed"
    assert here(source, other)[0] == 0 and not json.loads((other / "box.json").read_text())["failure"]


def test_a_failure_over_an_earlier_result_in_a_folder(tmp_path, here, monkeypatch):
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    here(source, out)
    before = {name: data for name, data in contents(out).items() if name.startswith("part")}
    (source / "part_00.stl").write_bytes(b"bad")
    (source / "part_01.stl").write_bytes(b"fault")
    code, _, _, _ = here(source, out, "--overwrite", 1)
    assert code == 1 and [row["status"] for row in summary(out)] == ["refused", "failed"]
    assert all(row["reason"].endswith("; the earlier result stays") for row in summary(out))
    assert before.items() <= contents(out).items()


def test_a_part_that_killed_runs_left_halfway_is_settled_by_the_next(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    here(source, out)
    for name, whole in (("part_00", True), ("part_01", False)):
        files = PartFiles(out, name)
        staged = StagedFiles(files)
        staged.begin()
        for path in (staged.model, staged.reconstruction):
            path.write_bytes(b"new")
        if whole:
            staged.write_record(files.read_record() | {"flags": {"epochs": 77}})
            os.replace(staged.model, files.model)  # killed here
    assert here(source, out)[3] == ["part_00"]
    check_folder(source, out)


def test_a_disk_that_does_not_keep_what_was_written_is_no_success(tmp_path, here, monkeypatch):
    source, out = fitted(tmp_path, here)
    before = contents(out)

    def forgetful(source, flags, files, watch, name):
        record = fleet_stubs.light_fit(source, flags, files, watch, name)
        files.model.write_bytes(bytes(files.model.stat().st_size))
        return record

    monkeypatch.setattr(part, "fit_part", forgetful)
    code, _, err, _ = here(source, out, "--epochs", 9)
    assert code == 1 and "the disk does not hold what was written" in err and contents(out) == before


def test_unfinished_files_of_a_killed_fit_go_at_the_next_run(tmp_path, here):
    source, out = fitted(tmp_path, here)
    before = contents(out)
    for name in (".box.checkpoint.0123abcd.part", ".box.log.0123abcd.part"):
        (out / name).write_bytes(b"half")
    StagedFiles(PartFiles(out, "box")).begin()
    assert here(source, out)[3] == [] and contents(out) == before


def test_a_full_disk_names_the_file(tmp_path, here, monkeypatch):
    source, out = tmp_path / "box.ply", tmp_path / "out"
    source.write_bytes(b"good")

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    fdopen = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *words: Full(fdopen(*words)))
    code, _, err, _ = here(source, out)
    assert code == 1 and err == f"trainer.py: {out / 'box.safetensors'}: No space left on device\n"
    assert list(out.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- names and words


@pytest.mark.parametrize("name", ["a" * 240, "零件模型" * 20 + "x", "b" * 251, "c" * 229])
def test_a_name_too_long_for_its_files_is_refused_before_the_fit(tmp_path, here, name):
    source, out = tmp_path / f"{name}.stl", tmp_path / "out"
    source.write_bytes(b"good")
    code, _, err, names = here(source, out)
    assert (code, names) == (1, []) and err.count("\n") == 1 and "too long" in err and "--suffix" in err
    assert list(out.iterdir()) == []
    (tmp_path / "b.stl").write_bytes(b"good")
    code, _, err, names = here(tmp_path / "b.stl", out, "--suffix", "_" * 240)
    assert (code, names) == (1, []) and "too long" in err


def test_the_longest_name_that_fits_is_fitted(tmp_path, here):
    source, out = tmp_path / f"{'a' * 228}.stl", tmp_path / "out"
    source.write_bytes(b"good")
    assert here(source, out)[0] == 0 and here(source, out)[3] == []


def test_an_output_folder_that_is_none_gets_its_own_words(tmp_path, here):
    source = a_folder(tmp_path / "parts", 1) / "part_00.stl"
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for folder, words in (("file", "a file, not a folder"), ("dangling", "a link to nowhere, which does not exist")):
        code, _, err, names = here(source, tmp_path / folder)
        assert (code, names) == (1, []) and err.count("\n") == 1 and f"{tmp_path / folder}: {words}" in err


def test_control_characters_reach_neither_the_table_nor_the_terminal(tmp_path, here):
    source, out = tmp_path / "parts", tmp_path / "out"
    source.mkdir()
    names = ["a\nb", "c\x1b[2Jd", "e\rf", "=HYPERLINK(1)", "+1", "-2", "@sum", "g\u202ehtml", "h\x9b31m"]
    for name in names:
        (source / f"{name}.stl").write_bytes(b"bad")
    code, printed, err, _ = here(source, out)
    assert code == 1
    lines = (printed + err).split("\n")
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    # Once when the part ends, and once in the list at the end.
    assert sum(line.startswith("refused: ") for line in lines) == 2 * len(names)
    text = (out / "summary.csv").read_bytes().decode()
    assert all(line.isprintable() for line in text.split("\r\n")) and len(text.split("\r\n")) == len(names) + 2
    rows = summary(out)
    assert len(rows) == len(names) and {row["name"] for row in rows} >= {
        "a\\nb",
        "'=HYPERLINK(1)",
        "'+1",
        "'-2",
        "'@sum",
    }
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    for name in names:
        (source / f"{name}.stl").write_bytes(b"good")
    assert here(source, out)[0] == 0 and all(f"{name}.stl" in os.listdir(out) for name in names)
    assert sum(f'href="{page}' in (out / "index.html").read_text() for page in ("a%0Ab", "%3DHYPERLINK")) == 2


def test_a_single_part_with_a_newline_in_its_name_gets_one_line(tmp_path, here):
    source, out = tmp_path / "a\nb.stl", tmp_path / "out"
    source.write_bytes(b"bad")
    code, _, err, _ = here(source, out)
    assert code == 1 and err.count("\n") == 1 and "a\\nb.stl: not a mesh" in err


# ------------------------------------------------------------------------------------------ records of earlier versions


def as_earlier_versions(out):
    """Rewrite the records of a folder: with the sizes of the files alone."""
    for path in out.glob("*.json"):
        record = json.loads(path.read_text())
        record["files"] = {name: described["bytes"] for name, described in record["files"].items()}
        del record["input_path"]
        path.write_text(json.dumps(record))


def test_records_of_earlier_versions_are_accepted_by_size_with_a_note(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 3), tmp_path / "out"
    here(source, out)
    as_earlier_versions(out)
    code, printed, _, names = here(source, out)
    assert (code, names) == (0, []) and "3 records of an earlier version: the sizes of the files were" in printed
    code, _, err, names = here(source / "part_00.stl", out)
    assert (code, names) == (0, []) and "part_00.json: an earlier version wrote it" in err
    (out / "part_01.png").unlink()
    assert here(source, out)[3] == ["part_01"]
    assert here(source, out, "--epochs", 9)[0] == 0
    check_folder(source, out)


def test_jobs_without_a_path_are_fitted(tmp_path):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"
    out.mkdir()
    flags = {"outputDir": str(out), "outputFormat": "stl", "overwrite": 0, "resume": 0}
    job = {"input": str(source), "name": "part_00", "flags": flags}
    assert fit_one(job, None, fleet_stubs.light_fit)["status"] == "done"
    assert Path(json.loads((out / "part_00.json").read_text())["input_path"]) == source
