"""The README and the pages of docs/: links, flags, metrics, messages and commands are those of the program."""

import contextlib
import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh

from neuralparts import commands
from neuralparts.commands import VERBS, fit
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.flags import FLAGS, SPELLINGS, parse_fit_flags
from neuralparts.mesh import load_mesh
from neuralparts.metric_names import METRIC_NAMES
from neuralparts.metrics import PROTOCOL_NAMES, off_surface_errors
from neuralparts.steps import make_network

ROOT = Path(__file__).resolve().parents[1]
# The log tells of flags and files that are gone.
PAGES = [
    path for path in (ROOT / "README.md", ROOT / "data/README.md", *(ROOT / "docs").glob("*.md")) if path.stem != "log"
]
# Flags in the pages that belong to other programs.
FOREIGN_FLAGS = {"help", "count", "depth", "index-url", "budget", "logdir"}
# The module behind each root script.
SCRIPTS = {"sampling": "sample", "marching": "march", "metrics": "measure", "network": "info", "export": "export"}
# Programs of others that the pages name.
FOREIGN_PROGRAMS = {"git", "apt-get", "python3"}
# Flags that make a command small, appended to it.
SMALL = {
    "sample": ["--num_points", "2000"],
    "march": ["--reconstructionRes", "24"],
    "measure": ["--num_points", "500", "--reconstructionRes", "16"],
}


def fences(page, language):
    """The blocks of a page between ```language and ```."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines():
    """(page, words) of every command in the pages, comments left out; `a && b` are two."""
    for page in PAGES:
        for block in fences(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    if words := shlex.split(command, comments=True):
                        yield page, words


COMMANDS = list(command_lines())


def named(words):
    return " ".join(words)[:60]


def test_links_lead_to_files():
    broken = []
    for page in [*PAGES, ROOT / "docs/log.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_files_in_backticks_are_there():
    kinds = r"`((?:presets|docs|data|benchmarks|neuralparts|tests)/[\w./]+\.(?:py|sh|md|stl))`"
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in re.findall(kinds, page.read_text())
        if not (ROOT / path).exists()
    ]
    presets = {path.name for path in (ROOT / "presets").glob("*.sh")}
    missing += [
        f"{page.name}: {name}"
        for page in PAGES
        for name in re.findall(r"`(\w+\.sh)", page.read_text())
        if name not in presets
    ]
    assert missing == []


def test_every_flag_in_the_pages_is_one_of_the_program():
    known = {*FLAGS, *(spelling for spellings in SPELLINGS.values() for spelling in spellings), *FOREIGN_FLAGS}
    wrong = {
        f"{page.name}: --{flag}"
        for page in PAGES
        for flag in re.findall(r"(?<![\w-])--([a-zA-Z][\w-]*)", page.read_text())
        if flag not in known
    }
    assert wrong == set()


def test_the_page_of_metrics_has_every_metric_and_no_other(tmp_path):
    trimesh.creation.box((1, 2, 3)).export(tmp_path / "box.stl")
    oracle = DistanceOracle(load_mesh(tmp_path / "box.stl"))
    generator = np.random.default_rng(0)
    off_surface = off_surface_errors(oracle.signed_distance, np.ones_like, oracle, 200, generator)
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {*METRIC_NAMES, *off_surface, *PROTOCOL_NAMES}


def test_every_message_of_the_troubleshooting_page_is_one_of_the_program():
    """The fragments of a message between dots, which stand for what changes, are in the source, perhaps over lines."""
    python = "ModuleNotFoundError: No module named"  # Python's own
    files = [*(ROOT / "neuralparts").rglob("*.py"), ROOT / "Makefile", *(ROOT / "presets").glob("*.sh")]
    source = re.sub(r'"\n\s*f?"', "", "\n".join(path.read_text() for path in files))
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    pieces = [piece.strip(" '") for message in messages for piece in message.split("...")]
    unknown = [piece for piece in pieces if piece and piece not in source and piece != python]
    assert unknown == [] and len(messages) > 30


def preset_flags(name):
    """The flags that a preset gives to the fit."""
    text = (ROOT / "presets" / name).read_text().replace("\\\n", " ")
    flags = re.search(r'fit "\S+"(.*?) -- "\$@"', text).group(1)
    return shlex.split(flags)


@pytest.mark.parametrize(("preset", "most"), [("instant.sh", 600_000), ("compact.sh", 160_000), ("fine.sh", 1_000_000)])
def test_the_header_of_a_hash_grid_preset_names_the_size_of_its_network(preset, most):
    flags = parse_fit_flags(["part.stl", *preset_flags(preset)])
    network = make_network(flags, np.zeros(1, np.float32), Transform(np.zeros(3), 1.0))
    assert network.parameter_count <= most
    header = " ".join(re.findall("^# (.*)$", (ROOT / "presets" / preset).read_text(), re.MULTILINE))
    assert f" {network.parameter_count:,} parameters" in header


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: named(value) if isinstance(value, list) else "")
def test_commands_are_of_a_known_kind_and_their_flags_are_right(page, words):
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([\w/%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert rest[0] in targets
    elif program.startswith("presets/"):
        arguments = rest if rest and not rest[0].startswith("-") else ["part.stl", *rest]
        parse_fit_flags([arguments[0], *preset_flags(Path(program).name), *arguments[1:]])
    elif program in ("python", ".venv/bin/python") and rest[0] == "trainer.py":
        parse_fit_flags(rest[1:])
    elif program == ".venv/bin/python" and rest[:2] == ["-m", "pip"]:
        assert all((ROOT / word).exists() for word in rest if word.endswith(".txt"))
    elif program == ".venv/bin/python" and rest[0].startswith("data/"):
        assert (ROOT / rest[0]).exists()
    elif program == ".venv/bin/python" and rest[0] != "-c":
        assert rest[0].removesuffix(".py") in SCRIPTS or (rest[:2] == ["-m", "neuralparts"] and rest[2] in VERBS)
    else:
        assert program in (".venv/bin/python", ".venv/bin/tensorboard", "cd", ".", *FOREIGN_PROGRAMS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as the pages have it in mind: part.stl, its fit in out/, packed/ and another in other/, points.txt."""
    folder = tmp_path_factory.mktemp("place")
    trimesh.creation.box((20, 30, 40)).export(folder / "part.stl")
    (folder / "points.txt").write_text("0 0 0\n1 2 3\n")
    few = [
        "--num_points",
        "3000",
        "--epochs",
        "2",
        "--numLayers",
        "1",
        "--batchSize",
        "128",
        "--reconstructionRes",
        "16",
    ]
    assert fit.main([str(folder / "part.stl"), *few, "--outputDir", str(folder / "out")]) == 0
    shutil.copytree(folder / "out", folder / "other")
    assert commands.main(["pack", str(folder / "out"), "--out", str(folder / "packed")]) == 0
    return folder


def test_the_cheap_commands_run_as_they_are_written(place, capsys):
    """All but fits, installations and downloads; in order, since some need what an earlier one has made."""
    ran = 0
    with contextlib.chdir(place):
        for page, (program, *rest) in COMMANDS:
            if program != ".venv/bin/python" or rest[0] in ("trainer.py", "-c") or rest[:2] == ["-m", "pip"]:
                continue
            if rest[0].startswith("data/"):  # tests/test_data.py has it
                continue
            verb, arguments = (
                (rest[2], rest[3:]) if rest[0] == "-m" else (SCRIPTS[rest[0].removesuffix(".py")], rest[1:])
            )
            if arguments[0].endswith(".h5"):  # a file that the reader has to fetch
                continue
            code = importlib.import_module(f"neuralparts.commands.{verb}").main([*arguments, *SMALL.get(verb, [])])
            assert code == 0, f"{page.name}: {rest}: {capsys.readouterr().err}"
            ran += 1
    assert ran > 8


@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "python")], ids=lambda page: page.name)
def test_python_in_the_pages_runs(place, page):
    if page.parent.name == "data":
        pytest.skip("it is run from the root, tests/test_data.py has it")
    with contextlib.chdir(place):
        for block in fences(page, "python"):
            exec(compile(block, str(page), "exec"), {})


def test_every_verb_is_named_in_the_pages():
    text = "\n".join(page.read_text() for page in PAGES)
    scripts = {verb: script for script, verb in SCRIPTS.items()} | {"fit": "trainer"}
    assert [verb for verb in VERBS if f"`{verb}`" not in text and f"{scripts.get(verb, '?')}.py" not in text] == []
    assert commands.main(["--help"]) == 0


def test_no_page_and_no_program_names_a_folder_that_a_reader_does_not_have():
    folders = ("neuralparts", "docs", "presets", "data")
    files = [
        path for folder in folders for path in (ROOT / folder).glob("**/*.*") if path.suffix in (".py", ".md", ".sh")
    ]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    assert [str(path) for path in files if "../shared" in path.read_text(errors="replace")] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
