"""Finished results with a flipped byte, or with another file in the place of one: no run calls them done."""

import os
import random
import re
import shutil
import signal

import pytest

from neuralparts.errors import Interrupted
from neuralparts.output import verify_folder
from tests.fleet.runs import a_folder, check_folder, summary

SUFFIXES = ("safetensors", "stl", "html", "png", "json")


def files_of(out, name):
    return [*(out / f"{name}.{suffix}" for suffix in SUFFIXES), out / "thumbnails" / f"{name}.png"]


@pytest.fixture
def fitted(tmp_path, here, monkeypatch):
    """(inputs, results, results of an older fit, names) of 12 parts."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    source, out = a_folder(tmp_path / "parts", 12), tmp_path / "out"
    assert here(source, out, "--epochs", 7)[0] == 0
    shutil.copytree(out, tmp_path / "older")
    assert here(source, out)[0] == 0
    return source, out, tmp_path / "older", sorted(path.stem for path in source.iterdir())


def check_none_is_called_done(source, out, here, damaged, *flags):
    """Run over a folder with damaged parts: each is fitted again or has failed, and `verify` names it before that."""
    before = {name for name, faults, _ in verify_folder(out) if faults}
    assert before == set(damaged)
    code, printed, _, fitted_again = here(source, out, *flags)
    failed = {row["name"]: row["reason"] for row in summary(out) if row["status"] != "done"}
    assert set(damaged) == set(failed) | set(fitted_again) and code == (1 if failed else 0)
    assert f"{len(summary(out)) - len(failed)} of {len(summary(out))} done" in printed
    assert {name for name, faults, _ in verify_folder(out) if faults} == set(failed)
    return failed


def flip_a_byte(path, generator):
    data = bytearray(path.read_bytes())
    data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
    path.write_bytes(data)


def flip_and_restore(fitted, here, rounds, seed):
    """Flip a byte in a file of each part, over and over; a flip in a record is as likely as in any other file."""
    source, out, _, names = fitted
    generator = random.Random(seed)
    for _ in range(rounds):
        chosen = {name: generator.choice(files_of(out, name)) for name in names}
        before = {path: path.read_bytes() for path in chosen.values()}
        for path in before:
            flip_a_byte(path, generator)
        failed = check_none_is_called_done(source, out, here, names)
        assert all("(changed or damaged)" in reason for reason in failed.values()) and len(failed) == len(names)
        for path, data in before.items():
            path.write_bytes(data)
    assert here(source, out)[3] == []


def test_flipped_bytes_are_never_called_done(fitted, here):
    flip_and_restore(fitted, here, 6, 1)


@pytest.mark.long
def test_a_thousand_flipped_bytes_are_never_called_done(fitted, here):
    flip_and_restore(fitted, here, 84, 2)


# ------------------------------------------------------------------------------------------------------------ swaps


def exchange(path, other, older):
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


def link_to_a_copy(path, other, older):
    copy = older.with_name(f"copy of {path.name}")
    path.rename(copy)
    path.symlink_to(copy)


def without(then):
    """A swap that removes the file first."""
    return lambda path, other, older: (path.unlink(), then(path, other, older))


# What takes the place of a file. other: the same file of another part. older: the same file of an older fit.
SWAPS = {
    "exchanged with another part": exchange,
    "another part's": lambda path, other, older: shutil.copy2(other, path),
    "an older version": lambda path, other, older: shutil.copy2(older, path),
    "bytes of equal size": lambda path, other, older: path.write_bytes(b"x" * path.stat().st_size),
    "zeros of equal size": lambda path, other, older: path.write_bytes(bytes(path.stat().st_size)),
    "emptied": lambda path, other, older: path.write_bytes(b""),
    "half": lambda path, other, older: os.truncate(path, path.stat().st_size // 2),
    "one byte less": lambda path, other, older: os.truncate(path, path.stat().st_size - 1),
    "one byte more": lambda path, other, older: path.write_bytes(path.read_bytes() + b"\n"),
    "a link to a copy": link_to_a_copy,
    "a link to another part's": without(lambda path, other, older: path.symlink_to(other)),
    "a link to nowhere": without(lambda path, other, older: path.symlink_to("nowhere")),
    "a folder": without(lambda path, other, older: path.mkdir()),
    "a pipe": without(lambda path, other, older: os.mkfifo(path)),
    "nothing": without(lambda path, other, older: None),
}


def swap_files(fitted, names, generator, swaps):
    """Swap a file of every other part, each in another way; returns the names of the parts that are damaged."""
    _, out, older, _ = fitted
    damaged = []
    for name, neighbour, swap in zip(names[::2], names[1::2], swaps, strict=False):
        path = generator.choice(files_of(out, name))
        relative = path.relative_to(out)
        other = out / str(relative).replace(name, neighbour)
        SWAPS[swap](path, other, older / relative)
        damaged += [name, neighbour] if swap == "exchanged with another part" else [name]
    return damaged


def follow_the_lines(out, failed):
    """Do as the lines of refused parts say: remove the files that they name. failed: the lines by part."""
    for name, line in failed.items():
        first, others = re.match(r"(.*?): (?:.*; so it is with (.*); move or remove)?", line).groups()
        named = [first, *(str(out / other) for other in (others or "").split(", ") if other)]
        if "holds the fit of another input" in line:
            named = files_of(out, name)
        for path in named:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def swap_and_mend(fitted, here, count, seed):
    source, out, _, names = fitted
    generator, kinds, done = random.Random(seed), list(SWAPS), 0
    while done < count:
        generator.shuffle(names)
        swaps = [kinds[(done + k) % len(kinds)] for k in range(len(names) // 2)]
        failed = check_none_is_called_done(source, out, here, swap_files(fitted, names, generator, swaps))
        done += len(swaps)
        follow_the_lines(out, failed)
        assert here(source, out)[0] == 0
        check_folder(source, out)


def test_swapped_files_are_never_called_done_and_the_lines_say_how_to_mend_them(fitted, here):
    swap_and_mend(fitted, here, 18, 3)


@pytest.mark.long
def test_a_hundred_swapped_files_are_never_called_done(fitted, here):
    swap_and_mend(fitted, here, 102, 4)


# ------------------------------------------------------------------------------------------------------- single fits


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_single_fit_with_a_flipped_byte_is_not_called_done(tmp_path, here, suffix):
    source, out, generator = tmp_path / "box.ply", tmp_path / "out", random.Random(suffix)
    source.write_bytes(b"good")
    assert here(source, out)[0] == 0
    path = out / f"box.{suffix}"
    for _ in range(5):
        before = path.read_bytes()
        flip_a_byte(path, generator)
        code, _, err, fitted_again = here(source, out)
        assert (code, fitted_again) == (1, []) and err.count("\n") == 1 and "done before" not in err
        assert "(changed or damaged)" in err and str(path) in err
        path.write_bytes(before)
    assert here(source, out)[0] == 0


def test_a_stopped_run_says_which_contents_it_did_not_read(fitted, here, monkeypatch):
    source, out, _, names = fitted
    flip_a_byte(out / f"{names[-1]}.stl", random.Random(1))
    for path in files_of(out, names[0]):
        path.unlink()

    def stop(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("neuralparts.part.fit_part", stop)
        assert here(source, out)[0] == 143
    assert {row["status"] for row in summary(out)} == {"done"} and len(summary(out)) == 11
    assert all("their contents were not read" in row["reason"] for row in summary(out))
    code, _, _, fitted_again = here(source, out)
    assert (code, fitted_again) == (1, names[:1]) and summary(out)[-1]["status"] == "failed"
