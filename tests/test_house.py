"""The structure of the package: imports run downward, stages are imported from their folder, names are described."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neuralparts"
# From the ground up: a module imports only what stands before it, or its own folder.
ORDER = [
    *("choices", "wording", "errors", "domain", "triangles", "stage_bar", "watch", "whole_file", "foreign_files"),
    "packed",
    *("machine", "beside", "kept", "compiled", "triangle_kernels", "device", "record_values", "verdict"),
    *("metric_names", "flag_types", "command_line", "flag_contradictions", "flags", "widths"),
    *("mesh_files", "mesh", "distance", "sampling", "network"),
    *("fitting", "marching", "simplification", "metrics", "export", "report", "output", "fleet"),
    *(
        "random_streams",
        "inputs",
        "steps",
        "network_stages",
        "part",
        "job",
        "width_job",
        "part_stages",
        "staged_job",
        "commands",
    ),
    *("__init__", "__main__"),
]
STAGES = [name for name in ORDER if (PACKAGE / name).is_dir() and name != "commands"]
MODULES = sorted(PACKAGE.rglob("*.py"))
# Lines of a module; those of compiled loops may be longer.
LONGEST_MODULE = 420
# The one import that runs upward, within a function: `sdf.export(path)` is what a user looks for on the model itself.
UPWARD_IMPORT = ("network/neural_sdf.py", ["export"])


def place_of(path):
    """The name in ORDER that a module belongs to: its stage, or its own."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path):
    """The modules of the package that a file imports, at its top or within functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += names if node.module == "neuralparts" else [node.module]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: a relative import"
    return [name.split(".")[1:] for name in found if name.startswith("neuralparts.")]


def test_every_module_has_its_place():
    assert {place_of(path) for path in MODULES} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward_and_stages_are_imported_from_their_folder(path):
    own = place_of(path)
    for target in imported(path):
        if target[0] == "NeuralSDF" or target[0] == own:
            continue
        if (str(path.relative_to(PACKAGE)), target) == UPWARD_IMPORT:
            continue
        assert ORDER.index(target[0]) < ORDER.index(own), f"{own} imports {target[0]}, which stands above it"
        assert len(target) == 1 or target[0] not in STAGES, f"{path}: import {target[0]}'s names from its __init__"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_its_public_names_and_nothing_else(stage):
    module = importlib.import_module(f"neuralparts.{stage}")
    tree = ast.parse((PACKAGE / stage / "__init__.py").read_text())
    kinds = {type(node) for node in tree.body[1:]}
    assert ast.get_docstring(tree) and kinds <= {ast.ImportFrom, ast.Assign}
    names = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(module.__all__) == sorted(names)


def public_functions():
    """(name, function) of every public function, and of the public methods of every public class, of the stages."""
    for stage in STAGES:
        module = importlib.import_module(f"neuralparts.{stage}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                yield f"{stage}.{name}", thing
            elif inspect.isclass(thing):
                for attribute, value in vars(thing).items():
                    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                    if not attribute.startswith("_") and inspect.isfunction(function):
                        yield f"{stage}.{name}.{attribute}", function


def test_public_functions_have_types_and_a_docstring():
    lacking = []
    for name, function in public_functions():
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls", "ctx")]
        typed = all(p.annotation is not inspect.Parameter.empty for p in parameters)
        if not typed or signature.return_annotation is inspect.Signature.empty or not function.__doc__:
            lacking.append(name)
    assert lacking == []


@pytest.mark.parametrize("path", [path for path in MODULES if "kernels" not in path.name], ids=lambda path: path.name)
def test_a_module_is_not_longer_than_can_be_read(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST_MODULE


@pytest.mark.parametrize("script", ["trainer", "sampling", "marching", "metrics", "network", "export", "neuralparts"])
def test_help_imports_nothing_heavy(script):
    heavy = ("torch", "numpy", "numba", "scipy", "trimesh", "matplotlib")
    run = "neuralparts.__main__" if script == "neuralparts" else script
    program = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({run!r}, run_name='__main__')\n"
        f"except SystemExit as end: print(end.code, [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


def test_a_fit_needs_no_module_that_only_posix_has(tmp_path):
    box = "from pathlib import Path; import trimesh; trimesh.creation.box((1, 2, 3)).export('box.stl')"
    # filelock chooses its lock by the platform, so it is imported before the module it needs here is hidden.
    hide = "import sys, filelock, tempfile; sys.modules |= dict.fromkeys(('fcntl', 'resource', 'pwd', 'termios'))"
    fit = "from neuralparts.commands.fit import main; sys.exit(main(sys.argv[1:]))"
    flags = ["box.stl", "--num_points", "2000", "--epochs", "1", "--batchSize", "256", "--reconstructionRes", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", f"{box}; {hide}; {fit}", *flags, "--outputDir", "out"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "out/box.safetensors").exists(), done.stderr
