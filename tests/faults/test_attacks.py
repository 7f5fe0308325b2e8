"""Inputs, output folders and workers' results that point outside: nothing outside is opened, read or changed.

What a process opens, renames, links or removes is noted by Python's audit events, so an attack fails a test also if its
outcome looks right.
"""

import contextlib
import os
import stat
import struct
import sys
import zipfile

import numpy as np
import pytest

from neuralparts import commands
from neuralparts.commands import fit as commands_fit
from neuralparts.errors import UserError
from neuralparts.fleet import Sender
from neuralparts.mesh_files import read_source, read_triangles
from neuralparts.output import PartFiles, StagedFiles
from neuralparts.sampling import load_samples
from tests import fleet_stubs
from tests.fleet.runs import a_folder
from tests.mesh_files.handmade import OBJ_QUADS, minimal, obj_text, ply_bytes, write_3mf, write_gltf

# Events whose first arguments are paths; of the second kind are those that do not follow a link at the end of a path.
FOLLOWING = ("open", "os.listdir", "os.scandir", "os.truncate", "os.chmod")
NOT_FOLLOWING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
# Files of the machine that no command may open, beside those in `outside`.
OF_THE_MACHINE = ("/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ")
watched: list[tuple[str, list[str]]] = []  # the last entry: a forbidden folder, and what was done in it


def note(event, arguments):
    """The audit hook: note what happens to files in the forbidden folder."""
    if not watched or event not in FOLLOWING + NOT_FOLLOWING:
        return
    forbidden, found = watched[-1]
    for given in arguments[: 1 if event in FOLLOWING else 2]:
        if isinstance(given, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(given))
            flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
            follows = event in FOLLOWING and not flags & (os.O_NOFOLLOW | os.O_EXCL)
            real = os.path.realpath(path if follows else os.path.dirname(path))
            if (real + os.sep).startswith(forbidden) or path in OF_THE_MACHINE:
                found.append(f"{event} {path}")


sys.addaudithook(note)


def contents(folder):
    """Every name below a folder: its kind, links, time of change and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = os.lstat(path)
        found[path] = (status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


@pytest.fixture
def outside(tmp_path):
    """A folder of the user that nothing may open or change, although attacks lead to it."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    for name in ("secret", "secret.bin", "a.stl", "secret.model", "deep/secret.bin"):
        (folder / name).write_bytes(bytes(72))
    before, found = contents(folder), []
    watched.append((os.path.realpath(folder) + os.sep, found))
    yield folder
    watched.pop()
    assert found == []
    assert contents(folder) == before


@contextlib.contextmanager
def preparing():
    """What is done in this block is the attacker's work, and is not noted."""
    watched.append(("\0", []))
    yield
    watched.pop()


# ------------------------------------------------------------------------------------- names in the output folder

PLACES = {
    "the lock": ".part_00.lock",
    "the hidden folder": "{staging}",
    "a model in the hidden folder": "{staging}/part_00.safetensors",
    "thumbnails in the hidden folder": "{staging}/thumbnails",
    "the mark of an unfinished fit": ".part_00.unfinished",
    "the checkpoint": "part_00.checkpoint",
    "the log": "part_00.log",
    "the record": "part_00.json",
    "the model": "part_00.safetensors",
    "the surface": "part_00.stl",
    "the page": "part_00.html",
    "thumbnails": "thumbnails",
    "a thumbnail": "thumbnails/part_00.png",
    "the summary": "summary.csv",
    "the gallery": "index.html",
    "the lock of the run": ".running.lock",
    "the lock of the summary": ".summary.lock",
}


def put(kind, path, outside):
    """Put a link, a pipe or a socket in a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "hard link":
        os.link(outside / "secret", path)
    elif kind in ("pipe", "socket"):
        os.mknod(path, (stat.S_IFIFO if kind == "pipe" else stat.S_IFSOCK) | 0o600)
    else:
        path.symlink_to(
            {"link": outside / "secret", "dangling link": outside / "new", "link to a folder": outside}[kind]
        )


@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link", "link to a folder", "pipe", "socket"])
@pytest.mark.parametrize("place", PLACES)
def test_what_stands_at_a_name_of_the_output_folder_leads_nowhere(tmp_path, here, monkeypatch, outside, place, kind):
    monkeypatch.setattr("time.sleep", lambda _: None)
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    (source / "part_00.stl").write_bytes(b"good")
    path = out / PLACES[place].replace("{staging}", StagedFiles(PartFiles(out, "part_00")).folder.name)
    with preparing():
        put(kind, path, outside)
        stands = os.lstat(path).st_ino
    for words in ((source / "part_00.stl", out), (source, out, "--overwrite", 1)):
        code, _, err, _ = here(*words)
        assert code in (0, 1) and "Traceback" not in err
    assert commands.main(["verify", str(out)]) in (0, 1)
    # It stays, unless it is in a folder that a fit made.
    assert "{staging}/" in PLACES[place] or os.lstat(path).st_ino == stands
    if kind == "hard link" and os.path.lexists(path):
        path.unlink()


# ------------------------------------------------------------------------------------------------------------ inputs


def gltf(uri, prepare=lambda folder, outside: None):
    """A .gltf whose first buffer is at an address."""

    def make(folder, outside):
        prepare(folder, outside)
        header = minimal()
        header["buffers"][0]["uri"] = uri.replace("{outside}", str(outside))
        return write_gltf(folder, header)

    return make


def model_3mf(build, name="3D/3dmodel.model", target="/3D/3dmodel.model", head="", link=False):
    """A 3MF with a model of another name, relationship, document type, or whose other model is a link."""

    def make(folder, outside):
        write_3mf(folder / "plain.3mf", build.replace("{outside}", str(outside)))
        with zipfile.ZipFile(folder / "plain.3mf") as plain, zipfile.ZipFile(folder / "part.3mf", "w") as file:
            model = plain.read("3D/3dmodel.model").decode()
            file.writestr(name.replace("{outside}", str(outside)), model.replace("?>", "?>" + head, 1))
            relationships = plain.read("_rels/.rels").decode()
            file.writestr("_rels/.rels", relationships.replace("/3D/3dmodel.model", target))
            if link:
                entry = zipfile.ZipInfo("3D/other.model")
                entry.external_attr, entry.create_system = (stat.S_IFLNK | 0o777) << 16, 3
                file.writestr(entry, str(outside / "secret.model"))
        return folder / "part.3mf"

    return make


def item(path):
    return f'<item xmlns:p="p" p:path="{path}" objectid="1"/>'


def text(name, content):
    """A file of this text."""

    def make(folder, outside):
        (folder / name).write_bytes(content.replace(b"{outside}", os.fsencode(outside)))
        return folder / name

    return make


SECRET_ENTITY = '<!DOCTYPE model [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
PLY = ply_bytes("", [[0, 1, 3, 2]])
INPUTS = {
    "glTF: an absolute address": gltf("{outside}/secret.bin"),
    "glTF: ../": gltf("../outside/secret.bin"),
    "glTF: %2e%2e/": gltf("%2e%2e/outside/secret.bin"),
    "glTF: ..%2f": gltf("..%2foutside%2fsecret.bin"),
    "glTF: a folder and back": gltf("./x/../../outside/secret.bin"),
    "glTF: file://": gltf("file://{outside}/secret.bin"),
    "glTF: FILE:///": gltf("FILE:///{outside}/secret.bin"),
    "glTF: file://localhost": gltf("file://localhost{outside}/secret.bin"),
    "glTF: http://": gltf("http://localhost:9/secret.bin"),
    "glTF: a password file": gltf("/etc/passwd"),
    "glTF: an endless device": gltf("/dev/zero"),
    "glTF: the environment": gltf("/proc/self/environ"),
    "glTF: standard input": gltf("/dev/stdin"),
    "glTF: a backslash": gltf("..\\outside\\secret.bin"),
    "glTF: a null character": gltf("secret.bin\0.bin"),
    "glTF: a buffer that is a link": gltf(
        "b", lambda folder, outside: (folder / "b").symlink_to(outside / "secret.bin")
    ),
    "glTF: a folder that is a link": gltf("d/secret.bin", lambda folder, outside: (folder / "d").symlink_to(outside)),
    "glTF: a pipe": gltf("b", lambda folder, outside: os.mkfifo(folder / "b")),
    "glTF: data that promise more": gltf("data:application/octet-stream;base64,AAAA"),
    "3MF: a model path with ../": model_3mf(item("/../../outside/secret.model")),
    "3MF: an absolute model path": model_3mf(item("{outside}/secret.model")),
    "3MF: a member named ../": model_3mf(item("/3D/none.model"), name="../outside/secret.model"),
    "3MF: a member with an absolute name": model_3mf(item("/3D/none.model"), name="{outside}/secret.model"),
    "3MF: a member that is a link": model_3mf(item("/3D/other.model"), link=True),
    "3MF: an external relationship": model_3mf(item("/3D/none.model"), target="file:///etc/passwd.model"),
    "3MF: an external entity": model_3mf('<item objectid="1"/>', head=SECRET_ENTITY),
    "OBJ: a material library with ../": text("a.obj", b"mtllib ../outside/secret\n" + obj_text(OBJ_QUADS).encode()),
    "OBJ: an absolute material library": text("a.obj", b"mtllib {outside}/secret\n" + obj_text(OBJ_QUADS).encode()),
    "PLY: a texture": text("a.ply", PLY.replace(b"by hand", b"TextureFile {outside}/secret")),
    "STL: a link to a device": lambda folder, outside: (folder / "a.stl").symlink_to("/dev/zero") or folder / "a.stl",
}


@pytest.mark.parametrize("attack", INPUTS)
def test_an_input_reads_nothing_outside_its_folder(tmp_path, outside, attack):
    folder = tmp_path / "in"
    folder.mkdir()
    with preparing():
        path = INPUTS[attack](folder, outside)
    if attack.startswith(("OBJ", "PLY")):  # what they name has no part in their shape
        assert len(read_triangles(read_source(path))[1])
        return
    with pytest.raises(UserError, match=path.name):
        read_triangles(read_source(path))


class Payload:
    def __reduce__(self):
        return os.mkdir, (os.environ["ATTACK_OUTSIDE"],)


@pytest.mark.parametrize("attack", ["an object", "a member named ../", "a link to a file that is no archive"])
def test_samples_run_nothing_and_read_nothing_outside(tmp_path, outside, monkeypatch, attack):
    monkeypatch.setenv("ATTACK_OUTSIDE", str(outside / "made"))
    path = tmp_path / "a.npz"
    with preparing():
        if attack == "an object":
            array = np.empty((1, 4), object)
            array[0, 0] = Payload()
            np.savez(path, train=array)
        elif attack == "a member named ../":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("../outside/train.npy", b"\x93NUMPY" + struct.pack("<BBH", 1, 0, 0))
        else:
            path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"a\.npz"):
        load_samples(path)
    assert not (outside / "made").exists()


# --------------------------------------------------------------------------------------------- workers and folders

SENT = [
    "../a.stl",
    "{outside}/a.stl",
    "deep/a.stl",
    "a.stl\0",
    ".",
    "..",
    "",
    "summary.csv",
    "index.html",
    ".running.lock",
    ".a.lock",
    "thumbnails/../../outside/a.stl",
    "thumbnails",
    "{staging}/a.stl",
    "~/a.stl",
    "b.stl",
]


@pytest.mark.parametrize("name", SENT)
def test_a_workers_result_is_not_written_elsewhere(tmp_path, outside, name):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "a.ply").write_bytes(b"good")
    flags = {"outputDir": str(out), "outputFormat": "stl", "overwrite": 0, "resume": 0}
    job = {"name": "a", "input": str(tmp_path / "a.ply"), "flags": flags, "folder": True}
    sender = Sender()
    assert "content" in sender.send(job)
    name = name.replace("{outside}", str(outside))
    name = name.replace("{staging}", StagedFiles(PartFiles(out, "a")).folder.name)
    result = sender.receive(job, {"status": "done", "reason": "", "files": {name: b"x", "a.stl": b"y"}})
    assert result["status"] == "failed" and "no file of this part" in result["reason"]
    assert list(out.iterdir()) == []


def test_a_link_in_a_folder_of_inputs_leads_to_no_file_of_another_kind(tmp_path, here, outside):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    with preparing():
        (source / "key.stl").symlink_to(outside / "secret")
    (source / "own.stl").symlink_to(tmp_path / "mesh.STL")
    (tmp_path / "mesh.STL").write_bytes(b"good")  # a link to a mesh elsewhere is followed
    code, printed, _, fitted = here(source, out)
    assert (code, fitted) == (1, ["own", "part_00"]) and "key.stl: a link to" in printed and "another suffix" in printed


@pytest.mark.parametrize("name", ["...stl", "a\nb.stl", "\x1b]0;x\x07.stl", "=cmd|'x'!A1.stl", "~.stl", "$HOME.stl"])
def test_a_name_of_an_input_leads_nowhere(tmp_path, here, outside, name):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / name).write_bytes(b"good")
    before = set(os.listdir(tmp_path))
    code, _, err, _ = here(tmp_path / "parts" / name, tmp_path / "out")
    assert code == 0 and err.replace("\n", "").isprintable()
    assert set(os.listdir(tmp_path)) == before | {"out"}


@pytest.mark.parametrize("suffix", ["/../../outside/x", "/x", "\0"])
def test_a_suffix_leads_nowhere(tmp_path, here, outside, suffix):
    (tmp_path / "a.stl").write_bytes(b"good")
    with pytest.raises(SystemExit):
        commands_fit.main([str(tmp_path / "a.stl"), "--outputDir", str(tmp_path / "out"), "--suffix", suffix])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../outside/a", "{outside}/a", "a\0b", "..", "x" * 200_000])
def test_a_summary_that_somebody_prepared_leads_nowhere(tmp_path, here, outside, capsys, name):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    assert here(source, out)[0] == 0
    with open(out / "summary.csv", "a") as file:
        file.write(f"{name.replace('{outside}', str(outside))},x,done{',' * 11}\r\n")
    assert commands.main(["verify", str(out)]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
    assert here(source, out)[0] == 0 and len((out / "summary.csv").read_text().splitlines()) == 2
    assert "outside" not in (out / "index.html").read_text()


def test_a_result_that_somebody_prepared_in_the_hidden_folder_is_no_link(tmp_path, here, outside):
    """A set that agrees with its record, but whose model is a link to a file outside."""
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    out.mkdir()
    staged = StagedFiles(PartFiles(out, "part_00"))
    staged.begin()
    with preparing():
        staged.model.write_bytes(bytes(72))
        staged.write_record({"input": "x", "content": "y", "flags": {}, "metrics": {}, "timings": {}, "failure": ""})
        staged.model.unlink()
        staged.model.symlink_to(outside / "secret")
    assert here(source, out)[3] == ["part_00"] and not (out / "part_00.safetensors").is_symlink()
    assert fleet_stubs.MODEL_HEAD in (out / "part_00.safetensors").read_bytes()
