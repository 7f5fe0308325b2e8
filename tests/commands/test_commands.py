"""How the commands end: exit codes, and one line where somebody stopped them or memory ran out."""

import pytest

from neuralparts import commands as command


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


def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(RuntimeError, match="shapes"):
        command.run(lambda: (_ for _ in ()).throw(RuntimeError("shapes do not fit")))
