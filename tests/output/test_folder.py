"""An output folder as a whole: what is removed after killed processes, who else runs over it."""

import os
import subprocess
import sys

import pytest

from neuralparts.output import OutputError, PartFiles, Running, check_folder_free, prepare_folder, remove_leavings
from tests.fleet.runs import ROOT

RUNNER = """
import sys, time
from pathlib import Path
from neuralparts.output import Running
with Running(Path(sys.argv[1])) as running:
    print(running.alone, flush=True)
    time.sleep(600)
"""


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_leavings_of_killed_processes_are_removed_unless_their_part_is_held(tmp_path):
    leavings = [".a.log.0123abcd.part", ".b.c.checkpoint.0123abcd.part", "..a.unfinished.0123abcd.part"]
    leavings += [".summary.csv.00000000.part", ".index.html.ffffffff.part"]
    for name in [*leavings, ".held.log.0123abcd.part"]:
        (tmp_path / name).write_bytes(b"half")
    for name in (".a.lock", ".summary.lock", ".held.lock"):
        (tmp_path / name).touch()
    with PartFiles(tmp_path, "held").lock():
        remove_leavings(tmp_path, ["a", "b.c", "held"])
        assert names_in(tmp_path) == [".held.lock", ".held.log.0123abcd.part"]
    remove_leavings(tmp_path, ["a", "b.c", "held"])
    assert names_in(tmp_path) == []


def test_a_users_own_hidden_files_stay(tmp_path):
    own = {
        ".a.log.123.part": b"a number too short",
        ".a.log.0123ABCD.part": b"other digits",
        ".a.stl.0123abcd.part": b"a fit writes it in its own folder",
        ".a.notes.0123abcd.part": b"a suffix that no fit writes",
        ".download.part": b"",
        "own.json.0123abcd.part": b"not hidden",
        ".other.lock": b"",  # no part of this run
        ".a.lock": b"content, which a lock file never has",
        ".b.lock.0123abcd.part": b"",
    }
    for name, content in own.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".a.checkpoint.0123abcd.part").symlink_to(tmp_path / ".download.part")
    (tmp_path / ".b.lock").symlink_to(tmp_path / ".other.lock")
    before = names_in(tmp_path)
    remove_leavings(tmp_path, ["a", "b"])
    assert names_in(tmp_path) == before
    assert all((tmp_path / name).read_bytes() == content for name, content in own.items())


def test_a_run_is_alone_if_no_other_lives(tmp_path):
    words = [sys.executable, "-c", RUNNER, tmp_path]
    drivers = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    # Of two that arrive at once, one is alone.
    assert sorted(driver.stdout.readline() for driver in drivers) == ["False\n", "True\n"]
    with Running(tmp_path) as running:
        assert not running.alone
    for driver, others_live in zip(drivers, (True, False), strict=True):
        driver.kill()
        driver.wait()
        driver.stdout.close()
        with Running(tmp_path) as running:
            assert running.alone == (not others_live)
    assert names_in(tmp_path) == []


def test_a_users_own_summary_or_page_is_never_overwritten(tmp_path):
    check_folder_free(tmp_path)
    for name in ("summary.csv", "index.html"):
        (tmp_path / name).write_text("my own")
        with pytest.raises(OutputError, match=f"{name}: no run left this file"):
            check_folder_free(tmp_path)
        (tmp_path / name).unlink()


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path):
    prepare_folder(tmp_path / "a/b")
    assert os.listdir(tmp_path / "a/b") == []
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name, why in (("file", "file: a file, not a folder"), ("link", "link: a link to nowhere, which does not")):
        for folder in (tmp_path / name, tmp_path / name / "b"):
            with pytest.raises(OutputError, match=why):
                prepare_folder(folder)
