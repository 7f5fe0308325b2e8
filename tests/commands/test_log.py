"""--logDir: what TensorBoard reads of a fit, and a log that cannot be written, which changes nothing else."""

import importlib.util
import json
from types import SimpleNamespace

import pytest

from neuralparts.steps import EventLog, open_log
from neuralparts.watch import Watch
from tests.commands.test_fit import a_box, files_of, run

pytest.importorskip("tensorboard", reason="tensorboard is not installed: requirements-log.txt")
LOSS, RATE, SURFACE, VALIDATION = "loss/training", "learning rate", "error/held-out surface", "error/validation grid"
FLAGS = ["--num_points", "4000", "--epochs", "2", "--batchSize", "64", "--reconstructionRes", "0", "--layerWidth", "8"]


def read(folder):
    """What TensorBoard reads of a folder: its scalars, {tag: [(step, value)]}, and the pictures of the section."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"scalars": 0, "images": 0}).Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return scalars, events.Images("section") if events.Tags()["images"] else []


def test_tensorboard_reads_curves_and_ten_sections_and_a_dead_log_ends_no_fit(tmp_path, capsys):
    source, logs = a_box(tmp_path), tmp_path / "logs/box"
    flags = [source, *FLAGS, "--validationRes", "6"]
    assert run(capsys, *flags, "--outputDir", tmp_path / "with", "--logDir", logs)[0] == 0
    code, _, err = run(capsys, *flags, "--outputDir", tmp_path / "without", "--logDir", source / "logs")  # not a folder
    assert code == 0 and err.count("nothing more is logged") == 1
    notes = json.loads((tmp_path / "without/box.json").read_text())["notes"]
    assert any("--logDir" in note for note in notes)
    first, second = (tmp_path / name / "box.safetensors" for name in ("with", "without"))
    assert first.read_bytes() == second.read_bytes()
    scalars, pictures = read(logs)
    assert scalars.keys() == {LOSS, RATE, SURFACE, VALIDATION}
    samples = json.loads((tmp_path / "with/box.json").read_text())["fit"]["samples"]
    assert scalars[LOSS][-1][0] == samples and len(scalars[LOSS]) == len(scalars[RATE]) >= 100
    assert [step for step, _ in scalars[VALIDATION]] == [samples // 2, samples]
    rates = [value for _, value in scalars[RATE]]
    assert rates == sorted(rates, reverse=True) and scalars[LOSS][-1][1] < scalars[LOSS][0][1]
    assert len(pictures) == 10 and all(p.encoded_image_string.startswith(b"\x89PNG") for p in pictures)
    assert pictures[0].step == pytest.approx(samples / 10, rel=0.06) and pictures[-1].step == samples
    # --logDir does not make the part another one.
    assert "done before" in run(capsys, *flags, "--outputDir", tmp_path / "with", "--logDir", tmp_path / "other")[2]


def test_a_resumed_fit_continues_the_log_and_a_new_one_replaces_it(tmp_path):
    def log(steps, resumed, offset):
        events = EventLog(tmp_path, lambda: b"", print, resumed)
        for step in steps:
            events.write({"samples": step, "loss": step + offset, "held_out": float("nan")}, step / 1000)

    log(range(100, 600, 100), False, 0)  # killed after 500; its checkpoint is of 300
    log(range(400, 1100, 100), True, 0.5)
    scalars, pictures = read(tmp_path)
    continued = [(step, step + (0 if step < 400 else 0.5)) for step in range(100, 1100, 100)]
    assert scalars == {LOSS: continued} and [picture.step for picture in pictures] == list(range(100, 1100, 100))
    log([150, 250, 50], False, 7)  # the last is a second attempt, after a collapse
    assert read(tmp_path)[0] == {LOSS: [(50, 57)]}


def test_each_part_of_a_folder_has_its_own_log(tmp_path):
    flags = SimpleNamespace(logDir=str(tmp_path / "logs"), resume=0)
    for in_folder, name in ((False, "alone"), (True, "one"), (True, "two")):
        log = open_log(flags, name, None, None, Watch(in_folder=in_folder))
        log.write({"samples": 8, "loss": 0.5}, 0.01)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir() if path.is_dir()) == ["one", "two"]
    assert read(tmp_path / "logs/two")[0] == {LOSS: [(8, 0.5)]}
    assert open_log(SimpleNamespace(logDir=""), "part", None, None, Watch()) is None


def test_without_the_package_it_is_one_line_before_the_fit(tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))
    words = [a_box(tmp_path), *FLAGS, "--outputDir", tmp_path / "out", "--logDir", tmp_path / "logs"]
    code, printed, err = run(capsys, *words)
    assert code == 1 and printed == "" and err.count("\n") == 1 and "requirements-log.txt" in err
    assert files_of(tmp_path / "out") == [] and not (tmp_path / "logs").exists()
