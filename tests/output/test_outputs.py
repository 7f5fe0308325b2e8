"""--outputs: which files a fit writes, when it is done, and what becomes of the files of an earlier fit."""

import json

import pytest
import trimesh

from neuralparts.commands import fit
from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import Sender
from neuralparts.job import fit_sent
from neuralparts.network import NeuralSDF
from neuralparts.report import page as page_module
from tests import fleet_stubs
from tests.fleet.runs import a_folder, run_here

SUFFIXES = {"model": {"safetensors"}, "mesh": {"stl"}, "page": {"html", "png"}, "record": {"json"}}
FEW = ["--num_points", 3000, "--batchSize", 128, "--numLayers", 2, "--epochs", 1, "--reconstructionRes", 24]


def written(out, name):
    """The suffixes of the files of a part."""
    return {path.name.removeprefix(f"{name}.") for path in out.glob(f"{name}.*")}


def expected(outputs):
    return set().union(*(SUFFIXES[name] for name in {*outputs.split(","), "record"}))


def metrics_in(out):
    return json.loads((out / "box.json").read_text())["metrics"]


@pytest.fixture
def box(tmp_path):
    trimesh.creation.box((20, 16, 12)).export(tmp_path / "box.stl")
    return tmp_path / "box.stl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The output folder of a fit of the same box with all outputs."""
    folder = tmp_path_factory.mktemp("whole")
    trimesh.creation.box((20, 16, 12)).export(folder / "box.stl")
    assert fit.main([str(word) for word in (folder / "box.stl", *FEW, "--outputDir", folder / "out")]) == 0
    return folder / "out"


@pytest.mark.parametrize("outputs", ["model,record", "mesh", "page,model"])
def test_only_the_outputs_asked_for_are_written_and_the_figures_are_the_same(box, whole, tmp_path, capsys, outputs):
    out = tmp_path / "some"
    code, printed, _ = run_here(capsys, box, *FEW, "--outputDir", out, "--outputs", outputs)
    assert code == 0 and "chamfer" in printed.lower()
    assert metrics_in(out) == metrics_in(whole)
    assert written(out, "box") == expected(outputs) and written(whole, "box") == expected("model,mesh,page")
    last = printed.splitlines()[-1]
    assert last == (f"report: {out}/box.html" if "page" in outputs else f"record: {out}/box.json")
    if "model" in outputs:  # the flag is no part of the model
        assert (out / "box.safetensors").read_bytes() == (whole / "box.safetensors").read_bytes()
        assert NeuralSDF.load(out / "box.safetensors")([0, 0, 0]) < 0
    if "page" in outputs:  # it links to no file that is not there
        page = (out / "box.html").read_text()
        assert 'href="box.safetensors"' in page and 'href="box.stl"' not in page


def test_without_a_page_no_view_is_made(box, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page_module, "shown_meshes", lambda *_: 1 / 0)
    assert run_here(capsys, box, *FEW, "--outputDir", tmp_path / "out", "--outputs", "model,mesh")[0] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--outputs", "model,pages"], ("'pages'", "model, mesh, page, record")),
        (["--outputs", ""], ("model, mesh, page, record",)),
        (["--outputs", "model", "--simplify", "0.1"], ("--simplify", "add mesh")),
        (["--outputs", "mesh", "--modelCard", "1"], ("--modelCard", "add model")),
    ],
)
def test_a_typo_or_a_contradiction_is_refused_in_a_line(flags, words, capsys):
    with pytest.raises(SystemExit):
        parse_fit_flags(["part.stl", *flags])
    err = capsys.readouterr().err
    assert [word for word in words if word not in err] == [] and err.count("\n") == 1


def test_the_order_and_the_record_do_not_matter():
    for text in ("record,model", "model", " model , record,model"):
        assert parse_fit_flags(["part.stl", "--outputs", text]).outputs == "model,record"


def test_done_with_fewer_outputs_or_without_files_that_nobody_asks_for(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    assert here(source, out)[3] == ["part_00", "part_01"]
    (out / "part_00.html").unlink()
    (out / "part_01.stl").write_bytes(b"damaged")
    assert here(source, out, "--outputs", "model")[3] == []
    (out / "part_00.safetensors").unlink()
    assert here(source, out, "--outputs", "model")[3] == ["part_00"]


def test_more_outputs_fit_again_and_the_earlier_ones_are_made_too(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 2), tmp_path / "out"
    _, printed, _, fitted = here(source, out, "--outputs", "model")
    assert fitted == ["part_00", "part_01"] and "2 of 2 done" in printed and "made again" not in printed
    assert not (out / "thumbnails").exists() and "part_00.html" not in (out / "index.html").read_text()
    assert written(out, "part_01") == expected("model") and here(source, out, "--outputs", "record")[3] == []
    _, printed, _, fitted = here(source, out, "--outputs", "mesh")
    assert fitted == ["part_00", "part_01"] and written(out, "part_00") == expected("model,mesh")
    assert "2 parts had more files from an earlier fit than --outputs asks for: they were made again too" in printed
    assert here(source, out, "--outputs", "model,mesh")[3] == []
    assert here(source, out)[3] == ["part_00", "part_01"]
    assert written(out, "part_00") == expected("model,mesh,page") and (out / "thumbnails/part_00.png").exists()


@pytest.mark.parametrize("flags", [["--epochs", 9], ["--overwrite", 1]])
def test_a_later_fit_with_fewer_outputs_leaves_no_file_out_and_none_stale(tmp_path, here, flags):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"
    here(source, out)
    before = {path: path.read_bytes() for path in out.glob("part_00.*")}
    code, _, err, fitted = here(source, out, "--outputs", "model", *flags)
    assert (code, fitted) == (0, ["part_00"]) and "the earlier fit left them: mesh, page; remove them" in err
    after = {path: path.read_bytes() for path in out.glob("part_00.*")}
    assert before.keys() == after.keys()
    if "--epochs" in flags:
        assert all(before[path] != after[path] for path in before)
    for name in ("part_00.html", "part_00.png", "part_00.stl", "thumbnails/part_00.png"):
        (out / name).unlink()
    assert here(source, out, "--outputs", "model", "--overwrite", 1)[3] == ["part_00"]
    assert written(out, "part_00") == expected("model")


def test_a_users_own_file_is_in_the_way_only_of_a_fit_that_writes_it(tmp_path, here):
    source, out = a_folder(tmp_path / "parts", 1) / "part_00.stl", tmp_path / "out"
    out.mkdir()
    (out / "part_00.png").write_bytes(b"a photograph")
    assert here(source, out)[0] == 1
    assert here(source, out, "--outputs", "model,mesh")[::3] == (0, ["part_00"])
    code, _, err, _ = here(source, out)
    assert code == 1 and "part_00.png: no fit left this file" in err
    assert (out / "part_00.png").read_bytes() == b"a photograph"


def test_a_fit_on_another_machine_makes_the_earlier_outputs_too(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "a.ply").write_bytes(b"good")
    flags = {"outputDir": str(tmp_path / "out"), "outputFormat": "stl", "overwrite": 0, "resume": 0}
    for epochs, outputs in ((1, "mesh,page,record"), (2, "model,record")):
        job = {"name": "a", "input": str(tmp_path / "a.ply"), "folder": True}
        job["flags"] = flags | {"epochs": epochs, "outputs": outputs}
        sender = Sender()
        assert sender.receive(job, fit_sent(sender.send(job), fit=fleet_stubs.light_fit))["status"] == "done"
    assert written(tmp_path / "out", "a") == expected("model,mesh,page")
