"""The stages of a part as jobs: together they leave what a fit in one process leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from neuralparts import fitting, part_stages
from neuralparts.domain import Transform
from neuralparts.errors import Interrupted
from neuralparts.flags import parse_fit_flags
from neuralparts.inputs import Labelled
from neuralparts.job import fit_one
from neuralparts.output import PartFiles
from neuralparts.staged_job import run_stage
from neuralparts.steps import read_labelled, write_labelled
from tests.fleet_stubs import LightStages

FLAGS = ["--num_points", "3000", "--batchSize", "128", "--numLayers", "2", "--reconstructionRes", "24", "--epochs", "2"]
FLAGS += ["--numPairs", "300", "--validationRes", "6", "--gpu", "-1"]


def jobs_of(folder, out, count=2, *more):
    """Jobs for boxes, and for samples if there are more than two."""
    folder.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    for k in range(count):
        trimesh.creation.box((20, 16, 12 + 2 * k)).export(folder / f"box_{k}.stl")
    flags = vars(parse_fit_flags([str(folder), *FLAGS, *more, "--outputDir", str(out)]))
    flags.pop("input")
    return [
        {"name": path.stem, "input": str(path), "flags": flags, "folder": True} for path in sorted(folder.iterdir())
    ]


def staged_results(jobs, should_stop=lambda: False, between=lambda: None, batches=1, before_finish=lambda: None):
    """The results of the parts by name: all prepared, then trained at once, perhaps several times, then finished."""
    prepared = [job | {"handed": run_stage(job | {"stage": "prepare"}, should_stop)["handed"]} for job in jobs]
    between()
    for _ in range(batches):
        batch = run_stage({"name": "", "input": "a batch", "stage": "train", "parts": prepared}, should_stop)
    ended = {}
    before_finish()
    for job in jobs:
        ended[job["name"]] = result = batch["results"][job["name"]]
        if result["status"] == "trained":
            ended[job["name"]] = run_stage(job | {"stage": "finish", "handed": result["handed"]}, should_stop)
    return ended


def test_stages_leave_what_one_fit_leaves(tmp_path):
    """All bytes but the timings, which the page and its picture show too; labelled samples go the same way."""
    here, there = tmp_path / "here", tmp_path / "there"
    points = np.random.default_rng(0).uniform(-1, 1, (3150, 3))
    (tmp_path / "parts").mkdir()
    train = np.column_stack([points, np.linalg.norm(points, axis=1) - 0.5]).astype(np.float32)
    np.savez(tmp_path / "parts/ball.npz", train=train)
    jobs = jobs_of(tmp_path / "parts", here, 1)
    jobs[0]["flags"] = jobs[0]["flags"] | {"validationRes": 0}  # samples have no grid
    assert {fit_one(job)["status"] for job in jobs} == {"done"}
    jobs = [job | {"flags": job["flags"] | {"outputDir": str(there)}} for job in jobs]
    there.mkdir()
    for job in jobs:
        assert staged_results([job])[job["name"]]["status"] == "done"
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()}
    for name in ("ball", "box_0"):
        for suffix in ("safetensors", "stl"):
            assert (here / f"{name}.{suffix}").read_bytes() == (there / f"{name}.{suffix}").read_bytes()
        ours, theirs = (json.loads((out / f"{name}.json").read_text()) for out in (here, there))
        assert list(ours) == list(theirs) and list(ours["fit"]) == list(theirs["fit"])
        assert list(ours["timings"]) == list(theirs["timings"]) and theirs["timings"]["fit"] > 0
        for record in (ours, theirs):
            del record["sha256"], record["timings"], record["fit"]["seconds"], record["flags"]["outputDir"]
            del record["files"][f"{name}.html"], record["files"][f"{name}.png"]
        assert ours == theirs


def test_stages_fit_the_normals_as_one_fit_does(tmp_path):
    grid = ["--encoding", "hashgrid", "--numLayers", "1", "--layerWidth", "16", "--hashLevels", "3"]
    grid += ["--hashFinestRes", "32", "--hashTableLog2", "9", "--optimizer", "adam"]
    models = {}
    for normals in (0, 500):
        jobs = jobs_of(tmp_path / "parts", tmp_path / f"one_{normals}", 1, *grid, "--numNormals", str(normals))
        assert fit_one(jobs[0])["status"] == "done"
        models[normals] = (tmp_path / f"one_{normals}/box_0.safetensors").read_bytes()
    jobs = jobs_of(tmp_path / "parts", tmp_path / "stages", 1, *grid, "--numNormals", "500")
    assert staged_results(jobs)["box_0"]["status"] == "done"
    assert (tmp_path / "stages/box_0.safetensors").read_bytes() == models[500] != models[0]


def test_labelled_points_are_handed_over_to_the_bit(tmp_path):
    generator, path = np.random.default_rng(0), tmp_path / "x.labelled"
    random = lambda *shape: generator.standard_normal(shape).astype(np.float32)  # noqa: E731
    pairs, shown = (random(5, 2, 3), random(5, 2)), (generator.standard_normal((4, 3)), np.arange(6).reshape(2, 3))
    transform = Transform(np.array([1e9 + 0.1, -0.3, 1e-30]), 1 / 3)
    whole = Labelled("hash", transform, (random(7, 3), random(7)), pairs, random(9, 3), random(8), shown)
    whole = replace(whole, normals=(random(6, 3), random(6, 3)))
    for data in (whole, Labelled("hash", transform, whole.samples)):
        write_labelled(path, data)
        found = read_labelled(path)
        assert found.content == "hash" and found.transform.scale == transform.scale
        assert (found.transform.center == transform.center).all()
        for name in ("samples", "pairs", "shown", "normals"):
            theirs, ours = getattr(found, name), getattr(data, name)
            assert (theirs is None) == (ours is None)
            for one, other in zip(theirs or (), ours or (), strict=True):
                assert one.dtype == other.dtype and (one == other).all()
        for name in ("held_out", "validation"):
            np.testing.assert_array_equal(getattr(found, name), getattr(data, name))


def test_a_batch_without_memory_is_halved_and_a_part_alone_fails(tmp_path, monkeypatch):
    sizes, fit = [], fitting.fit_batch

    def lacks_memory(members, settings):
        sizes.append(len(members))
        if len(members) > 1 or members[0].hooks.checkpoint.stem == "box_2":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return fit(members, settings)

    monkeypatch.setattr(part_stages, "fit_batch", lacks_memory)
    monkeypatch.setattr(part_stages, "members_at_once", lambda *_: 3)
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 3, "--reconstructionRes", "0")
    results = staged_results(jobs)
    assert sizes == [3, 1, 2, 1, 1]
    assert {name: result["status"] for name, result in results.items()} == {
        "box_0": "done",
        "box_1": "done",
        "box_2": "failed",
    }
    assert results["box_2"]["again"] and "out of memory" in results["box_2"]["reason"]


def test_what_was_fitted_before_a_stop_is_finished(tmp_path, monkeypatch):
    """The memory holds one part, so the batch is fitted in two, and asked to stop in the second."""
    fitted, fit = [], fitting.fit_batch

    def stops(members, settings):
        if fitted:
            raise Interrupted("stopped on request")
        fitted.append(members)
        return fit(members, settings)

    monkeypatch.setattr(part_stages, "fit_batch", stops)
    monkeypatch.setattr(part_stages, "members_at_once", lambda *_: 1)
    results = staged_results(jobs_of(tmp_path / "parts", tmp_path / "out", 2, "--reconstructionRes", "0"))
    assert {name: result["status"] for name, result in results.items()} == {"box_0": "done", "box_1": "stopped"}


def light_jobs(tmp_path, *contents):
    """Prepared jobs of parts for light stages, which are named by their contents."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "out").mkdir()
    for content in contents:
        (tmp_path / f"parts/{content}.stl").write_text(content)
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 0)
    return [job | {"handed": run_stage(job | {"stage": "prepare"}, None, LightStages)["handed"]} for job in jobs]


def test_a_batch_whose_worker_was_asked_to_stop_is_stopped(tmp_path):
    """By this status the driver knows that somebody sent the worker SIGTERM, and replaces it."""
    batch = {"name": "", "input": "a batch", "stage": "train", "parts": light_jobs(tmp_path, "long", "good")}
    result = run_stage(batch, lambda: True, LightStages)
    assert result["status"] == "stopped"
    assert {one["status"] for one in result["results"].values()} == {"stopped"} and len(result["results"]) == 2


def test_a_part_whose_last_answer_was_lost_is_done(tmp_path):
    jobs = light_jobs(tmp_path, "good")
    batch = {"name": "", "input": "a batch", "stage": "train", "parts": jobs}
    trained = run_stage(batch, lambda: False, LightStages)["results"]["good"]
    job = jobs[0] | {"stage": "finish", "handed": trained["handed"]}
    first, again = (run_stage(job, None, LightStages) for _ in range(2))
    assert first["status"] == again["status"] == "done"
    assert first["record"]["input"] == again["record"]["input"] == job["input"]


def test_a_batch_whose_result_was_lost_is_trained_again(tmp_path):
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1, "--reconstructionRes", "0")
    assert staged_results(jobs, batches=2)["box_0"]["status"] == "done"


class AcceleratorError(RuntimeError):
    """As torch calls an error after which a process can use its GPU no more."""


@pytest.mark.parametrize(
    ("error", "fatal"), [(AcceleratorError("unspecified launch failure"), True), (RuntimeError("out of memory"), False)]
)
def test_a_part_that_a_gpu_fails_is_finished_on_the_cpu_and_says_so(tmp_path, monkeypatch, error, fatal):
    """The driver prints the note, and replaces a process that has lost its GPU."""
    finish = part_stages.finish

    def fails_there(shape, content, network, *more):
        if next(network.parameters()).device.type == "meta":
            raise error
        return finish(shape, content, network, *more)

    def lose():
        monkeypatch.setattr(part_stages, "_device_of_stage", lambda gpu, watch: "meta")
        monkeypatch.setattr(part_stages, "finish", fails_there)

    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1, "--reconstructionRes", "0")
    result = staged_results(jobs, before_finish=lose)["box_0"]
    assert result["status"] == "done" and result.get("fatal", False) == fatal
    for notes in (result["notes"], result["record"]["notes"]):
        assert sum(note.startswith("finished on the CPU, not on the GPU: ") for note in notes) == 1


def test_a_gpu_that_no_stage_can_use_is_named_once_in_the_record(tmp_path, monkeypatch):
    def choose(gpu, watch):
        watch.note("GPU 0 cannot be used (taken): computed on the CPU")
        return "cpu"

    monkeypatch.setattr(part_stages, "choose_device", choose)
    monkeypatch.setattr("neuralparts.part.may_label_on_gpu", lambda: True)
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1, "--reconstructionRes", "0")
    jobs[0]["flags"] |= {"gpu": None}
    assert [line[:5] for line in staged_results(jobs)["box_0"]["record"]["notes"]] == ["GPU 0"]


def test_a_process_that_loses_its_gpu_while_it_labels_is_to_be_replaced(tmp_path, monkeypatch):
    devices = iter(["cuda:0", "cpu"])
    monkeypatch.setattr(part_stages, "choose_device", lambda gpu, watch: next(devices))
    monkeypatch.setattr("neuralparts.part.may_label_on_gpu", lambda: True)
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1)
    jobs[0]["flags"] |= {"gpu": None}
    result = run_stage(jobs[0] | {"stage": "prepare"})
    assert result["status"] == "prepared" and result["fatal"]


def test_processes_that_train_beside_each_other_divide_the_memory(tmp_path, monkeypatch):
    divided = []
    monkeypatch.setattr(part_stages, "members_at_once", lambda *sizes: divided.append(sizes[-1]) or 1)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1, "--reconstructionRes", "0")
    prepared = [job | {"handed": run_stage(job | {"stage": "prepare"})["handed"]} for job in jobs]
    batch = {"name": "", "input": "a batch", "stage": "train", "parts": prepared}
    for processes in (3, 1000):  # those of a cluster are on other machines too
        assert run_stage(batch | {"processes": processes})["status"] == "trained"
    assert divided == [3, 8]


def test_an_input_that_changes_between_the_stages_fails(tmp_path):
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1, "--reconstructionRes", "0")
    change = trimesh.creation.box((1, 2, 3)).export
    results = staged_results(jobs, between=lambda: change(jobs[0]["input"]))
    assert "box_0.stl: the file was changed while it was fitted" in results["box_0"]["reason"]


def test_a_checkpoint_is_resumed_in_a_batch_and_one_of_another_fit_begun_anew(tmp_path):
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 2, "--reconstructionRes", "0")
    steps = iter(range(10**6))
    stopped = staged_results(jobs, lambda: next(steps) > 30)
    assert {result["status"] for result in stopped.values()} == {"stopped"}
    checkpoints = [PartFiles(tmp_path / "out", job["name"]).checkpoint for job in jobs]
    assert checkpoints[0].is_file()
    checkpoints[1].write_bytes(checkpoints[0].read_bytes())
    results = staged_results(jobs)
    records = [results[job["name"]]["record"] for job in jobs]
    assert [record["fit"]["resumed_at"] > 0 for record in records] == [True, False]
    assert [any("begun anew: " in note for note in record["notes"]) for record in records] == [False, True]
    assert [record["fit"]["members"] for record in records] == [2, 2]
    assert [record["flags"]["resume"] for record in records] == [1, 1] and not any(map(Path.is_file, checkpoints))


def test_a_process_that_is_killed_while_it_puts_a_result_in_place_is_followed_by_one_that_ends_it(
    tmp_path, monkeypatch
):
    jobs = jobs_of(tmp_path / "parts", tmp_path / "out", 1, "--reconstructionRes", "0")
    with monkeypatch.context() as patch:
        patch.setattr("neuralparts.staged_job.settled", lambda record, staged: {"status": "killed"})
        killed = staged_results(jobs)
    assert killed["box_0"]["status"] == "killed"
    monkeypatch.setattr(part_stages, "finish_part", lambda *_: pytest.fail("the part was finished before"))
    job = jobs[0] | {"stage": "finish", "handed": {"flags": jobs[0]["flags"], "resume": 0}}
    assert run_stage(job)["status"] == "done" and (tmp_path / "out/box_0.json").is_file()
