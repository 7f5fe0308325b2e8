"""The C header, by the compilers that are here: against NeuralSDF, in and out of the cube."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from neuralparts.errors import UserError
from neuralparts.export import export_model
from neuralparts.network import NeuralSDF
from tests.export.cases import COMBINATIONS, TOLERANCE, a_model, some_points, worst_difference

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
COMPILERS = {
    "gcc": ["gcc", "-std=c99", *WARNINGS],
    "clang": ["clang", "-std=c99", *WARNINGS],
    "g++": ["g++", "-std=c++11", *WARNINGS, "-x", "c++"],
}
LOOPS = """
void {0}_values(int n, const float *p, float *d);
void {0}_values(int n, const float *p, float *d) {{ for (int i = 0; i < n; i++) d[i] = {0}_distance(p + 3 * i); }}
void {0}_gradients(int n, const float *p, float *d, float *g);
void {0}_gradients(int n, const float *p, float *d, float *g)
{{ for (int i = 0; i < n; i++) d[i] = {0}_gradient(p + 3 * i, g + 3 * i); }}
"""


def compiled(folder, names, compiler="gcc"):
    """The functions of several headers in one library, not optimised: that is quicker. Skips without the compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    text = "".join(f'#include "{name}.h"\n' for name in names) + 'extern "C" {\n' * (compiler == "g++")
    source, library = folder / "all.c", folder / f"{compiler}.so"
    source.write_text(text + "".join(LOOPS.format(name) for name in names) + "}\n" * (compiler == "g++"))
    words = [*COMPILERS[compiler], "-shared", "-fPIC", source, "-o", library, "-lm"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    return ctypes.CDLL(str(library))


def values_and_gradients(library, name, points):
    """(distances by the one function, by the other, gradients) of points (N, 3)."""
    points = np.ascontiguousarray(points, np.float32)
    alone, value, gradient = np.zeros(len(points), np.float32), np.zeros(len(points), np.float32), np.zeros_like(points)
    places = [array.ctypes.data_as(ctypes.c_void_p) for array in (points, alone, value, gradient)]
    getattr(library, f"{name}_values")(len(points), places[0], places[1])
    getattr(library, f"{name}_gradients")(len(points), places[0], places[2], places[3])
    return alone, value, gradient


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    """(folder of a header for each combination, {name: model})."""
    folder = tmp_path_factory.mktemp("headers")
    models = {"_".join(combination): a_model(*combination) for combination in COMBINATIONS}
    for name, model in models.items():
        assert export_model(model, "c", folder / f"{name}.h") == [folder / f"{name}.h"]
    return folder, models


@pytest.fixture(scope="module")
def library(headers):
    """The functions of all headers, by gcc."""
    return compiled(*headers)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_all_combinations_agree_with_the_network_in_one_program(headers, compiler):
    folder, models = headers
    library = compiled(folder, models, compiler)
    for name, model in models.items():
        points = some_points(model, 10_000)
        alone, value, _ = values_and_gradients(library, name, points)
        assert worst_difference(model, points, alone) <= TOLERANCE, name
        assert (alone == value).all()


def test_gradients_are_those_of_the_network_in_the_cube_and_of_the_continuation_outside(headers, library):
    _, models = headers
    for name, model in models.items():
        points = some_points(model, 3000)
        *_, gradient = values_and_gradients(library, name, points)
        places = abs(model.transform.to_domain(points)).max(1)
        # At a kink of a piece-wise linear function two gradients are right.
        errors = abs(gradient - model.gradient(points)).max(1)
        for where in (places < 1, (places > 1) & (places < 3), places > 3):
            assert np.quantile(errors[where], 0.99) < 1e-4 and where.sum() > 100, name


def test_points_that_are_not_finite(headers, library):
    _, models = headers
    points = [[np.nan, 0, 0], [np.inf, 0, np.nan], [0, -np.inf, 0], [3e38, -3e38, 3e38]]
    for name in models:
        alone, _, gradient = values_and_gradients(library, name, points)
        assert np.isnan(alone[:2]).all() and (alone[2] == np.inf) and np.isfinite(gradient[3]).all()
        assert np.isnan(gradient[:3]).all()


def test_names_of_files_become_names_of_c(tmp_path):
    model = a_model("none", "relu", "none")
    for file, name in {"3 parts-v2.h": "part_3_parts_v2", "größe__x.h": "gr_e_x", "int.h": "int"}.items():
        path = tmp_path / file
        export_model(model, "c", path)
        assert f"float {name}_distance(const float p[3])\n" in path.read_text()
        (tmp_path / f"{name}.h").write_text(path.read_text())
        compiled(tmp_path, [name])


def test_a_part_beyond_single_precision_is_refused(tmp_path):
    for scale in (1e-35, 1e35):
        with pytest.raises(UserError, match=r"do not fit single precision"):
            export_model(NeuralSDF((4,), scale=scale), "c", tmp_path / "part.h")
    assert list(tmp_path.iterdir()) == []
