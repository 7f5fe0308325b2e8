"""What a person sees while a command works: recorded on a terminal of 80 columns, and in a log file."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import trimesh

from tests.fleet.runs import a_folder, command
from tests.terminal import record

ROOT = Path(__file__).resolve().parents[2]
TRAINER = [sys.executable, ROOT / "trainer.py"]
SHORT = ["--num_points", 4000, "--epochs", 1, "--batchSize", 128, "--numLayers", 3, "--reconstructionRes", 32]
# A stage that reports nothing for some beats, another that reports, and a message in between.
STAGES = """
import sys, time
from neuralparts import stage_bar, wording
stage_bar.BEAT_SECONDS, stage_bar.LOG_SECONDS = 0.05, 0.4
with stage_bar.stage_bar("load"):
    wording.say("word " * 30)
    time.sleep(1.5)
with stage_bar.stage_bar("fit") as show:
    for k in range(1, 5):
        show(k / 4, 0.5 / k)
        time.sleep(0.2)
"""
# Seconds without a sign of life: at most so many on a terminal, and in a log file.
TERMINAL_SECONDS, LOG_SECONDS = 2.0, 30.0


def test_a_stage_that_reports_nothing_shows_its_seconds_on_a_terminal():
    seen = record([sys.executable, "-c", STAGES], cwd=ROOT)
    lines = [line.strip() for _, line in seen.shown()]
    assert seen.code == 0 and not seen.too_wide()
    assert lines.count("load, 00:00") >= 1 and "load, 00:01" in lines
    assert any(re.search(r"\| fit 75%, 00:00, 00:0\d to go, loss 0.167$", line) for line in lines)
    words = [line for line in lines if "word" in line]  # folded between words, above the bar
    assert len(words) == 2 and " ".join(words).split() == ["word"] * 30


def test_a_log_file_gets_a_line_now_and_then():
    lines = record([sys.executable, "-c", STAGES], terminal=False, cwd=ROOT).text.splitlines()
    assert "word " * 30 in lines and not any("\r" in line for line in lines)
    stages = [line.partition(" ")[2] for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(stages) == len(lines) - 1 and "load, 00:01" in stages
    assert any(re.fullmatch(r"fit \d+%, 00:00, 00:0\d to go, loss 0\.\d+", line) for line in stages)
    assert 4 <= len(stages) <= 10  # rarer than the beats


def test_a_fit_on_a_terminal(tmp_path):
    mesh = tmp_path / "box.stl"
    trimesh.creation.box((20, 16, 12)).export(mesh)
    seen = record([*TRAINER, "box.stl", *SHORT, "--outputDir", "out"], cwd=tmp_path)
    lines = [line.strip() for _, line in seen.shown()]
    assert seen.code == 0 and lines[0] == "reading box.stl"
    for stage in (
        "load the libraries",
        "load",
        "label",
        "prepare the network",
        "fit",
        "march",
        "evaluate",
        "write the report",
    ):
        assert any(re.match(rf"(.*\| )?{stage}( \d+%)?, 00:\d\d", line) for line in lines), stage
    assert (tmp_path / "out/box.json").exists()


def test_a_folder_on_a_terminal_and_in_a_log(tmp_path):
    source = a_folder(tmp_path / "parts", 3)
    for terminal in (True, False):
        words = command("light", "parts", tmp_path / "out", "--workers", 0, "--overwrite", 1)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        seen = record(words, terminal, cwd=tmp_path, env=environment)
        lines = [line for _, line in seen.shown()]
        assert seen.code == 0 and lines[0] == f"reading parts: {len(list(source.iterdir()))} inputs"
        assert any("3 of 3 done, 0 left" in line for line in lines)
        assert not terminal or any("00:00 1 of 3 done, 2 left" in line for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("case", ["instant", "high", "folder"])
def test_no_command_is_silent_for_long(tmp_path, case, terminal):
    """Whole presets. A machine that is very busy may fail it."""
    preset, flags = f"presets/{'instant' if case == 'folder' else case}.sh", ["--outputDir", "out"]
    source = ROOT / "data/impeller/impeller.stl"
    if case == "high":
        flags += ["--num_points", 100_000, "--epochs", 1]
    if case == "folder":
        (tmp_path / "parts").mkdir()
        for k in range(8):
            shutil.copy(source, tmp_path / f"parts/part_{k}.stl")
        source, flags = "parts", [*flags, "--num_points", 100_000, "--workers", 2]
    seen = record([ROOT / preset, source, *flags], terminal, cwd=tmp_path)
    gap, before = seen.longest_gap()
    print(f"{case}, {'terminal' if terminal else 'log'}: {gap:.2f} s after {before!r}; {seen.seconds:.1f} s")
    assert seen.code == 0 and gap <= (TERMINAL_SECONDS if terminal else LOG_SECONDS), before
    assert not (terminal and seen.too_wide()), seen.too_wide()
