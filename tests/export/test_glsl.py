"""The GLSL function: through glslangValidator, and in headless Chromium against NeuralSDF."""

import shutil
import subprocess

import numpy as np
import pytest

from neuralparts.export import export_model
from neuralparts.export.glsl import WIDTH
from neuralparts.network import HashGrid, NeuralSDF
from tests.export import chromium
from tests.export.cases import COMBINATIONS, TOLERANCE, a_model, some_points, worst_difference

# Each encoding, activation and scaler at least once.
SOME = [COMBINATIONS[i] for i in (1, 6, 11, 12, 18, 31)]


def exported(folder, combinations, features=3):
    """{name: model} whose shader texts are in the folder."""
    models = {"_".join(combination): a_model(*combination, features=features) for combination in combinations}
    for name, model in models.items():
        export_model(model, "glsl", folder / f"{name}.glsl")
    return models


def large_model():
    """A model whose numbers are a texture of two rows, with features that fill more than a texel."""
    return NeuralSDF((32, 24), "relu", HashGrid(3, 6, 8, 32, 10), None, (5.0, 0.0, 0.0), 0.5)


def check_in_chromium(models, folder, count=4096):
    """Assert that WebGL 2 answers as the networks do, NaN for NaN and infinity for infinity."""
    points = {name: some_points(model, count) for name, model in models.items()}
    for values in points.values():
        values[-2:] = [[np.nan, 0, np.inf], [0, -np.inf, 0]]
    jobs = [chromium.job(folder / f"{name}.glsl", name, WIDTH, points[name]) for name in models]
    for (name, model), values in zip(models.items(), chromium.evaluate(jobs, folder), strict=True):
        assert np.isnan(values[-2]) and values[-1] == np.inf, name
        assert worst_difference(model, points[name][:-2], values[:-2]) <= TOLERANCE, name


def test_shader_compilers_accept_all_combinations(tmp_path):
    if shutil.which("glslangValidator") is None:
        pytest.skip("no glslangValidator here")
    models = exported(tmp_path, COMBINATIONS)
    export_model(large_model(), "glsl", tmp_path / "mix.glsl")  # a function of GLSL
    shaders = []
    for name in [*models, "mix"]:
        for version in ("300 es", "330 core"):
            call = (
                f"out vec4 color; void main() {{ color = vec4({'part_' * (name == 'mix')}{name}(gl_FragCoord.xyz)); }}"
            )
            shaders.append(tmp_path / f"{name}_{version[:3]}.frag")
            shaders[-1].write_text(f"#version {version}\n{(tmp_path / f'{name}.glsl').read_text()}\n{call}\n")
    done = subprocess.run(["glslangValidator", *shaders], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.long
def test_all_combinations_agree_with_the_network_in_chromium(tmp_path):
    check_in_chromium(exported(tmp_path, COMBINATIONS), tmp_path)


def test_arrays_and_textures_agree_with_the_network_in_chromium(tmp_path):
    models = exported(tmp_path, SOME) | {"large": large_model()}
    written = export_model(models["large"], "glsl", tmp_path / "large.glsl")
    assert [path.name for path in written] == ["large.glsl", "large.bin"]
    check_in_chromium(models, tmp_path)
