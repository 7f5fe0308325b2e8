"""`neuralparts compare`: the figures of several fits side by side."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trimesh

from neuralparts import commands
from neuralparts.commands import fit

ROOT = Path(__file__).resolve().parents[2]
FEW = ["--num_points", "2000", "--epochs", "1", "--numLayers", "1", "--batchSize", "128", "--reconstructionRes", "16"]


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """A folder with two fits of one box, in small/ and wide/, and one of a ball, in ball/."""
    folder = tmp_path_factory.mktemp("fits")
    shapes = {"small": trimesh.creation.box((20, 30, 40)), "ball": trimesh.creation.icosphere(3, 50)}
    for name, shape in shapes.items():
        (folder / name).mkdir()
        shape.export(folder / name / "part.ply")
    for name, source, width in (("small", "small", "16"), ("wide", "small", "32"), ("ball", "ball", "16")):
        flags = ["--outputDir", str(folder / name), "--layerWidth", width]
        assert fit.main([str(folder / source / "part.ply"), *FEW, *flags, "--suffix", "_fit"]) == 0
    return folder


def compared(capsys, *results):
    """Exit code, the rows of the table as lists of cells (two spaces or more between them), and the lines beside it."""
    code = commands.main(["compare", *map(str, results)])
    out, err = capsys.readouterr()
    return code, [line.strip().split("  ") for line in out.splitlines()], err


def test_a_column_for_each_fit_in_file_units(fits, capsys):
    paths = [fits / name / "part_fit.json" for name in ("small", "wide")]
    code, lines, beside = compared(capsys, *paths)
    assert code == 0 and beside == "" and [cell.strip() for cell in lines[0][1:] if cell] == ["small", "wide"]
    rows = {cells[0]: [cell.strip() for cell in cells[1:] if cell] for cells in lines[1:]}
    records = [json.loads(path.read_text()) for path in paths]
    for column, record in enumerate(records):
        scale, metrics = record["transform"]["scale"], record["metrics"]
        assert float(rows["Surface error"][column]) == pytest.approx(metrics["surface_error"] / scale, rel=0.01)
        assert float(rows["Chamfer distance"][column]) == pytest.approx(metrics["chamfer"] / scale, rel=0.01)
        assert float(rows["IoU"][column]) == pytest.approx(metrics["iou"], abs=1e-4)
        assert float(rows["Seconds to the report"][column]) == pytest.approx(record["timings"]["total"], abs=0.06)
        model = paths[column].with_suffix(".safetensors")
        assert rows["Model, bytes"][column] == f"{model.stat().st_size:,}"


def test_a_folder_and_a_model_stand_for_their_record(fits, capsys):
    by_record = compared(capsys, fits / "small/part_fit.json", fits / "wide/part_fit.json")
    (fits / "small/widths.json").write_text('{"found_widths": "33,44"}')  # as a folder run leaves it
    assert compared(capsys, fits / "small", fits / "wide/part_fit.safetensors") == by_record


def test_fits_of_different_inputs_are_called_so(fits, capsys):
    code, _, beside = compared(capsys, fits / "small", fits / "ball")
    assert code == 0 and beside == "these are fits of different inputs\n"


@pytest.mark.parametrize("wrong", ["missing.json", "own.json", "empty", "two"])
def test_what_is_no_record_is_refused_in_a_line(fits, tmp_path, capsys, wrong):
    (tmp_path / "own.json").write_text("{}")
    for folder, count in (("empty", 0), ("two", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.json").write_text("{}")
    code, lines, beside = compared(capsys, fits / "small", tmp_path / wrong)
    assert code == 1 and lines == [] and beside.count("\n") == 1 and str(tmp_path / wrong) in beside


def test_figures_that_a_fit_does_not_have_are_a_dash(fits, tmp_path, capsys):
    samples, out = tmp_path / "samples.npz", tmp_path / "out"
    assert commands.main(["sample", str(fits / "small/part.ply"), "--num_points", "4000", "--out", str(samples)]) == 0
    assert fit.main([str(samples), *FEW, "--outputDir", str(out)]) == 0
    capsys.readouterr()
    code, lines, _ = compared(capsys, out)
    rows = {cells[0]: cells[-1].strip() for cells in lines[1:]}
    assert code == 0 and rows["IoU"] == "-" and rows["Surface error"] == "-" and rows["Parameters"] != "-"


def test_the_demo_fits_a_mesh_by_both_recipes_and_compares_them(tmp_path):
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "bin").mkdir()
    # A Python that has torch, as far as it says, and prints what it is asked to run, a line each.
    (tmp_path / "bin/python3").write_text('#!/bin/sh\n[ "$1" = -c ] || echo "$@"\n')
    (tmp_path / "bin/python3").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    command = [tmp_path / "presets/demo.sh", "parts/gear.v2.STL", "--seed", "7"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    instant, dam, compare = done.stdout.replace(f"{tmp_path}/", "").splitlines()
    for line, folder, own in ((instant, "instant", "--encoding hashgrid"), (dam, "dam", "--damArch 1")):
        assert line.startswith("trainer.py parts/gear.v2.STL ") and own in line
        assert line.endswith(f"--seed 7 --outputDir results/gear.v2/demo/{folder}")
    records = [f"results/gear.v2/demo/{folder}/gear.v2.json" for folder in ("instant", "dam")]
    assert compare == f"-m neuralparts compare {' '.join(records)}"
