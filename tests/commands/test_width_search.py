"""--damArch search as a user meets it: the record, the widths to paste, resuming, a folder."""

import json
import re
import shutil

import numpy as np
import pytest

from neuralparts.choices import SEARCHED_PARAMETERS
from neuralparts.commands.fit import place_to_search
from neuralparts.commands.folder_widths import with_folder_widths
from neuralparts.errors import UserError
from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import Here
from neuralparts.job import fit_one
from neuralparts.network import NeuralSDF
from neuralparts.width_job import find_one
from neuralparts.widths import parameters_of, widths_in, widths_text
from tests.commands.test_fit import a_box, files_of, run

MOST = 2500
BUDGET = ["--num_points", "4000", "--epochs", "2", "--batchSize", "128", "--reconstructionRes", "0"]
SEARCH = ["--damArch", "search", "--damParameters", str(MOST), "--numLayers", "4", *BUDGET, "--outputs", "model"]


def record_of(path):
    return json.loads(path.read_text())


def test_the_found_widths_stand_in_the_record_and_can_be_pasted(tmp_path, capsys):
    source, out = a_box(tmp_path), tmp_path / "out"
    code, printed, err = run(capsys, source, "--outputDir", out, *SEARCH)
    assert code == 0 and "found widths in 12 steps" in err
    record, model = record_of(out / "box.json"), NeuralSDF.load(out / "box.safetensors")
    assert record["search"] == {"widths": widths_text(model.widths)}
    assert record["parameters"] == parameters_of(model.widths) <= MOST and len(model.widths) == 4
    assert record["fit"]["samples"] == 2 * (4000 // 128) * 128  # those of the search included
    (pasted,) = re.findall(r"^found: (.*)$", printed, re.MULTILINE)
    assert run(capsys, source, "--outputDir", out, *SEARCH)[1].splitlines()[-2] == f"found: {pasted}"
    by_hand = [*pasted.split(), *BUDGET, "--outputs", "model"]
    assert run(capsys, source, "--outputDir", tmp_path / "again", *by_hand)[0] == 0
    again = record_of(tmp_path / "again/box.json")
    assert again["parameters"] == record["parameters"] and "search" not in again


def test_the_parameters_are_chosen_for_an_error(tmp_path, capsys):
    source, out = a_box(tmp_path), tmp_path / "out"
    search = ["--damArch", "search", "--damError", "0.5", "--numLayers", "3", *BUDGET, "--outputs", "model"]
    code, _, err = run(capsys, source, "--outputDir", out, *search)
    model = NeuralSDF.load(out / "box.safetensors")
    chosen = SEARCHED_PARAMETERS // 64
    assert code == 0 and f"--damError 0.5: {chosen:,} parameters" in err
    assert chosen * 0.8 < model.parameter_count <= chosen
    np.savez(tmp_path / "s.npz", train=np.random.default_rng(0).uniform(-1, 1, (500, 4)).astype(np.float32))
    code, _, err = run(capsys, tmp_path / "s.npz", "--outputDir", out, *search)
    assert code == 1 and "--damError needs a mesh" in err


@pytest.mark.parametrize("stops_in", ["search", "fit"])
def test_interrupted_and_resumed_gives_the_weights_of_the_whole_run(tmp_path, stops_in):
    source = a_box(tmp_path)

    def fit(out, should_stop=None, **more):
        flags = vars(parse_fit_flags([str(source), "--outputDir", str(tmp_path / out), *SEARCH])) | more
        (tmp_path / out).mkdir(exist_ok=True)
        result = fit_one({"input": str(source), "name": "box", "flags": flags}, should_stop)
        return result["reason"] or result["status"]

    asked = []
    assert fit("whole", lambda: asked.append(1)) == "done"
    steps = 2 * (4000 // 128)
    # After labelling, the search and the fit ask once a step; the search has a fifth of them.
    last = len(asked) - steps + (5 if stops_in == "search" else 30)
    left = iter(range(last))
    assert fit("stopped", lambda: next(left, None) is None) == "stopped on request"
    assert (tmp_path / "stopped/box.checkpoint").is_file() == (stops_in == "fit")
    if stops_in == "fit":
        assert "checkpoint of another fit (numLayers" in fit("stopped", resume=1, numLayers=5)
    assert fit("stopped", resume=1) == "done"
    first, second = (tmp_path / out / "box.safetensors" for out in ("whole", "stopped"))
    one, other = NeuralSDF.load(first), NeuralSDF.load(second)
    assert one.widths == other.widths
    for name, tensor in one.state_dict().items():
        assert tensor.equal(other.state_dict()[name]), name


def test_all_parts_of_a_folder_have_the_widths_found_on_a_sample_now_and_later(tmp_path, capsys):
    parts, out = tmp_path / "parts", tmp_path / "out"
    parts.mkdir()
    for index in range(4):
        a_box(parts, f"widths{index or ''}.stl", (20, 16, 12 + 4 * index))
    (parts / "bad.stl").write_bytes(b"no mesh")
    search = [parts, "--outputDir", out, "--workers", "0", *SEARCH]
    code, _, err = run(capsys, *search)
    assert code == 1 and err.count("widths of all parts: --damArch 0 --widths ") == 1  # of 5, one is no mesh
    kept = record_of(out / "widths.json")
    widths = kept["found_widths"]
    assert 1 <= len(kept["sample"]) <= 3 and parameters_of(widths_in(widths)) <= MOST
    names = ["widths_stl", "widths1", "widths2", "widths3"]  # widths.json is the folder's
    assert [record_of(out / f"{name}.json")["flags"]["widths"] for name in names] == [widths] * 4
    assert NeuralSDF.load(out / "widths1.safetensors").widths == widths_in(widths)

    (parts / "bad.stl").unlink()
    shutil.copy(parts / "widths1.stl", parts / "later.stl")
    times = {path: path.stat().st_mtime_ns for path in out.glob("widths*")}
    code, printed, _ = run(capsys, *search)
    assert code == 0 and "5 of 5 done (4 of them before)" in printed
    assert record_of(out / "later.json")["flags"]["widths"] == widths
    assert times == {path: path.stat().st_mtime_ns for path in out.glob("widths*")}


def test_a_search_that_cannot_be_made_gets_one_line(tmp_path, capsys):
    parts, out = tmp_path / "parts", tmp_path / "out"
    parts.mkdir()
    out.mkdir()
    (parts / "bad.stl").write_bytes(b"no mesh")
    search = [parts, "--outputDir", out, "--workers", "0", *SEARCH]
    code, _, err = run(capsys, *search)
    line = err.splitlines()[-1]
    assert code == 1 and "1 part drawn, none of which can be used" in line and "bad.stl" in line
    assert files_of(out) == []
    for own in ('{"mine": 1}', '{"found_widths": "wide, wider"}', '{"found_widths": "64,9000000"}'):
        (out / "widths.json").write_text(own)
        for more in ([], ["--overwrite", "1"]):
            code, _, err = run(capsys, *search, *more)
            assert code == 1 and "no search for widths left this file" in err.splitlines()[-1]
            assert (out / "widths.json").read_text() == own


def test_a_search_gives_up_after_some_parts_that_cannot_be_used(tmp_path):
    inputs = [tmp_path / f"{index}.stl" for index in range(10_000)]
    flags = parse_fit_flags([str(tmp_path), "--outputDir", str(tmp_path), *SEARCH])
    place = Here("tests.fleet_stubs:act")
    with pytest.raises(UserError, match=r"30 parts drawn, none of which can be used, the first because"):
        with_folder_widths(inputs, [f"refused_{path.stem}" for path in inputs], flags, place, lambda: False)


def test_a_link_to_a_file_of_another_suffix_is_not_read_by_the_search(tmp_path):
    a_box(tmp_path).rename(tmp_path / "key")
    (tmp_path / "box.stl").symlink_to(tmp_path / "key")
    flags = vars(parse_fit_flags([str(tmp_path), "--outputDir", str(tmp_path), *SEARCH]))
    found = find_one({"input": str(tmp_path / "box.stl"), "name": "box", "flags": flags, "folder": True})
    assert found["status"] == "failed" and "has another suffix; it is not read" in found["reason"]


@pytest.mark.parametrize(("parts", "workers"), [(1, 1), (2, 2), (10, 3)])
def test_few_parts_divide_the_processors_among_few_workers(monkeypatch, parts, workers):
    monkeypatch.setattr("neuralparts.fleet.worker_processes.usable_processors", lambda: list(range(8)))
    place = place_to_search(parse_fit_flags(["parts", "--gpu", "-1", *SEARCH]), parts, lambda: False)
    assert len(place.settings) == workers
