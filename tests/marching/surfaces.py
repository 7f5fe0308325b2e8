"""Functions that the tests march, and how two meshes of one surface are compared."""

import numpy as np

# Vertices that should be the same may differ by this fraction of a cell.
SAME = 1e-3


def sphere(radius, center=(0.0, 0.0, 0.0)):
    center = np.asarray(center, dtype=np.float32)
    return lambda points: (np.linalg.norm(points - center, axis=1) - radius).astype(np.float32)


def box(half, center=(0.0, 0.0, 0.0)):
    half, center = np.asarray(half, dtype=np.float32), np.asarray(center, dtype=np.float32)

    def distance(points):
        beyond = np.abs(points - center) - half
        return np.linalg.norm(beyond.clip(0), axis=1) + beyond.max(axis=1).clip(max=0)

    return distance


def torus(major, minor):
    return lambda points: np.hypot(np.linalg.norm(points[:, :2], axis=1) - major, points[:, 2]) - np.float32(minor)


def union(*parts):
    return lambda points: np.minimum.reduce([part(points) for part in parts])


def balls(radius, count, seed):
    """Balls of one radius, at random places."""
    return union(*(sphere(radius, center) for center in np.random.default_rng(seed).uniform(-0.9, 0.9, (count, 3))))


def hollow(half, wall):
    outer, inner = box(half), box(np.subtract(half, wall))
    return lambda points: np.maximum(outer(points), -inner(points))


def gyroid(points):
    x, y, z = (6.0 * points).T
    return np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)


# Name: (function, resolution to march it at).
SHAPES = {
    "sphere": (sphere(0.77), 64),
    "box on the nodes": (box((0.5, 0.25, 0.75)), 65),
    "box": (box((0.5, 0.251, 0.73), (0.1, 0.03, 0.0)), 64),
    "torus": (torus(0.6, 0.2), 77),
    "two bodies": (union(sphere(0.3, (-0.5, 0, 0)), torus(0.8, 0.05)), 80),
    "crumbs": (balls(0.03, 12, seed=5), 80),
    "thin walls": (hollow((0.7, 0.6, 0.5), 0.03), 80),
    "walls thinner than a cell": (hollow((0.7, 0.6, 0.5), 0.009), 72),
    "cut by the border": (box((0.5, 0.25, 2.0)), 64),
    "gyroid": (gyroid, 48),
    "ambiguous everywhere": (lambda points: points.prod(axis=1), 32),
    "saturated": (lambda points: np.tanh(40.0 * torus(0.6, 0.2)(points)), 64),
    "steep": (lambda points: 1e4 * box((0.5, 0.4, 0.3))(points), 64),
    "flat": (lambda points: 1e-6 * box((0.5, 0.4, 0.3))(points), 64),
    "indicator": (lambda points: np.sign(torus(0.6, 0.2)(points)), 48),
    "few nodes": (sphere(0.77), 5),
}


def random_network(seed, widths):
    """A ReLU network of random weights."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    layers, before = [], 3
    for width in (*widths, 1):
        layer = torch.nn.Linear(before, width)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(width, before, generator=generator) * (2 / before) ** 0.5)
            layer.bias.copy_(torch.randn(width, generator=generator) * 0.3)
        layers += [layer, torch.nn.ReLU()]
        before = width
    return torch.nn.Sequential(*layers[:-1])


def whole_grid(function, resolution):
    """scikit-image on all values at once, padded with positive values: vertices in the domain, faces."""
    from skimage.measure import marching_cubes

    line = np.linspace(-1, 1, resolution).astype(np.float32)
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    values = np.pad(function(points).reshape((resolution,) * 3), 1, constant_values=1e9)
    vertices, faces, _, _ = marching_cubes(values.astype(np.float32), 0.0)
    return (vertices.astype(np.float64) - 1) * 2 / (resolution - 1) - 1, faces


def nearest(vertices, others):
    from scipy.spatial import cKDTree

    return cKDTree(others).query(vertices)


def assert_same(one, other, resolution):
    """The same vertices to a thousandth of a cell, and the same triangles up to order and rotation."""
    assert one.vertices.shape == other.vertices.shape and one.faces.shape == other.faces.shape
    distance, match = nearest(one.vertices, other.vertices)
    assert distance.max() < SAME * 2 / (resolution - 1)
    assert len(np.unique(match)) == len(match)
    assert np.array_equal(rotated(match[one.faces]), rotated(other.faces))


def assert_same_triangles(result, vertices, faces):
    """The same triangles as those of scikit-image, for vertices that match one each; returns the fraction of them.

    Vertices of scikit-image that fall together in a node have no match of their own.
    """
    distance, match = nearest(result.vertices, vertices)
    assert distance.max() < SAME * 2 / (result.stats["resolution"] - 1)
    once = np.bincount(match, minlength=len(vertices)) == 1
    ours, theirs = (part[once[part].all(axis=1)] for part in (match[result.faces], faces))
    assert np.array_equal(rotated(ours), rotated(theirs))
    return len(ours) / len(faces)


def rotated(faces):
    """Faces with their least vertex first, sorted."""
    first = faces.argmin(axis=1)[:, None]
    faces = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    return faces[np.lexsort(faces.T)]


def assert_watertight(result):
    """Each directed edge once, and once in the other direction; every vertex used; no triangle without area."""
    faces, count = result.faces, len(result.vertices)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys, opposite = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    assert len(np.unique(keys)) == len(keys)
    assert np.array_equal(np.sort(keys), np.sort(opposite))
    assert np.array_equal(np.unique(faces), np.arange(count))
    assert areas(result).min() > 0


def areas(result):
    first, second, third = result.vertices[result.faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2


def volume(result):
    first, second, third = result.vertices[result.faces].transpose(1, 0, 2)
    return np.einsum("ij,ij->", first, np.cross(second, third)) / 6
