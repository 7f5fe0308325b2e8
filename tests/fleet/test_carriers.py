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


def refuse(tmp_path, sent):
    """The reason why nothing of `sent` was written over an earlier result."""
    job, out = sent_job(tmp_path), tmp_path / "out"
    assert travel(job)["status"] == "done"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    sender, job["flags"] = Sender(), job["flags"] | {"epochs": 9}
    assert "status" not in sender.send(job)
    result = sender.receive(job, {"status": "done", "reason": "", "files": sent})
    assert result["status"] == "failed" and "files" not in result
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert job["input"] in result["reason"] and "\n" not in result["reason"] and len(result["reason"]) < 600
    return result["reason"]


@pytest.mark.parametrize(
    "name", ["/etc/a.json", "../a.json", "b.json", "a.ply", "thumbnails/../a.stl", "thumbnails/b.png", ".a.lock", "a",
             "C:\\a.stl", "a.stl/", "./a.stl", "a.stl\n", ".a.unfinished", b"a.stl", 7, "x" * 100_000]
)  # fmt: skip
def test_a_file_that_is_not_this_parts_is_refused(tmp_path, name):
    reason = refuse(tmp_path, {"a.stl": b"1", name: b"2"})
    assert repr(str(name)[:200]).encode() in reason.encode() and "no file of this part" in reason


def test_a_hundred_thousand_files_are_refused_in_one_line(tmp_path):
    assert "and 99,999 more" in refuse(tmp_path, {f"b{k}.stl": b"" for k in range(100_000)})


@pytest.mark.parametrize("data", ["text", None, 10**9, {"link": "/etc/passwd"}])
def test_what_is_no_bytes_is_refused(tmp_path, data):
    assert "no file of this part" in refuse(tmp_path, {"a.stl": data})


def test_what_is_no_table_of_files_is_refused(tmp_path):
    assert "no files by name" in refuse(tmp_path, ["a.stl"])


def fitted_files(tmp_path):
    """What the worker sends back for a part of another content."""
    (tmp_path / "there").mkdir()
    job = sent_job(tmp_path / "there", b"other")
    return fit_sent(Sender().send(job), fit=fleet_stubs.light_fit)["files"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda files: files.pop("a.json"),
        lambda files: files.pop("a.stl"),
        lambda files: files.update({"a.safetensors": bytes(len(files["a.safetensors"]))}),
        lambda files: files.update({"a.json": files["a.json"][:-9]}),
        lambda files: files.update({"a.json": b'{"files": {}}'}),
    ],
)
def test_a_result_that_does_not_agree_with_its_record_is_refused(tmp_path, damage):
    files = fitted_files(tmp_path)
    damage(files)
    assert "do not agree with their record" in refuse(tmp_path, files)


def test_a_result_is_not_written_through_a_link_nor_over_a_users_file(tmp_path):
    job, out, own = sent_job(tmp_path), tmp_path / "out", tmp_path / "own"
    own.write_bytes(b"my own")
    sender = Sender()
    sent = sender.send(job)
    (out / "a.png").symlink_to(own)  # while the part is away
    result = sender.receive(job, fit_sent(sent, fit=fleet_stubs.light_fit))
    assert result["status"] == "failed" and "a.png: no fit left this file" in result["reason"]
    assert own.read_bytes() == b"my own" and (out / "a.png").is_symlink() and not (out / "a.json").exists()
    (out / "a.png").unlink()
    assert Sender().send(job)["skipped"]  # the result was kept, and takes its place now
    assert sorted(path.name for path in out.iterdir()) == [
        "a.html", "a.json", "a.png", "a.safetensors", "a.stl", "thumbnails",
    ]  # fmt: skip


def test_a_checkpoint_that_comes_back_leaves_the_earlier_result(tmp_path):
    job, out = sent_job(tmp_path), tmp_path / "out"
    travel(job)
    sender, job["flags"] = Sender(), job["flags"] | {"overwrite": 1}
    sender.send(job)
    checkpoint = fleet_stubs.CHECKPOINT_HEAD + b"1"
    sender.receive(job, {"status": "stopped", "reason": "", "files": {"a.checkpoint": checkpoint}})
    assert (out / "a.checkpoint").read_bytes() == checkpoint and (out / "a.json").exists()
    job["flags"] |= {"overwrite": 0}  # the same command without --overwrite 1 goes on
    assert Sender().send(job)["checkpoint"] == checkpoint


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


def test_samples_travel_and_what_is_no_mesh_is_refused_before_it_travels(tmp_path):
    flags = {"outputDir": str(tmp_path), "outputFormat": "stl", "overwrite": 0}
    for name, data in (("a.npz", b"samples"), ("b.stl", b"")):
        (tmp_path / name).write_bytes(data)
        sent = Sender().send({"name": name, "input": str(tmp_path / name), "flags": flags})
        if data:
            assert sent["content"] == data and sent["beside"] == {}
        else:
            assert sent["status"] == "refused" and "empty" in sent["reason"]
