"""CPUs, memory and GPUs that this process may use."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from neuralparts import machine

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("version", [1, 2])
def test_memory_limits_of_the_control_groups_around_a_process_count(tmp_path, monkeypatch, version):
    inner = tmp_path / ("job/step" if version == 2 else "memory/job/step")
    inner.mkdir(parents=True)
    lines = {1: "4:memory:/job/step\n", 2: "0::/job/step\n"}
    (tmp_path / "own").write_text(lines[version])
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    free = machine.usable_memory()
    limit, taken, kept = machine.MEMORY_FILES[version]
    (inner / limit).write_text("max\n" if version == 2 else "9223372036854771712\n")
    assert machine.usable_memory() == pytest.approx(free, rel=0.2)
    (inner.parent / limit).write_text(f"{64 * 2**20}\n")
    (inner.parent / taken).write_text(f"{48 * 2**20}\n")
    (inner.parent / "memory.stat").write_text(f"anon 5\n{kept} {40 * 2**20}\n")
    assert machine.usable_memory() == 56 * 2**20


@pytest.mark.parametrize("version", [1, 2])
def test_a_cpu_quota_limits_the_usable_cpus(tmp_path, monkeypatch, version):
    (tmp_path / "own").write_text({1: "3:cpu,cpuacct:/job\n", 2: "0::/job\n"}[version])
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    everything = machine.usable_processors()
    folder = tmp_path / ("job" if version == 2 else "cpu,cpuacct/job")
    folder.mkdir(parents=True)
    quotas = (
        {"cpu.max": "120000 100000"} if version == 2 else {"cpu.cfs_quota_us": "120000", "cpu.cfs_period_us": "100000"}
    )
    for name, words in quotas.items():
        (folder / name).write_text(words)
    assert machine.usable_processors() == everything[:1]


def test_only_gpus_that_torch_can_use_count(tmp_path, monkeypatch):
    """A driver that lists a GPU, and a torch that cannot use it."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Some Card'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(machine.usable_gpus()) == torch.cuda.device_count()


@pytest.mark.parametrize("wanted, threads", [("1", 1), ("", None), ("100000", None), ("many", None)])
def test_threads_follow_the_environment(monkeypatch, wanted, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processors = machine.thread_count()
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert machine.thread_count() == (threads or processors)


def test_the_seconds_of_a_process_include_its_start():
    """A process that sleeps before it imports anything counts that time too."""
    program = "import time; time.sleep(0.5); from neuralparts.machine import process_seconds; print(process_seconds())"
    before = time.monotonic()
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True).stdout
    assert (0.5 if Path("/proc/self/stat").exists() else 0.0) <= float(said) <= time.monotonic() - before + 0.02


def test_a_process_may_open_as_many_files_as_the_system_allows():
    program = """
import resource
from neuralparts.machine import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))
for count in (100, 4096, 80):
    allow_open_files(count)
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    pytest.importorskip("resource", reason="Windows has no limit of open files")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100", "200", "200", "200", "200", "200"]
