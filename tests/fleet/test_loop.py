"""The loop, at every place to run."""

import pytest

from neuralparts.fleet import FleetError, Here, Processes, run
from tests.fleet.runs import STUB, run_stubs


@pytest.mark.parametrize("place", ["here", "processes"])
def test_every_place_gives_the_same_results(place):
    place = Here(STUB) if place == "here" else Processes(STUB, 2)
    results = run_stubs(["good_1", "refused_2", "raises_3", "exhausted_4", "good_5"], place)
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == {
        "good_1": "done",
        "refused_2": "refused",
        "raises_3": "failed",
        "exhausted_4": "done",
        "good_5": "done",
    }
    assert results["raises_3"]["reason"].startswith("/parts/raises_3.stl: KeyError: 'no such key' (fleet_stubs.py:")


def test_a_part_that_another_run_has_is_submitted_again(tmp_path):
    results, released = {}, tmp_path / "released"
    jobs = [{"name": name, "input": str(released)} for name in ("busy_1", "good_2")]

    def tick(running, waiting):
        if waiting and "good_2" in results:
            released.touch()

    place = Processes(STUB, 1)
    run(jobs, place, lambda job, result: results.update({job["name"]: result["status"]}), tick, busy_seconds=0.05)
    place.close()
    assert list(results) == ["good_2", "busy_1"] and results["busy_1"] == "done"


def test_a_stop_is_passed_on_and_nothing_new_is_begun(tmp_path):
    marks = [tmp_path / name for name in "abc"]
    jobs = [{"name": "waits", "input": str(mark)} for mark in marks]
    place, results = Processes(STUB, 2), []
    run(jobs, place, lambda *pair: results.append(pair), should_stop=lambda: marks[0].exists() and marks[1].exists())
    place.close()
    assert results == [] and not marks[2].exists() and place.running == 0


def test_a_fatal_error_ends_a_run_in_this_process():
    with pytest.raises(FleetError, match="the same command resumes"):
        run_stubs(["fatal", "good_1"], Here(STUB))
