"""Folder runs in three stages with real processes: equal results, kills, hangs and memory faults of every stage."""

import random
import signal
import time
from collections import Counter

import pytest

from tests.fleet.runs import (
    PATIENCE,
    a_folder,
    check_folder,
    finish,
    kill_something,
    start,
    summary,
    wait_for,
)

# Flags for which workers train batches of parts themselves; and a variable with which one more process does.
BATCHES = ["--workers", 2, "--partsPerBatch", 4]
PLACES = pytest.mark.parametrize(
    "trainer", [pytest.param(False, id="workers train", marks=pytest.mark.long), pytest.param(True, id="a trainer")]
)


@pytest.fixture
def batch_log(tmp_path, monkeypatch):
    """A function that returns the batches so far: each a list of its process and its parts."""
    log = tmp_path / "batches"
    monkeypatch.setenv("BATCH_LOG", str(log))
    return lambda: [line.split() for line in log.read_text().splitlines()]


@pytest.fixture
def gpu(monkeypatch):
    """A function after which the program takes this machine for one with a GPU; light fits do not use it."""
    return lambda: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@PLACES
def test_every_part_is_there_once_and_finished_parts_are_skipped(tmp_path, batch_log, gpu, trainer):
    source, out, log = a_folder(tmp_path / "parts", 10, bad=[1]), tmp_path / "out", tmp_path / "log"
    (source / "part_03.stl").write_bytes(b"of another size")
    if trainer:
        gpu()
    code, printed, _ = finish(start("light", source, out, *BATCHES, log=log))
    assert code == 1 and "9 of 10 done" in printed
    check_folder(source, out, log, refused=["part_01"])
    trained = batch_log()
    assert sorted(name for batch in trained for name in batch[1:]) == [f"part_{k:02d}" for k in range(10) if k != 1]
    assert max(map(len, trained)) == 5 and [batch[1:] for batch in trained if "part_03" in batch] == [["part_03"]]
    assert not trainer or len({batch[0] for batch in trained}) == 1
    code, printed, _ = finish(start("light", source, out, *BATCHES, log=log))
    assert "9 of 10 done (9 of them before)" in printed and batch_log() == trained


REASONS = {"segfault": "SIGSEGV", "gluttonous": "--workerMemory", "hang": "timed out after 1.5 s (--partTimeout)"}
STAGES = ("prepare", "train", "finish")
SOME_FAULTS = ["prepare-segfault", "train-hang", "finish-gluttonous", "train-oom", "train-terminated"]
ALL_FAULTS = [f"{stage}-{action}" for stage in STAGES for action in (*REASONS, "oom")]


@pytest.mark.parametrize("faults", [SOME_FAULTS, pytest.param(ALL_FAULTS, id="all", marks=pytest.mark.long)])
def test_faults_in_every_stage_cost_their_part_alone(tmp_path, gpu, faults):
    """A process that was killed or terminated once leaves a part that is fitted at the second attempt."""
    source, out, log = a_folder(tmp_path / "parts", 3), tmp_path / "out", tmp_path / "log"
    bad = sorted(name for name in faults if name.partition("-")[2] in REASONS)
    for name in faults:
        (source / f"{name}.stl").write_bytes(b"0000")
    gpu()
    limits = ["--partTimeout", 1.5, "--workerMemory", "128M"]
    code, printed, _ = finish(start("light", source, out, *BATCHES, *limits, log=log))
    assert code == 1 and f"{3 + len(faults) - len(bad)} of {3 + len(faults)} done" in printed
    for line, name in zip(printed.splitlines()[-len(bad) :], bad, strict=True):
        assert line.startswith(f"failed: {source / name}.stl: ") and REASONS[name.partition("-")[2]] in line
    assert not list(out.glob(".*"))
    for name in bad:
        (source / f"{name}.stl").unlink()
    assert finish(start("light", source, out, *BATCHES, log=log))[0] == 0
    check_folder(source, out, log)


def test_a_fit_that_fails_and_a_batch_that_fails_cost_the_part_that_is_to_blame(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 2), tmp_path / "out", tmp_path / "log"
    for name in ("collapse", "fault", "poison"):
        (source / f"{name}.stl").write_bytes(name.encode())
    for k in range(2, 6):  # of the size of the poison
        (source / f"part_{k:02d}.stl").write_bytes(b"%06d" % k)
    code, printed, _ = finish(start("light", source, out, *BATCHES, log=log))
    assert code == 1 and "6 of 9 done" in printed
    last = printed.splitlines()[-3:]
    assert last[0] == f"failed: {source / 'collapse.stl'}: the network is constant"
    assert f"the traceback is in {out / 'fault.log'}" in last[1] and "KeyError" in last[1]
    assert "a kernel failed" in last[2] and "RuntimeError: a kernel failed" in (out / "poison.log").read_text()


@PLACES
def test_after_a_signal_checkpoints_are_written_and_the_same_command_resumes(tmp_path, gpu, trainer):
    source, out, log = a_folder(tmp_path / "parts", 24), tmp_path / "out", tmp_path / "log"
    if trainer:
        gpu()
    driver = start("light", source, out, *BATCHES, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 4, "some parts")
    driver.send_signal(signal.SIGINT)
    code, printed, err = finish(driver)
    assert code == 130 and "stopping: checkpoints" in err and "stopped; the same command resumes" in printed
    done = sorted(path.stem for path in out.glob("*.json"))
    assert [row["name"] for row in summary(out)] == done and 4 <= len(done) < 24
    assert len(list(out.glob("*.checkpoint"))) <= 8 and not list(out.rglob(".*"))
    assert finish(start("light", source, out, *BATCHES, log=log))[0] == 0
    check_folder(source, out, log)


@PLACES
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path, gpu, trainer):
    source, out, log = a_folder(tmp_path / "parts", 24, bad=[5]), tmp_path / "out", tmp_path / "log"
    if trainer:
        gpu()
    generator = random.Random(7 + trainer)
    for _ in range(3):
        driver = start("light", source, out, *BATCHES, log=log)
        time.sleep(generator.uniform(0.4, 1.2))
        kill_something(driver, generator, ("driver", "worker", "worker"))
        if generator.random() < 0.5:  # the next run begins while workers of this one may still write
            driver.kill()
        driver.communicate(timeout=PATIENCE)
    code, printed, _ = finish(start("light", source, out, *BATCHES, log=log))
    assert code == 1 and "23 of 24 done" in printed
    check_folder(source, out, log, refused=["part_05"])


@pytest.mark.long
def test_two_runs_at_once_divide_a_folder(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 12, bad=[3]), tmp_path / "out", tmp_path / "log"
    flags = ["--workers", 1, "--partsPerBatch", 2]
    outcomes = [finish(run) for run in [start("light", source, out, *flags, log=log) for _ in range(2)]]
    assert all(code == 1 and "11 of 12 done" in printed for code, printed, _ in outcomes)
    check_folder(source, out, log, refused=["part_03"])
    assert len(Counter(line.split()[1] for line in log.read_text().splitlines())) == 2
