"""Parts in three stages: what is trained at once, what waits, what is tried again. The places run nothing."""

from collections import Counter

import pytest

from neuralparts.commands import fit as commands_fit
from neuralparts.commands.fit import WORKERS, place_to_run
from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import Staged, run
from neuralparts.fleet import staged as staged_module
from neuralparts.output import BusyError, PartFiles


class Hands:
    """A place that ends every job at the next `wait`, as `answer(job)` says, and keeps the jobs it had."""

    def __init__(self, answer, count):
        self.answer, self.count, self.jobs, self.had, self.most = answer, count, [], [], 0
        self.stopped = False

    @property
    def running(self):
        return len(self.jobs)

    @property
    def room(self):
        return len(self.jobs) < self.count

    def submit(self, job):
        assert self.room
        self.jobs.append(job)
        self.had.append(job)

    def wait(self, seconds):
        jobs, self.jobs = self.jobs, []
        return [(job, self.answer(job)) for job in jobs]

    def stop(self):
        self.stopped = True

    def close(self):
        pass


def answer(job):
    """What the stages of a good part return; the kind of a part is the first letter of its name."""
    if job["stage"] == "train":
        results = {part["name"]: {"status": "trained", "reason": "", "handed": part["handed"]} for part in job["parts"]}
        return {"status": "trained", "reason": "", "results": results}
    if job["stage"] == "prepare":
        return {"status": "prepared", "reason": "", "handed": {"kind": job["name"][0], "timings": {"label": 1.5}}}
    return {"status": "done", "reason": "", "record": {}}


def flow(tmp_path, names, *, batch=4, workers=2, trainers=1, enough=None, answers=answer, should_stop=lambda _: False):
    """(results by name, place) of parts with these names."""
    place = Staged(Hands(answers, workers), Hands(answers, trainers), trainers, batch, enough)
    flags = {"outputDir": str(tmp_path), "outputFormat": "stl"}
    jobs, results = [{"name": name, "input": f"{name}.stl", "flags": flags} for name in names], {}

    def finished(job, result):
        assert job["name"] not in results and job in jobs
        results[job["name"]] = result

    def tick(running, waiting):
        prepared = sum(map(len, place.ready.values())) + len(place.preparing)
        assert prepared <= (2 if enough is None else 1) * batch * trainers

    run(jobs, place, finished, tick, lambda: should_stop(place), busy_seconds=0.01)
    assert not list(tmp_path.glob(".*")) and not place.parts  # no lock is left
    return results, place


def batches(place):
    """The names of the parts of each batch, joined."""
    return [" ".join(part["name"] for part in job["parts"]) for job in place.trainers.had]


def test_parts_are_trained_in_full_batches_of_one_kind_and_finished_once(tmp_path):
    names = [f"{kind}{k}" for k in range(6) for kind in "ab"]
    results, place = flow(tmp_path, names)
    assert {result["status"] for result in results.values()} == {"done"} and sorted(results) == sorted(names)
    assert all(len({name[0] for name in batch.split()}) == 1 for batch in batches(place))
    assert sorted(len(batch.split()) for batch in batches(place)) == [2, 2, 4, 4]
    stages = Counter((job["name"], job["stage"]) for job in place.processors.had)
    assert stages == {(name, stage): 1 for name in names for stage in ("prepare", "finish")}


@pytest.mark.parametrize(
    ("workers", "trainers", "enough", "sizes"),
    [(4, 1, 4, [4, 4, 4]), (4, 1, None, [8, 4]), (12, 2, 4, [6, 6]), (12, 1, 4, [8, 4]), (12, 3, None, [8, 4])],
)
def test_a_trainer_begins_with_enough_parts_and_idle_ones_divide_them(tmp_path, workers, trainers, enough, sizes):
    """Twelve parts, of which `workers` are prepared at a time, in batches of at most eight."""
    names = [f"a{k:02}" for k in range(12)]
    results, place = flow(tmp_path, names, batch=8, workers=workers, trainers=trainers, enough=enough)
    assert {result["status"] for result in results.values()} == {"done"}
    assert [len(batch.split()) for batch in batches(place)] == sizes
    assert {job["processes"] for job in place.trainers.had} == {trainers}


def test_more_kinds_than_a_batch_has_parts_do_not_wait_for_each_other(tmp_path):
    results, place = flow(tmp_path, [chr(97 + k) for k in range(20)])
    assert len(results) == 20 and len(batches(place)) == 20


def test_a_trainer_does_not_idle_while_parts_wait(tmp_path, monkeypatch):
    """One part is being prepared for ever: after some seconds without another, those that are ready are trained."""
    monkeypatch.setattr(staged_module, "PATIENCE_SECONDS", 0.0)
    place = Staged(Hands(answer, 2), Hands(answer, 1), 1, 4)
    flags = {"outputDir": str(tmp_path), "outputFormat": "stl"}
    for name in ("a1", "a2"):
        place.submit({"name": name, "input": name, "flags": flags})
    slow = place.processors.jobs.pop()
    assert place.wait(0.0) == [] and place.trainers.had == []
    place.wait(0.0)
    assert batches(place) == ["a1"] and slow["name"] == "a2"


def test_a_batch_that_dies_is_halved_until_one_part_alone_is_to_blame(tmp_path):
    def dies(job):
        if job["stage"] == "train" and any(part["name"] == "a5" for part in job["parts"]):
            return {"status": "failed", "reason": f"{job['input']}: its worker crashed (SIGSEGV)", "again": True}
        return answer(job)

    results, place = flow(tmp_path, [f"a{k}" for k in range(8)], batch=8, answers=dies)
    assert [name for name, result in results.items() if result["status"] != "done"] == ["a5"]
    assert results["a5"]["reason"] == "a5.stl: its worker crashed (SIGSEGV)"
    assert batches(place)[0].count("a") == 8 and batches(place).count("a5") == 1 and len(batches(place)) == 7


def test_one_part_alone_is_trained_once_more(tmp_path):
    def dies_once(job):
        if job["stage"] == "train" and job["parts"][0]["attempt"] == 1:
            return {"status": "failed", "reason": f"{job['input']}: killed", "again": True}
        return answer(job)

    results, place = flow(tmp_path, ["a1"], answers=dies_once)
    assert results["a1"]["status"] == "done" and batches(place) == ["a1", "a1"]


@pytest.mark.parametrize("stage", ["prepare", "finish"])
@pytest.mark.parametrize(("failures", "status"), [(1, "done"), (2, "failed")])
def test_a_stage_is_tried_twice(tmp_path, stage, failures, status):
    def fails(job):
        if job["stage"] == stage and job["attempt"] <= failures:
            return {"status": "failed", "reason": "killed", "again": True}
        return answer(job)

    results, place = flow(tmp_path, ["a1", "a2"], answers=fails)
    assert [results[name]["status"] for name in ("a1", "a2")] == [status, status]
    assert len(batches(place)) == (status == "done" or stage == "finish")


def test_a_part_that_fails_in_a_batch_fails_alone(tmp_path):
    def collapses(job):
        result = answer(job)
        if job["stage"] == "train":
            result["results"]["a2"] = {"status": "failed", "reason": "a2.stl: the network is constant"}
        return result

    results, place = flow(tmp_path, ["a1", "a2", "a3"], answers=collapses)
    assert {name: result["status"] for name, result in results.items()} == {"a1": "done", "a2": "failed", "a3": "done"}
    assert batches(place) == ["a1 a2 a3"]


def test_after_a_stop_trained_parts_are_finished_and_the_others_stop(tmp_path):
    def should_stop(place):
        return bool(place.trainers.had)

    results, place = flow(tmp_path, [f"a{k}" for k in range(20)], should_stop=should_stop)
    assert len(batches(place)) == 1 and sorted(results) == sorted(batches(place)[0].split())
    assert place.processors.stopped and place.trainers.stopped


def test_the_seconds_of_the_first_stage_count_for_the_last(tmp_path):
    _, place = flow(tmp_path, ["a1"])
    assert [job["spent"] for job in place.processors.had] == [0, 1.5]


def test_a_part_that_another_run_has_is_submitted_again(tmp_path):
    with PartFiles(tmp_path, "a1").lock():
        place = Staged(Hands(answer, 2), Hands(answer, 1), 1, 4)
        place.submit({"name": "a1", "input": "a1", "flags": {"outputDir": str(tmp_path), "outputFormat": "stl"}})
        ((_, result),) = place.wait(0.0)
    assert result["status"] == "busy" and not place.parts


def test_parts_that_cannot_be_locked_leave_no_room_for_ever_more(tmp_path, monkeypatch):
    monkeypatch.setattr(staged_module, "MOST_PARTS", 3)
    place = Staged(Hands(answer, 2), Hands(answer, 1), 1, 4)
    flags = {"outputDir": str(tmp_path / "gone"), "outputFormat": "stl"}
    for k in range(3):
        assert place.room
        place.submit({"name": f"a{k}", "input": f"a{k}", "flags": flags})
    assert not place.room
    assert [result["status"] for _, result in place.wait(0.0)] == ["failed"] * 3 and place.room


def test_a_batch_that_was_stopped_has_a_result_for_each_part(tmp_path):
    """One that failed before is not called stopped."""
    bad = {"status": "failed", "reason": "a2.stl: the network is constant"}

    def stops(job):
        stopped = {"status": "stopped", "reason": ""}
        return stopped | {"results": {"a1": stopped, "a2": bad}} if job["stage"] == "train" else answer(job)

    place = Staged(Hands(stops, 2), Hands(stops, 1), 1, 4)
    flags = {"outputDir": str(tmp_path), "outputFormat": "stl"}
    for name in ("a1", "a2"):
        place.submit({"name": name, "input": f"{name}.stl", "flags": flags})
    ended = [pair for _ in range(3) for pair in place.wait(0.0)]
    assert {job["name"]: result["status"] for job, result in ended} == {"a1": "stopped", "a2": "failed"}


def test_a_named_gpu_is_one_of_those_that_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-x")
    monkeypatch.setattr(commands_fit, "gpu_memory", lambda: 2**37)
    place = commands_fit.place_to_run(parse_fit_flags(["parts", "--gpu", "1"]), 8, lambda: False, WORKERS)
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment, _ in place.processors.settings} == {"GPU-x"}


def test_while_a_stage_of_a_killed_run_goes_on_nobody_gets_the_part(tmp_path):
    files = PartFiles(tmp_path, "part")
    with files.stage(), pytest.raises(BusyError, match="part"), files.lock():
        pass
    with files.lock(), files.stage():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("gpus", "free", "batch"), [("0", 2**40, 64), ("0", 2**32, 26), ("0,1", 2**32, 13), ("0", 0, 64)]
)
def test_the_samples_of_a_gpus_batch_fit_into_the_memory_of_the_machine(monkeypatch, gpus, free, batch):
    """80 MB a part, in half of what is free; 0 is unknown."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(commands_fit, "usable_memory", lambda: free)
    parsed = parse_fit_flags(["parts", "--workers", "2", "--num_points", "5000000"])
    assert place_to_run(parsed, 8, lambda: False, WORKERS).batch == batch


@pytest.mark.parametrize(
    ("gpus", "flags", "parts", "batch"),
    [
        ("", [], 8, 4),
        ("", [], 4, 2),
        ("", [], 3, 0),
        ("", ["--timeBudget", "5"], 8, 0),
        ("", ["--damArch", "1"], 8, 0),
        ("", ["--encoding", "hashgrid"], 8, 0),
        ("", ["--partsPerBatch", "1"], 8, 0),
        ("", ["--damArch", "1", "--partsPerBatch", "3"], 8, 3),
        ("0,1", [], 8, 64),
        ("0,1", ["--damArch", "1", "--partsPerBatch", "1"], 8, 1),
        ("0,1", ["--gpu", "-1", "--damArch", "1"], 8, 0),
    ],
)
def test_parts_are_trained_at_once_where_it_pays(monkeypatch, gpus, flags, parts, batch):
    """batch: parts at once, 0 if each is fitted whole by a worker."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    parsed = parse_fit_flags(["parts", "--workers", "2", *flags])
    place = place_to_run(parsed, parts, lambda: False, WORKERS)
    assert getattr(place, "batch", 0) == batch
    if gpus and batch:
        assert place.trainer_count == 2 and place.trainers is not place.processors
        seen = [environment["CUDA_VISIBLE_DEVICES"] for environment, _ in place.trainers.settings]
        assert seen == ["0", "1"] and {e["CUDA_VISIBLE_DEVICES"] for e, _ in place.processors.settings} == {""}
