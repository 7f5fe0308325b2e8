"""Output folders that are full, read-only or gone."""

import json
import shutil
import subprocess

import pytest

from neuralparts.fleet import FolderBook
from tests.fleet.runs import a_folder, check_folder, finish, hashes, start, summary, wait_for


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


@pytest.mark.parametrize("batch", [1, pytest.param(4, marks=pytest.mark.long)])
def test_a_full_disk_is_recorded_and_room_for_more_lets_the_run_go_on(tmp_path, small_disk, batch):
    out, mount_again = small_disk
    source, log = a_folder(tmp_path / "parts", 20), tmp_path / "log"
    code, printed, _ = finish(start("light", source, out, "--workers", 2, "--partsPerBatch", batch, log=log))
    failed = [line for line in printed.splitlines() if line.startswith("failed: ")]
    done = sorted(path.stem for path in out.glob("*.json"))
    assert code == 1 and failed and all("No space left on device" in line for line in failed)
    assert 0 < len(done) == 20 - len(failed)
    for name in done:
        record = json.loads((out / f"{name}.json").read_text())
        found = {file: described["sha256"] for file, described in record["files"].items()}
        assert found == hashes(out, record["files"])
    assert not list(out.rglob(".*.part")) and None not in {value for row in summary(out) for value in row.values()}
    mount_again("size=20m")
    code, printed, _ = finish(start("light", source, out, "--workers", 2, "--partsPerBatch", batch, log=log))
    assert code == 0 and f"20 of 20 done ({len(done)} of them before)" in printed
    check_folder(source, out, log)


def test_a_disk_without_any_room_gives_one_line(tmp_path, small_disk):
    out, _ = small_disk
    with pytest.raises(OSError):
        (out / "filler").write_bytes(bytes(2**30))
    code, _, err = finish(start("light", a_folder(tmp_path / "parts", 3), out, "--workers", 1))
    assert code == 1 and err.count("\n") == 1 and "No space left on device" in err


def test_a_read_only_folder_gives_one_line_and_stays_as_it_is(tmp_path, small_disk, here):
    out, mount_again = small_disk
    source = a_folder(tmp_path / "parts", 3)
    assert here(source, out)[0] == 0
    before = sorted(path.name for path in out.rglob("*"))
    mount_again("ro")
    code, _, err, fitted = here(source, out)
    assert (code, fitted) == (1, []) and err.count("\n") == 1
    assert "cannot write there (Read-only file system)" in err
    assert sorted(path.name for path in out.rglob("*")) == before


def test_a_folder_that_becomes_read_only_during_a_run_fails_its_parts_and_loses_none(tmp_path, small_disk):
    (out, mount_again), read_only = small_disk, tmp_path / "read_only"
    mount_again("size=20m")
    source, log = a_folder(tmp_path / "parts", 20), tmp_path / "log"
    driver = start("light", source, out, "--workers", 1, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 2, "two parts")
    # A second mount over the first: files that are open stay as they are, every name is read-only from now on.
    # It is made read-only at a place that nobody writes to, as a mount with a file open for writing refuses that.
    read_only.mkdir()
    subprocess.run(["mount", "--bind", out, read_only], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
    subprocess.run(["mount", "--bind", read_only, out], check=True)
    subprocess.run(["umount", read_only], check=True)
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
    take = FolderBook.take

    def take_and_move(book, job, result):
        take(book, job, result)
        if job["name"] == "part_01":
            out.rename(tmp_path / "unmounted")

    with monkeypatch.context() as patch:
        patch.setattr(FolderBook, "take", take_and_move)
        code, printed, err, _ = here(source, out)
    assert code == 1 and "2 of 4 done" in printed and printed.count("No such file or directory") == 2
    assert "not written: " in err and "Traceback" not in err
    (tmp_path / "unmounted").rename(out)
    assert here(source, out)[3] == ["part_02", "part_03"]
    check_folder(source, out)
