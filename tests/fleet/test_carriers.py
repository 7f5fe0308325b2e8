"""Jobs that carry their files: what travels, what comes back, and what is refused."""

import pytest
import trimesh

from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import Sender
from neuralparts.job import fit_sent
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
