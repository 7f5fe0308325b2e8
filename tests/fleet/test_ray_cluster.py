"""Ray: the same results as worker processes, parts that hang and crash, a raylet that dies."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from neuralparts.fleet import FleetError, Ray, SharedFolder
from neuralparts.fleet.ray_cluster import TaskMonitor, package_for_workers, work_on_ray
from tests.fleet.runs import (
    ROOT,
    STUB,
    a_folder,
    check_folder,
    command_of,
    descendants_of,
    finish,
    kill_something,
    run_here,
    start,
    summary,
    wait_for,
)


@pytest.mark.parametrize("transfer", ["paths", "bytes"])
def test_ray_leaves_the_same_files(tmp_path, transfer):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 5, bad=[1]), tmp_path / "out", tmp_path / "log"
    code, printed, err = finish(start("light", source, out, "--ray", "local", "--ray-transfer", transfer, log=log))
    assert code == 1 and "4 of 5 done" in printed, err
    check_folder(source, out, log, refused=["part_01"])
    code, printed, _ = finish(start("light", source, out, "--workers", 1, log=log))
    assert "4 of 5 done (4 of them before)" in printed
    check_folder(source, out, log, refused=["part_01"])


@pytest.mark.long
def test_ray_takes_parts_through_stages(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 5, bad=[1]), tmp_path / "out", tmp_path / "log"
    code, printed, err = finish(start("light", source, out, "--ray", "local", "--partsPerBatch", 2, log=log))
    assert code == 1 and "4 of 5 done" in printed, err
    check_folder(source, out, log, refused=["part_01"])


@pytest.fixture
def cluster(request, tmp_path, monkeypatch):
    """A cluster of three nodes on the loopback, each with 2 CPUs and so many GPUs, as far as Ray is concerned."""
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    from ray.cluster_utils import Cluster

    # The processes of the nodes get these: where they find the tests, and where they note what they fitted.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("FLEET_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    size = {"num_cpus": 2, "num_gpus": request.param, "object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        made.others = [made.add_node(**size) for _ in range(2)]
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


@pytest.mark.long
@pytest.mark.parametrize(
    ("cluster", "flags"),
    [
        (0, ["--rayTransfer", "paths"]),
        (0, ["--rayTransfer", "bytes"]),
        (1, ["--partsPerBatch", 0]),
        (0, ["--partsPerBatch", 4]),
    ],
    ids=["paths", "bytes", "stages and GPUs", "stages"],
    indirect=["cluster"],
)
def test_a_node_of_three_that_dies_costs_no_part(tmp_path, cluster, flags):
    source, out, log = a_folder(tmp_path / "parts", 40), tmp_path / "out", tmp_path / "log"
    driver = start("light", source, out, "--ray", cluster.address, *flags)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 4, "some parts")
    cluster.remove_node(cluster.others[0], allow_graceful=False)
    code, printed, err = finish(driver)
    assert code == 0 and "40 of 40 done" in printed, err
    check_folder(source, out)
    fits = Counter(line.split()[0] for line in log.read_text().splitlines())
    # A result that was on its way from the node is lost with it, if it is not in a common folder: 2 parts at the most.
    assert len(fits) > 30 and sum(fits.values()) - len(fits) <= (2 if "bytes" in flags else 0), fits


@pytest.mark.long
def test_a_raylet_that_dies_is_started_again(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 60), tmp_path / "out", tmp_path / "log"
    driver = start("light", source, out, "--ray", "local", log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 4, "some parts")
    assert kill_something(driver, random.Random(0), ("raylet",)) == "raylet"
    code, printed, err = finish(driver)
    assert code == 0 and "60 of 60 done" in printed, err
    check_folder(source, out, log)


@pytest.mark.long
@pytest.mark.parametrize("transfer", ["paths", "bytes"])
def test_ray_survives_parts_that_hang_and_crash_and_stops_in_order(tmp_path, transfer):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    source, out, log = a_folder(tmp_path / "parts", 4), tmp_path / "out", tmp_path / "log"
    for name in ("hang", "oom", "segfault"):
        (source / f"{name}.stl").write_bytes(b"x")
    flags = ["--ray", "local", "--ray-transfer", transfer]
    code, printed, err = finish(start("light", source, out, *flags, "--partTimeout", 5, log=log))
    assert code == 1 and "5 of 7 done" in printed, err
    failed = printed.splitlines()[-2:]
    assert "hang.stl: timed out after 5 s (--partTimeout)" in failed[0] and "segfault.stl: its worker" in failed[1]
    for name in ("hang", "oom", "segfault"):
        (source / f"{name}.stl").unlink()
    for k in range(10, 60):
        (source / f"part_{k}.stl").write_bytes(b"%04d" % k)
    driver = start("light", source, out, *flags, log=log)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 8, "some parts")
    driver.send_signal(signal.SIGTERM)
    code, printed, err = finish(driver)
    assert code == 128 + signal.SIGTERM and "stopped; the same command" in printed, err
    assert [row["name"] for row in summary(out)] == sorted(path.stem for path in out.glob("*.json"))
    assert finish(start("light", source, out, "--workers", 2, log=log))[0] == 0
    check_folder(source, out, log)


@pytest.mark.parametrize(
    ("seconds", "reason"), [(1.0, "its worker crashed"), (3.0, "timed out after 2 s (--partTimeout)")]
)
def test_the_timeout_of_a_part_on_ray_begins_with_its_task(seconds, reason):
    """The wait for a CPU does not count: a crash soon after it is no timeout."""
    monitor = TaskMonitor()
    monitor.begin(7)
    monitor.begun[7] -= seconds
    place = Ray("local", STUB, None, False, 2.0, 0, SharedFolder())
    place.monitor = SimpleNamespace(seconds_of=SimpleNamespace(remote=monitor.seconds_of))
    place.ray = SimpleNamespace(get=lambda answer, timeout: answer, exceptions=SimpleNamespace(RayError=RuntimeError))
    crash = type("WorkerCrashedError", (RuntimeError,), {})()
    assert reason in place._failure({"input": "a.stl"}, crash, 7)["reason"] and not monitor.begun


def test_after_a_raylets_death_no_task_of_its_session_is_waited_for(monkeypatch):
    """One task has a result by then, one is lost; both jobs come back, the lost one to be submitted again."""
    place, fresh = Ray("local", STUB, None, False, 0.0, 0, SharedFolder()), []
    jobs = {name: {"name": name, "input": name, "flags": {"outputDir": "out"}} for name in ("arrived", "lost", "new")}
    done = {"status": "done", "reason": ""}
    exceptions = SimpleNamespace(RayError=RuntimeError)
    place.ray = SimpleNamespace(
        wait=lambda tasks, num_returns, timeout: (["arrived"], ["lost"]),
        get=lambda task: done,
        shutdown=lambda: None,
        exceptions=exceptions,
    )

    def connect():
        place.connected, place.count, place.monitor = True, 2, None
        place.task = SimpleNamespace(remote=lambda *words: fresh.append(words) or "new")

    monkeypatch.setattr(place, "connect", connect)
    place.tasks = {"arrived": (jobs["arrived"], 1), "lost": (jobs["lost"], 2)}
    place.submit(jobs["new"])
    assert list(place.tasks) == ["new"] and len(fresh) == 1
    assert [(job["name"], result["status"]) for job, result in place.wait(0)] == [("arrived", "done"), ("lost", "busy")]


@pytest.mark.parametrize("stage", ["train", "finish"])
def test_a_process_that_has_lost_its_gpu_trains_no_further_batch(monkeypatch, stage):
    """Ray keeps the processes that train, and no others."""
    ended, remote = [], SimpleNamespace(remote=lambda number: None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setattr(os, "_exit", ended.append)
    job = {"name": "fatal", "input": "fatal.stl", "stage": stage}
    result = work_on_ray(STUB, job, SimpleNamespace(begin=remote, end=remote), 0.0, 1)
    assert result["fatal"] and ended == [1] * (stage == "train")


@pytest.mark.long
def test_more_memory_than_any_node_has_is_an_error():
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    with pytest.raises(FleetError, match=r"no node of the cluster has the .* of --workerMemory"):
        Ray("local", STUB, None, False, 0.0, 2**50, SharedFolder()).connect()


def test_without_ray_installed_there_is_one_line(tmp_path, capsys, monkeypatch):
    source = a_folder(tmp_path / "parts", 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run_here(capsys, source, "--outputDir", tmp_path / "out", "--ray", "local")
    assert code == 1 and err.splitlines() == [
        "trainer.py: --ray needs Ray: pip install -r requirements-cluster.txt, or the extra neuralparts[cluster]"
    ]


def test_the_whole_package_travels_to_a_cluster_and_nothing_else():
    package = package_for_workers()
    assert [Path(folder).name for folder in package["py_modules"]] == ["neuralparts"] and "working_dir" not in package


def test_local_ray_listens_to_this_machine_alone():
    """Every listening TCP socket of Ray's processes has a loopback address."""
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    program = f"""
import time
from neuralparts.fleet import Ray, SharedFolder
place = Ray("local", {STUB!r}, None, False, 0.0, 0, SharedFolder())
place.connect()
print("connected", flush=True)
time.sleep(600)
"""
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout.readline() == "connected\n"
        wait_for(lambda: any("ray::" in command_of(pid) for pid in descendants_of(driver.pid)), "Ray's workers")
        inodes = {inode for pid in [driver.pid, *descendants_of(driver.pid)] for inode in sockets_of(pid)}
        addresses = [address for address, inode in listening() if inode in inodes]
        # 127.0.0.1 in IPv4, and mapped into IPv6, in the kernel's byte order
        assert addresses and {address.removeprefix("0000000000000000FFFF0000") for address in addresses} == {"0100007F"}
    finally:
        driver.kill()
        driver.communicate()


def sockets_of(pid):
    """Inode numbers of the sockets that a process has open."""
    found = []
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            target = os.readlink(path)
            found += [target[8:-1]] if target.startswith("socket:[") else []
    return found


def listening():
    """(address in hexadecimal, inode) of every listening TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                yield words[1].partition(":")[0], words[9]
