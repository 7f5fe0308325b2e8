"""Locks: held by one process, ended with it, and never at the cost of a user's own file."""

import os
import subprocess
import sys
import warnings

import pytest

from neuralparts.output import BusyError, OutputError, PartFiles
from tests.fleet.runs import ROOT, wait_for

HOLDER = """
import sys, time
from pathlib import Path
from neuralparts.output import PartFiles
with PartFiles(Path(sys.argv[1]), "part").lock():
    print("held", flush=True)
    time.sleep(600)
"""


def hold(folder):
    """A process that holds the lock of `part` in a folder."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_lock_ends_with_its_process(tmp_path):
    files, holder = PartFiles(tmp_path, "part"), hold(tmp_path)
    with pytest.raises(BusyError, match=r"\.part\.lock: another process has this lock"), files.lock():
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / ".part.lock").exists()
    with files.lock():
        assert (tmp_path / ".part.lock").read_bytes() == b""
    assert list(tmp_path.iterdir()) == []


def test_one_process_holds_a_lock_once(tmp_path):
    files = PartFiles(tmp_path, "part")
    with files.lock():
        with pytest.raises(BusyError), files.lock():
            pass
        assert (tmp_path / ".part.lock").exists()
    with files.lock():
        pass


def test_a_lock_is_no_way_into_a_users_file(tmp_path):
    """Neither through a symbolic link, nor through a hard one, nor if the user's file has the name of the lock."""
    own, lock = tmp_path / "own.txt", tmp_path / ".part.lock"
    own.write_text("my own")
    for link in (lock.symlink_to, lock.hardlink_to):
        link(own)
        with (
            pytest.raises(OutputError, match="is a link, a folder") as caught,
            PartFiles(tmp_path, "part").lock(),
        ):
            pass
        assert "\n" not in str(caught.value)
        assert own.read_text() == "my own" and lock.exists()
        lock.unlink()
    own.rename(lock)
    with PartFiles(tmp_path, "part").lock():
        pass
    assert lock.read_text() == "my own"


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(OSError), PartFiles(tmp_path / "gone", "part").lock():
        pass


def test_locks_work_without_flock(tmp_path, monkeypatch):
    """On a file system without flock, the lock file holds the owner's name."""
    fcntl = pytest.importorskip("fcntl")

    def no_flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    files = PartFiles(tmp_path, "part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with files.lock(), pytest.raises(BusyError), files.lock():
            pass
        with files.lock():
            pass
    assert list(tmp_path.iterdir()) == []


def test_many_processes_hold_it_one_after_the_other(tmp_path):
    """Each adds 1 to a number 200 times; a lock that two held at once would lose some."""
    (tmp_path / "number").write_text("0")
    program = """
import sys, time
from pathlib import Path
from neuralparts.output import BusyError, PartFiles
files, number, done = PartFiles(Path(sys.argv[1]), "part"), Path(sys.argv[1]) / "number", 0
while done < 200:
    try:
        with files.lock():
            number.write_text(str(int(number.read_text()) + 1))
        done += 1
    except BusyError:
        time.sleep(0.0001)
"""
    words = [sys.executable, "-c", program, tmp_path]
    processes = [subprocess.Popen(words, cwd=ROOT) for _ in range(3)]
    wait_for(lambda: all(process.poll() is not None for process in processes), "three processes")
    assert (tmp_path / "number").read_text() == "600" and os.listdir(tmp_path) == ["number"]
