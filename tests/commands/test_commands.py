"""How the commands end: exit codes, and one line where somebody stopped them or memory ran out."""

import atexit
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuralparts import commands as command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def the_process_of_the_tests_goes_on(monkeypatch):
    """A command ends its process by a function of atexit; here that would be the process of the tests."""
    monkeypatch.setattr(atexit, "register", lambda function: function)


def ending(error):
    """The exit code of a command whose main function raises an error."""

    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        command.run(main)
    return ended.value.code


def test_exit_codes_are_handed_on():
    for code in (0, 1, 2):
        with pytest.raises(SystemExit) as ended:
            command.run(lambda code=code: code)
        assert ended.value.code == code


def test_ctrl_c_is_a_line_and_130(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["somewhere/marching.py"])
    assert ending(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "\nmarching.py: stopped\n"


def test_memory_that_ran_out_in_torch_is_a_line_and_1(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["metrics.py"])
    assert ending(RuntimeError("DefaultCPUAllocator: can't allocate memory\nframe #0")) == 1
    assert capsys.readouterr().err == "metrics.py: out of memory: DefaultCPUAllocator: can't allocate memory\n"


def test_a_package_that_is_missing_is_a_line_that_names_the_environment(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["trainer.py"])
    assert ending(ModuleNotFoundError("No module named 'filelock'", name="filelock")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "filelock" in lines[0] and "make setup" in lines[0]


@pytest.mark.parametrize(
    "fault", [RuntimeError("shapes do not fit"), ModuleNotFoundError("No module", name="neuralparts.shapes")]
)
def test_a_fault_of_the_program_is_not_hidden(fault):
    with pytest.raises(type(fault), match=str(fault)):
        command.run(lambda: (_ for _ in ()).throw(fault))


ENDING = """
import atexit, pathlib, sys, tempfile, threading, time
from neuralparts.commands import run
def main():
    place = tempfile.TemporaryDirectory()
    atexit.register(lambda: pathlib.Path("atexit").write_text("done"))
    threading.Thread(target=lambda: (time.sleep(0.2), pathlib.Path("thread").write_text("done"))).start()
    print(place.name, end="")
    main.place = place
    if sys.argv[1] == "error":
        raise KeyError("a fault")
    return int(sys.argv[1])
run(main)
"""


@pytest.mark.parametrize("ending", ["0", "7", "error"])
def test_threads_and_functions_of_atexit_come_before_the_end_of_a_command(tmp_path, ending):
    words = [sys.executable, "-c", ENDING, ending]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == (1 if ending == "error" else int(ending))
    assert ("KeyError: 'a fault'" in done.stderr) == (ending == "error")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atexit", "thread"]
    assert done.stdout and not Path(done.stdout).exists()
