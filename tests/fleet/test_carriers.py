"""Jobs that carry their files: what travels, what comes back, and what is refused."""

import pytest
import trimesh

from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import Sender
from neuralparts.job import fit_sent
from neuralparts.output import BusyError, PartFiles
from tests import fleet_stubs


def test_a_gltf_travels_with_its_buffers(tmp_path):
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box((1, 2, 3)))).items():
        (tmp_path / (name if name != "model.gltf" else "box.gltf")).write_bytes(data)
    words = ["box.gltf", "--num_points", "4000", "--epochs", "2", "--batchSize", "128", "--reconstructionRes", "32"]
    flags = vars(parse_fit_flags([*words, "--layerWidth", "48", "--outputDir", str(tmp_path / "out")]))
    (tmp_path / "out").mkdir()
    job = {"name": "box", "input": str(tmp_path / "box.gltf"), "flags": flags, "folder": True}
    sender = Sender()
    result = sender.receive(job, fit_sent(sender.send(job)))
    assert result["status"] == "done" and (tmp_path / "out/box.stl").exists()


def test_notes_of_a_sent_fit_name_no_folder_of_the_other_machine(tmp_path):
    trimesh.creation.box((1, 1, 1)).apply_translation((1e6, 0, 0)).export(tmp_path / "far.ply")
    words = ["far.ply", "--num_points", "4000", "--epochs", "2", "--batchSize", "128", "--reconstructionRes", "32"]
    flags = vars(parse_fit_flags([*words, "--layerWidth", "48", "--outputDir", str(tmp_path / "out")]))
    (tmp_path / "out").mkdir()
    sender, job = Sender(), {"name": "far", "input": str(tmp_path / "far.ply"), "flags": flags, "folder": True}
    result = sender.receive(job, fit_sent(sender.send(job)))
    assert result["notes"][0].startswith("far.stl: ") and result["record"]["notes"][0] == result["notes"][0]


@pytest.mark.parametrize("overwrite", [0, 1])
def test_files_of_a_sent_fit_that_failed_replace_those_of_an_earlier_one(tmp_path, overwrite):
    flags = {"outputDir": str(tmp_path), "outputFormat": "stl", "overwrite": overwrite}
    sender, job = Sender(), {"name": "a", "input": str(tmp_path / "in.stl"), "flags": flags}
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


def sent_job(folder, content=b"good", name="a"):
    """A job whose input lies in a folder and whose results go to `out` in it."""
    (folder / "out").mkdir(exist_ok=True)
    (folder / f"{name}.ply").write_bytes(content)
    flags = {"outputDir": str(folder / "out"), "outputFormat": "stl", "overwrite": 0, "resume": 0}
    return {"name": name, "input": str(folder / f"{name}.ply"), "flags": flags, "folder": True}


def travel(job):
    """The result of a job that was sent, fitted by a light fit, and received."""
    sender = Sender()
    sent = sender.send(job)
    return sent if "status" in sent else sender.receive(job, fit_sent(sent, fit=fleet_stubs.light_fit))


@pytest.mark.parametrize(
    "name", ["/etc/a.json", "../a.json", "b.json", "a.ply", "thumbnails/../a.stl", "thumbnails/b.png", ".a.lock", "a"]
)
def test_a_file_that_is_not_this_parts_is_refused(tmp_path, name):
    sender, job = Sender(), sent_job(tmp_path)
    sender.send(job)
    result = sender.receive(job, {"status": "done", "reason": "", "files": {"a.stl": b"1", name: b"2"}})
    assert result["status"] == "failed" and repr(name) in result["reason"] and "\n" not in result["reason"]
    assert job["input"] in result["reason"] and "files" not in result
    assert list((tmp_path / "out").iterdir()) == []


def test_the_lock_of_a_part_is_held_while_it_is_away(tmp_path):
    sender, job = Sender(), sent_job(tmp_path)
    sent = sender.send(job)
    with pytest.raises(BusyError), PartFiles(tmp_path / "out", "a").lock():
        pass
    assert Sender().send(job)["status"] == "busy"
    assert sender.receive(job, fit_sent(sent, fit=fleet_stubs.light_fit))["status"] == "done"
    left = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert left == ["a.html", "a.json", "a.png", "a.safetensors", "a.stl", "thumbnails/a.png"]
    assert Sender().send(job)["skipped"]


def test_the_log_of_a_fault_travels_back(tmp_path):
    result, log = travel(sent_job(tmp_path, b"fault")), tmp_path / "out/a.log"
    assert result["status"] == "failed" and result["reason"].endswith(f"; the traceback is in {log}")
    assert "Traceback" in log.read_text() and "a key that is missing" in log.read_text()
    assert travel(sent_job(tmp_path))["status"] == "done" and not log.exists()


def test_a_log_of_the_users_stays_when_another_travels_back(tmp_path):
    job, log = sent_job(tmp_path, b"fault"), tmp_path / "out/a.log"
    log.write_text("my own")
    result = travel(job)
    assert result["status"] == "failed" and "no fit left this file" in result["reason"]
    assert "KeyError" in result["reason"] and log.read_text() == "my own"
