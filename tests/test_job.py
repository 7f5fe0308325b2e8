"""One part as a job: finished or not, a user's own files, faults of the program."""

import json

import pytest
import trimesh

from neuralparts import part
from neuralparts.errors import Interrupted
from neuralparts.job import fit_one
from neuralparts.mesh_files import read_source
from tests import fleet_stubs
from tests.fleet.runs import a_folder, check_folder


def contents(out):
    """The bytes of the files of parts, by name relative to the folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("part*") if path.is_file()}


def test_finished_means_the_same_flags_the_same_content_and_all_files(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 3), tmp_path / "out"
    assert here(source, out)[3] == ["part_00", "part_01", "part_02"]
    assert here(source, out, "--checkpointSeconds", 7, "--maxMemory", "1G", "--showVis", 1)[3] == []
    (source / "part_01.stl").write_bytes(b"other")
    assert here(source, out)[3] == ["part_01"]
    (out / "part_02.html").unlink()
    assert here(source, out)[3] == ["part_02"]
    weights = out / "part_00.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert here(source, out)[3] == ["part_00"]
    assert here(source, out, "--epochs", 9)[3] == ["part_00", "part_01", "part_02"]
    assert here(source, out, "--epochs", 9, "--overwrite", 1)[3] == ["part_00", "part_01", "part_02"]
    code, printed, _, fitted = here(source, out, "--epochs", 9)
    assert (code, fitted) == (0, []) and "3 of 3 done (3 of them before)" in printed
    check_folder(source, out)


def test_a_single_file_is_fitted_once_too(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"
    assert here(source, out)[3] == ["part_00"]
    code, _, err, fitted = here(source, out)
    assert (code, fitted) == (0, []) and "--overwrite 1" in err
    assert here(source, out, "--overwrite", 1)[3] == ["part_00"]


def test_a_fit_that_fails_leaves_the_earlier_result(tmp_path, here, monkeypatch):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    here(source, out)
    before = contents(out)
    with monkeypatch.context() as patch:

        def fails(*_):
            raise OSError(28, "No space left on device", "somewhere")

        patch.setattr(fleet_stubs, "write_whole", fails)
        for flags in (["--epochs", 9], ["--overwrite", 1, "--epochs", 9]):
            code, printed, _, fitted = here(source, out, *flags)
            assert (code, fitted) == (1, ["part_00"]) and "No space left" in printed
            assert before.items() <= contents(out).items()
    (out / ".part_00.unfinished").unlink()  # a fit with --overwrite 1 was begun, so the next run would fit it again
    assert here(source, out)[3] == []


def test_inputs_are_never_overwritten(tmp_path, here):
    source = a_folder(tmp_path / "parts", 2)
    code, _, err, fitted = here(source / "part_00.stl", source)
    assert (code, fitted) == (1, []) and "overwrite" in err
    code, _, err, fitted = here(source, source)
    assert (code, fitted) == (1, []) and "choose another --outputDir" in err
    assert sorted(path.name for path in source.iterdir()) == ["part_00.stl", "part_01.stl"]


@pytest.mark.parametrize("suffix", ["stl", "json", "html", "png", "safetensors"])
def test_a_users_own_file_of_the_same_name_stays(tmp_path, here, suffix):
    out, source = tmp_path / "out", tmp_path / "box.ply"
    source.write_bytes(b"good")
    out.mkdir()
    (out / f"box.{suffix}").write_bytes(b"my own")
    for flags in ((), ("--overwrite", 1), ("--reconstructionRes", 0)):
        code, _, err, fitted = here(source, out, *flags)
        assert (code, fitted) == (1, []) and err.count("\n") == 1
        assert f"box.{suffix}: no fit left this file" in err
    assert [path.name for path in out.iterdir()] == [f"box.{suffix}"]
    code, _, err, fitted = here(source, out, "--suffix", "_fit")
    assert (code, fitted) == (0, ["box_fit"]) and (out / f"box.{suffix}").read_bytes() == b"my own"


def test_a_users_own_json_beside_a_model_stays(tmp_path, here):
    out, source = tmp_path / "out", tmp_path / "box.ply"
    source.write_bytes(b"good")
    here(source, out)
    (out / "box.json").write_text('{"drawing": 7}')
    code, _, err, fitted = here(source, out)
    assert (code, fitted) == (1, []) and "box.json: not as the fit left it (changed or damaged)" in err
    assert (out / "box.json").exists() and (out / "box.stl").exists()


def test_a_result_that_is_itself_fitted_stays(tmp_path, here):
    source, out = tmp_path / "box.stl", tmp_path / "out"
    source.write_bytes(b"good")
    here(source, out, "--outputFormat", "obj")
    for format in ("obj", "stl"):
        code, _, err, fitted = here(out / "box.obj", out, "--outputFormat", format)
        assert (code, fitted) == (1, []) and "overwrite it" in err and (out / "box.obj").exists()
    assert here(source, out, "--outputFormat", "stl")[3] == ["box"] and not (out / "box.obj").exists()


def test_a_users_own_page_or_table_stays(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1), tmp_path / "out"
    here(source, out)
    assert here(source, out, "--overwrite", 1)[0] == 0
    for name in ("index.html", "summary.csv"):
        left = (out / name).read_bytes()
        (out / name).write_text("<html>my own</html>")
        code, _, err, fitted = here(source, out, "--overwrite", 1)
        assert (code, fitted) == (1, []) and f"{name}: no run left this file" in err
        (out / name).write_bytes(left)


def test_a_stopped_run_with_overwrite_is_resumed_without_it(tmp_path, here, monkeypatch):
    """The parts that it did not reach keep their earlier result."""
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    here(source, out)
    job = {"name": "part_00", "input": str(source / "part_00.stl"), "folder": True}
    job["flags"] = json.loads((out / "part_00.json").read_text())["flags"] | {"overwrite": 1}
    with monkeypatch.context() as patch:
        patch.setattr(part, "fit_part", lambda *_: (_ for _ in ()).throw(Interrupted("stopped")))
        assert fit_one(job)["status"] == "stopped"
    assert here(source, out)[3] == ["part_00"]


def test_another_memory_limit_is_another_try(tmp_path, here, monkeypatch):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"

    def fit(source, flags, files, watch, name):
        write, failure = files.write_record, {"failure": "the memory bound is 1 MiB: raise it"}
        files.write_record = lambda record: write(record | failure)
        return fleet_stubs.light_fit(source, flags, files, watch, name) | failure

    with monkeypatch.context() as patch:
        patch.setattr(part, "fit_part", fit)
        assert here(source, out, "--maxMemory", "1M")[0] == 1
    assert here(source, out, "--maxMemory", "1M")[3] == []
    assert here(source, out, "--maxMemory", "2G")[3] == ["part_00"]


def test_a_gltf_is_its_buffers_too(tmp_path, here):
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box((1, 2, 3)))).items():
        (tmp_path / (name if name != "model.gltf" else "box.gltf")).write_bytes(data)
    source, out = tmp_path / "box.gltf", tmp_path / "out"
    assert here(source, out)[3] == ["box"] and here(source, out)[3] == []
    beside = read_source(source).beside
    assert list(beside) and all((tmp_path / name).read_bytes() == data for name, data in beside.items())
    name = next(iter(beside))
    (tmp_path / name).write_bytes(beside[name][::-1])
    assert here(source, out)[3] == ["box"]
    described = json.loads(source.read_text())
    described["buffers"][0]["uri"] = "../elsewhere.bin"
    source.write_text(json.dumps(described))
    with pytest.raises(ValueError, match="outside its folder"):
        read_source(source)


# --------------------------------------------------------------------------------------------- faults of the program


def test_a_fault_leaves_its_traceback_in_a_log(tmp_path, here):
    source, out = tmp_path / "box.ply", tmp_path / "out"
    source.write_bytes(b"fault")
    code, _, err, _ = here(source, out)
    line = err.splitlines()[-1]
    assert code == 1 and err.count("\n") == 1 and "a fault of this program: KeyError" in line
    assert line.endswith(f"the traceback is in {out / 'box.log'}")
    log = (out / "box.log").read_text()
    assert "Traceback (most recent call last)" in log and "in light_fit" in log and "a key that is missing" in log


def test_a_fault_in_a_folder_run_is_one_line_and_a_log(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 3), tmp_path / "out"
    (source / "part_01.stl").write_bytes(b"fault")
    code, printed, err, fitted = here(source, out)
    assert code == 1 and fitted == ["part_00", "part_01", "part_02"] and "2 of 3 done" in printed
    assert [line for line in err.splitlines() if "fault" in line] == [printed.splitlines()[-1]]
    assert printed.splitlines()[-1].endswith(f"the traceback is in {out / 'part_01.log'}")
    assert "Traceback" in (out / "part_01.log").read_text()


def test_a_fit_that_succeeds_removes_the_log_and_never_names_it(tmp_path, here):
    source, out = tmp_path / "box.ply", tmp_path / "out"
    source.write_bytes(b"fault")
    assert here(source, out)[0] == 1 and (out / "box.log").exists()
    source.write_bytes(b"good")
    assert here(source, out)[0] == 0 and not (out / "box.log").exists()
    assert "box.log" not in json.loads((out / "box.json").read_text())["files"]


def test_a_users_own_log_stays(tmp_path, here, capsys):
    source, out = tmp_path / "box.ply", tmp_path / "out"
    out.mkdir()
    (out / "box.log").write_text("my own")
    source.write_bytes(b"fault")
    code, _, err, _ = here(source, out)
    assert code == 1 and "no log written" in err.splitlines()[-1] and "Traceback" in err  # it is not lost
    source.write_bytes(b"good")
    assert here(source, out)[0] == 0
    assert (out / "box.log").read_text() == "my own"
