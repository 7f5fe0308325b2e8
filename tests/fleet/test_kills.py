"""Real processes killed for real: drivers, workers and raylets, by SIGKILL, Ctrl-C and SIGTERM."""

import importlib.util
import os
import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from neuralparts.output import verify_folder
from tests.fleet.runs import (
    PATIENCE,
    REAL,
    ROOT,
    WORKER_COMMAND,
    a_folder,
    check_folder,
    command,
    command_of,
    descendants_of,
    finish,
    is_alive,
    kill_something,
    real_folder,
    start,
    summary,
    wait_for,
)


def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path):
    source, out, log = a_folder(tmp_path / "parts", 24, bad=[5]), tmp_path / "out", tmp_path / "log"
    generator = random.Random(7)
    for _ in range(6):
        driver = start("light", source, out, "--workers", 2, log=log)
        time.sleep(generator.uniform(0.3, 1.0))
        kill_something(driver, generator, ("driver", "driver", "worker"))
        if generator.random() < 0.5:  # the next run begins while workers of this one may still write
            driver.kill()
        driver.communicate(timeout=PATIENCE)
    code, printed, _ = finish(start("light", source, out, "--workers", 2, log=log))
    assert code == 1 and "23 of 24 done" in printed
    check_folder(source, out, log, refused=["part_05"])


def test_kills_of_runs_with_overwrite_leave_the_earlier_or_the_new_result(tmp_path):
    source, out = a_folder(tmp_path / "parts", 6), tmp_path / "out"
    assert finish(start("light", source, out, "--workers", 1))[0] == 0
    generator = random.Random(3)
    for _ in range(5):
        driver = start("light", source, out, "--workers", 2, "--overwrite", 1)
        time.sleep(generator.uniform(0.5, 1.2))
        processes = descendants_of(driver.pid)
        kill_something(driver, generator, ("driver", "worker"))
        driver.kill()
        driver.communicate(timeout=PATIENCE)
        wait_for(lambda pids=processes: not any(is_alive(pid) for pid in pids), "the end of the workers")
        found = {name: faults for name, faults, _ in verify_folder(out)}
        assert len(found) == 6
        assert all(not faults or "killed while it replaced" in faults[0] for faults in found.values()), found
    assert finish(start("light", source, out, "--workers", 2))[0] == 0
    check_folder(source, out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_checkpoints_are_written_and_the_same_command_resumes(tmp_path, number):
    source, out, log = a_folder(tmp_path / "parts", 40), tmp_path / "out", tmp_path / "log"
    driver = start("light", source, out, "--workers", 2, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 4, "some parts")
    driver.send_signal(number)
    code, printed, err = finish(driver)
    assert code == 128 + number and "stopping: checkpoints" in err and "stopped; the same command resumes" in printed
    done = sorted(path.stem for path in out.glob("*.json"))
    assert [row["name"] for row in summary(out)] == done and len(done) < 40
    assert len(list(out.glob("*.checkpoint"))) <= 2 and not list(out.rglob(".*"))
    assert finish(start("light", source, out, "--workers", 2, log=log))[0] == 0
    check_folder(source, out, log)


def test_a_second_signal_ends_the_run_at_once(tmp_path):
    source, out = tmp_path / "parts", tmp_path / "out"
    source.mkdir()
    (source / "hang.stl").write_bytes(b"x")
    environment = os.environ | {"FLEET_LOG": str(tmp_path / "log")}
    driver = subprocess.Popen(
        command("light", source, out, "--workers", 1), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: [pid for pid in descendants_of(driver.pid) if WORKER_COMMAND in command_of(pid)], "the worker")
    time.sleep(0.5)
    workers = descendants_of(driver.pid)
    driver.send_signal(signal.SIGINT)
    assert "stopping: checkpoints" in driver.stderr.readline() + driver.stderr.readline() + driver.stderr.readline()
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=PATIENCE) == 130
    wait_for(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")
    assert summary(out) == []


@pytest.mark.long
def test_fifty_kills_of_drivers_workers_and_raylets_with_real_fits(tmp_path):
    """Worker processes and Ray, chosen by chance, over the same folder until 50 processes were killed."""
    source, log = real_folder(tmp_path / "parts", 8), tmp_path / "log"
    (source / "bad.stl").write_bytes(b"bad")
    generator, struck, rounds = random.Random(11), Counter(), 0
    places = {"processes": (["--workers", 2], ("driver", "worker"))}
    if importlib.util.find_spec("ray"):
        places["ray"] = (["--ray", "local"], ("driver", "worker", "raylet"))
    while sum(struck.values()) < 50:
        out = tmp_path / f"out{rounds}"
        rounds += 1
        log.write_text("")
        for _ in range(5):
            where, kinds = places[generator.choice(list(places))]
            driver = start("real", source, out, *where, *REAL, "--epochs", 2, "--checkpointSeconds", 0.05, log=log)
            for _ in range(2):
                time.sleep(generator.uniform(1.0, 10.0))
                kind = kill_something(driver, generator, kinds)
                struck.update([kind] if kind != "nothing" else [])
            driver.kill()
            driver.communicate(timeout=PATIENCE)
        code, printed, _ = finish(start("real", source, out, "--workers", 2, *REAL, "--epochs", 2, log=log))
        assert code == 1 and "8 of 9 done" in printed
        check_folder(source, out, log, refused=["bad"])
    print(f"struck: {dict(struck)}, in {rounds} folders")
    assert set(struck) >= {"driver", "worker"}
