"""Models with every kind of hash grid, points around them of which some are not finite, and how far a form is off.

`cases.py` has the distances that every form must answer.
"""

import itertools

import numpy as np
import torch

from neuralparts.choices import ACTIVATIONS, SCALERS
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler
from tests.export import cases

# Sizes of hash grids: with dense levels and hashed ones, with dense ones alone, with hashed ones alone, of one level.
GRIDS = {
    "none": None,
    "mixed": (4, 2, 3, 40, 9),
    "dense": (2, 3, 2, 4, 9),
    "hashed": (3, 1, 9, 30, 5),
    "one": (1, 4, 7, 7, 6),
}
KINDS = list(itertools.product(GRIDS, ACTIVATIONS, SCALERS))
# The cube of a part far from the origin of its file, whose coordinates float32 rounds.
CENTER, SCALE = (1234.5678, -98.7654, 5.4321), 0.0371


def formed_model(grid="none", activation="relu", scaler="none", center=CENTER, scale=SCALE, seed=3) -> NeuralSDF:
    """A model with random weights whose values are of the size of distances."""
    generator = torch.Generator().manual_seed(seed)
    encoding = None if GRIDS[grid] is None else HashGrid(*GRIDS[grid])
    targets = np.random.default_rng(seed).laplace(0.05, 0.2, 4000).astype(np.float32)
    model = NeuralSDF((16, 16), activation, encoding, fit_scaler(scaler, targets), center, scale)
    model.initialise("siren" if activation == "sine" else "he_uniform", generator)
    if encoding is not None:
        with torch.no_grad():
            encoding.table.uniform_(-0.1, 0.1, generator=generator)
    return model


def octahedron(center=CENTER, scale=SCALE) -> NeuralSDF:
    """A model whose zero level is the octahedron |x| + |y| + |z| = 0.7 of the domain, to rounding."""
    model = NeuralSDF((6,), center=center, scale=scale)
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        model.layers[0].bias.zero_()
        model.layers[2].weight.fill_(3**-0.5)
        model.layers[2].bias.fill_(-0.7 * 3**-0.5)
    return model


def places(count=400, seed=0) -> np.ndarray:
    """Points (N, 3) float64 in the domain: in the cube, on its border and corners, beyond it, and far beyond."""
    generator = np.random.default_rng(seed)
    near = generator.uniform(-1.5, 1.5, (count, 3))
    border = np.clip(generator.uniform(-2, 2, (count // 4, 3)), -1, 1)
    directions = generator.normal(size=(40, 3))
    far = directions * np.geomspace(2, 1e9, 40)[:, None]
    corners = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
    return np.concatenate([near, border, far, corners])


def file_points(model, count=400, seed=0) -> np.ndarray:
    """`places` in file units, (N, 3) float32, and six points with a coordinate that is not finite at the end."""
    points = model.transform.to_file(places(count, seed))
    bad = np.repeat(np.asarray(model.transform.center)[None], 6, axis=0)
    bad[[0, 1, 2], [0, 1, 2]] = np.nan
    bad[3, 0], bad[4, 1], bad[5] = np.inf, -np.inf, (np.nan, np.inf, 0)
    return np.concatenate([points, bad]).astype(np.float32)


def worst_difference(model, points, distances) -> float:
    """`cases.worst_difference` at the finite ones of points (N, 3), for distances (N,), both in file units.

    Raises AssertionError unless the distance is NaN for a NaN, and infinite for any other infinite coordinate.
    """
    finite = np.isfinite(points).all(axis=1)
    expected = np.where(np.isnan(points[~finite]).any(axis=1), np.nan, np.inf)
    np.testing.assert_array_equal(distances[~finite], expected)
    return cases.worst_difference(model, points[finite], distances[finite])
