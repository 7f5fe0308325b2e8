"""A user's own hidden files in an output folder: no command touches one, whatever else it then says."""

import errno
import os
import signal

import pytest

from neuralparts import commands
from neuralparts.output import PartFiles, StagedFiles
from tests import fleet_stubs
from tests.fleet.runs import a_folder


def file(name, content=b"a user's own"):
    """Makes a file below a folder."""

    def make(out):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)

    return make


def in_staging(name):
    """Makes a file in the hidden folder that the fit of part_00 would use."""
    return lambda out: file(f"{StagedFiles(PartFiles(out, 'part_00')).folder.name}/{name}")(out)


def socket(out):
    os.mknod(out / ".part_00.socket", 0o140600)


RECORD = b'{"input": "x", "content": "y", "flags": {}, "metrics": {}, "timings": {}, "failure": "", "files": {"x": {}}}'
# Each makes files in an output folder for the parts part_00 and part_01.
KINDS = {
    "a lock of another program": file(".x.lock", b""),
    "a lock with content under a part's name": file(".part_00.lock", b"pid 7"),
    "an unfinished download": file(".y.part"),
    "an unfinished file with a process number": file(".part_00.stl.123.part"),
    "an unfinished file that no fit writes here": file(".part_00.stl.0123abcd.part"),
    "an unfinished file of another part": file(".part_02.log.0123abcd.part"),
    "a link with the name of an unfinished file": lambda out: (
        file("own")(out),
        (out / ".part_00.log.0123abcd.part").symlink_to("own"),
    ),
    "a folder where a fit has its own": in_staging("notes.txt"),
    "a folder in the folder where a fit has its own": in_staging("part_00.stl/part_00.png"),
    "a folder with another code": file(".part_00.0123abcd.new/part_00.stl"),
    "a file where a fit has its folder": lambda out: StagedFiles(PartFiles(out, "part_00")).folder.write_bytes(b"own"),
    "a git repository": file(".git/config"),
    "what macOS leaves": lambda out: (file(".DS_Store")(out), file("._part_00.stl")(out)),
    "what NFS leaves": file(".nfs000000000123abcd00000001"),
    "swap files of an editor": lambda out: (file(".part_00.json.swp")(out), file(".part_00.html.un~")(out)),
    "a table that names files": file("part_00.json", b'{"files": {"part_00.stl": 12}}'),
    "a record of another program": file("part_00.json", RECORD),
    "a mark of another program": file(".part_00.unfinished"),
    "a checkpoint of another program": file("part_00.checkpoint"),
    "a log of another program": file("part_00.log", b"Traceback"),
    "hidden thumbnails": file("thumbnails/.part_00.png.0123abcd.part"),
    "a hidden socket": socket,
}


def fingerprint(out):
    """Of every name: its inode, its kind, the time of its last change, its content."""
    found = {}
    for path in sorted(out.rglob("*")):
        status = os.lstat(path)
        content = path.read_bytes() if path.is_file() else b""
        times = 0 if path.is_dir() else status.st_mtime_ns  # a folder's changes with the lock files in it
        found[path.relative_to(out)] = (status.st_ino, status.st_mode, times, content)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_users_own_hidden_file_is_not_touched(tmp_path, here, monkeypatch, capsys, kind):
    monkeypatch.setattr("time.sleep", lambda _: None)
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    out.mkdir()
    try:
        KINDS[kind](out)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP):
            pytest.skip(f"this file system does not have it: {error}")
        raise
    before = fingerprint(out)
    for flags in ((), ("--overwrite", 1)):
        for given in (source / "part_00.stl", source):
            code, _, err, _ = here(given, out, *flags)
            assert code in (0, 1) and "Traceback" not in err
            assert before.items() <= fingerprint(out).items()
    stop_and_resume(here, source, out, monkeypatch)
    assert commands.main(["verify", str(out)]) in (0, 1)
    assert before.items() <= fingerprint(out).items()


def stop_and_resume(here, source, out, monkeypatch):
    """Stop a run by SIGTERM during its first fit, and run it again."""

    def fit_and_stop(*words):
        os.kill(os.getpid(), signal.SIGTERM)
        return fleet_stubs.light_fit(*words)

    with monkeypatch.context() as patch:
        patch.setattr("neuralparts.part.fit_part", fit_and_stop)
        assert here(source, out, "--epochs", 11)[0] in (1, 143)
    assert here(source, out, "--epochs", 11)[0] in (0, 1)
