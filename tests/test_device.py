"""The device of a command: which one, and that its matrix products are exact whatever the environment says."""

import os
import subprocess
import sys

import pytest
import torch
import trimesh

import marching
import metrics
import network
from neuralparts.device import choose_device
from neuralparts.errors import UserError
from neuralparts.part import gpu_for_labels
from neuralparts.watch import Watch
from tests.network.cases import a_model


@pytest.fixture
def one_gpu(monkeypatch):
    """A GPU that torch can use, by name alone: its tensors lie on the CPU."""
    original = torch.zeros
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some Card")
    monkeypatch.setattr(torch, "zeros", lambda *sizes, **_: original(*sizes))


def products() -> set[str]:
    """How torch multiplies float32 matrices on a GPU, and on a CPU."""
    return {torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision}


def allow_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def prefer_tf32() -> None:
    torch.set_float32_matmul_precision("high")


def allow_tf32_by_the_newer_flag() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize("coarsen", [allow_tf32, prefer_tf32, allow_tf32_by_the_newer_flag])
def test_no_flag_of_torch_makes_products_coarse(coarsen):
    coarsen()
    assert choose_device(-1, Watch()) == "cpu" and products() == {"ieee"}


def test_no_variable_of_torch_makes_products_coarse():
    program = (
        "import torch; from neuralparts.device import choose_device; from neuralparts.watch import Watch\n"
        "read = torch.get_float32_matmul_precision; before = read(); choose_device(-1, Watch()); print(before, read())"
    )
    environment = os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["high", "highest"], done.stderr


@pytest.mark.parametrize("value, lines", [("1", 1), ("0", 0), ("", 0)])
def test_a_variable_that_torch_cannot_overrule_is_named(one_gpu, monkeypatch, capsys, value, lines):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    watch = Watch()
    assert choose_device(None, watch) == "cuda:0"
    assert len(watch.notes) == lines and all("NVIDIA_TF32_OVERRIDE" in line for line in watch.notes)
    assert "computing on Some Card" in capsys.readouterr().err
    assert choose_device(-1, watch) == "cpu" and len(watch.notes) == lines


def test_a_missing_gpu_is_refused(one_gpu):
    with pytest.raises(UserError, match="--gpu 1: this machine has 1 GPU; -1 is the CPU"):
        choose_device(1, Watch())


@pytest.mark.parametrize(
    "gpu, device, may_label, number",
    [
        (None, "cuda:0", True, 0),
        (1, "cuda:1", True, 1),
        (None, "cpu", True, -1),
        (-1, "", True, -1),
        (0, "", False, -1),
    ],
)
def test_the_device_of_the_fit_computes_the_labels_too(monkeypatch, gpu, device, may_label, number):
    """device: '' where it must not be asked, as that waits for torch."""
    monkeypatch.setattr("neuralparts.part.may_label_on_gpu", lambda: may_label)
    assert gpu_for_labels(gpu, lambda: device or pytest.fail("asked")) == number


@pytest.mark.parametrize(
    "main, words",
    [(marching.main, []), (metrics.main, ["box.ply"]), (network.main, ["--points", "points.txt"])],
    ids=["marching", "metrics", "network"],
)
def test_a_command_computes_on_the_chosen_device(tmp_path, monkeypatch, main, words):
    """The meta device has shapes alone: that a command asks it for values shows that it computes there."""
    monkeypatch.chdir(tmp_path)
    a_model().save("part.safetensors")
    trimesh.creation.box((1, 1, 1)).export("box.ply")
    (tmp_path / "points.txt").write_text("1 2 3\n" * 100)
    monkeypatch.setattr("neuralparts.device.choose_device", lambda gpu, _: "meta" if gpu == 0 else "cpu")
    with pytest.raises(NotImplementedError, match="meta"):
        main(["part.safetensors", *words, "--gpu", "0"])
