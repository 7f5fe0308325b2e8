"""`--precision`: the figures of the record are those of the model that was written, and every command reads it."""

import json

import pytest
import trimesh

import export
import network
from neuralparts.commands import fit, march, measure, verify
from neuralparts.network import NeuralSDF
from neuralparts.output import PartFiles

FLAGS = ["--encoding", "hashgrid", "--numLayers", "1", "--hashLevels", "3", "--hashTableLog2", "10", "--num_points"]
FLAGS += [
    "20000",
    "--epochs",
    "2",
    "--batchSize",
    "256",
    "--optimizer",
    "adam",
    "--learningRate",
    "0.01",
    "--loss",
    "relative",
]
FLAGS += ["--reconstructionRes", "24", "--outputs", "model,mesh,record"]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_fit_measures_the_model_that_it_writes(tmp_path, capsys, precision):
    source, out = tmp_path / "box.ply", tmp_path / "out"
    trimesh.creation.box((10, 20, 30)).export(source)
    words = [str(source), *FLAGS, "--outputDir", str(out), "--precision", precision]
    assert fit.main(words) == 0
    record, model = json.loads((out / "box.json").read_text()), NeuralSDF.load(out / "box.safetensors")
    assert record["precision"] == model.precision.facts(model.parameter_count)
    assert record["precision"]["name"] == record["flags"]["precision"] == precision
    assert record["precision"]["bits"] <= 16 and record["precision"]["bytes"] < (out / "box.safetensors").stat().st_size
    # The mesh is that of the model as it was written, and so are the figures.
    again = str(tmp_path / "again.stl")
    assert march.main([str(out / "box.safetensors"), "--reconstructionRes", "24", "--output", again]) == 0
    assert (tmp_path / "again.stl").read_bytes() == (out / "box.stl").read_bytes()
    capsys.readouterr()
    assert measure.main([str(out / "box.safetensors"), str(source), "--reconstructionRes", "0"]) == 0
    measured = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.count(" "))
    assert float(measured["surface_error"]) == pytest.approx(record["metrics"]["surface_error"], rel=0.05)
    assert network.main([str(out / "box.safetensors")]) == 0 and f"{precision}: " in capsys.readouterr().out
    assert verify.main([str(out)]) == 0
    # Done with these flags; not with another precision.
    assert fit.main(words) == 0 and "done before" in capsys.readouterr().err
    assert PartFiles(out, "box").finished(record["flags"] | {"precision": "float32"}) is None
    # The numpy module has weights of its own, which are no model of the folder, and are written once.
    for extra in ([], ["--out", str(out / "box.py")]):
        assert export.main([str(out / "box.safetensors"), "--to", "numpy", *extra]) == 0
    assert (out / "box.weights.safetensors").exists() and verify.main([str(out)]) == 0
    (out / "box.weights.safetensors").write_bytes((out / "box.safetensors").read_bytes())
    assert export.main([str(out / "box.safetensors"), "--to", "numpy", "--out", str(out / "box.py")]) == 1


def test_the_default_writes_the_same_bytes_as_without_the_flag(tmp_path):
    source = tmp_path / "box.ply"
    trimesh.creation.box((10, 20, 30)).export(source)
    files = []
    for name, more in (("a", []), ("b", ["--precision", "float32"])):
        assert fit.main([str(source), *FLAGS, *more, "--outputDir", str(tmp_path / name)]) == 0
        files.append((tmp_path / name / "box.safetensors").read_bytes())
    assert files[0] == files[1] and b"precision" not in files[0]
