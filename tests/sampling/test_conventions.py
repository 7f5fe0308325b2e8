"""Samples of another convention: recognised by what must hold for every closed shape, and never where it need not."""

import numpy as np
import pytest

from neuralparts.errors import UserError
from neuralparts.sampling import negative_inside

BALL, BOX = 0.6, np.array([0.5, 0.3, 0.7])


def ball(points):
    return np.linalg.norm(points, axis=1) - BALL


def box(points, half=BOX, center=0.0):
    beyond = np.abs(points - center) - half
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)


def filling_block(points):
    """A block whose faces are those of the cube: no sample is outside but those in a bubble."""
    return np.maximum(box(points, np.ones(3)), 0.1 - np.linalg.norm(points - 0.3, axis=1))


def plate_in_a_corner(points):
    return box(points, np.array([0.02, 0.9, 0.9]), np.array([0.95, 0.0, 0.0]))


def shell(points):
    return np.abs(np.linalg.norm(points, axis=1) - 0.7) - 0.02


CLOSED = [ball, box, filling_block, plate_in_a_corner, shell]


def slab(points):
    """A part of a wall that goes on beyond the cube."""
    return np.abs(points[:, 2] + 0.1) - 0.3


def ground(points):
    return points[:, 2] + 0.1 * np.sin(3 * points[:, 0])


def uniform(generator, count=5000):
    return generator.uniform(-1, 1, (count, 3)).astype(np.float32)


def near(shape, width=0.05):
    """Uniform samples nearer to the surface than `width`: nothing of the far field."""

    def draw(generator):
        points = uniform(generator, 60_000)
        return points[np.abs(shape(points)) < width]

    return draw


def labelled(shape, points):
    return points, shape(points).astype(np.float32)


@pytest.mark.parametrize("shape", CLOSED)
def test_labels_that_are_right_stay(shape, generator):
    for points in (uniform(generator), near(shape)(generator), uniform(generator) * 0.3 + 0.3):
        points, sdf = labelled(shape, points.astype(np.float32))
        if (sdf < 0).any() and (sdf > 0).any():
            again, line = negative_inside("a.npz", points, sdf)
            assert line == "" and again is sdf


@pytest.mark.parametrize("shape", [ball, box, plate_in_a_corner, shell])
def test_positive_inside_changes_sign_and_says_so(shape, generator):
    points, sdf = labelled(shape, uniform(generator))
    again, line = negative_inside("a.npz", points, -sdf)
    assert line == "a.npz: its distances are positive inside; their signs were changed"
    np.testing.assert_array_equal(again, sdf)
    # One wrong label of a thousand does not hide it, nor do truncated distances.
    sdf[::1000] *= -1
    assert negative_inside("a.npz", points, np.clip(-sdf, -0.1, 0.1))[1] == line


def test_samples_without_the_far_field_decide_nothing(generator):
    points = near(ball, 0.02)(generator)
    sdf = -ball(points).astype(np.float32)
    again, line = negative_inside("a.npz", points, sdf)
    assert again is sdf and line == ""


@pytest.mark.parametrize("shape", [slab, ground])
def test_a_shape_that_goes_on_beyond_the_cube_stays_and_is_named(shape, generator):
    points, sdf = labelled(shape, uniform(generator))
    for labels in (sdf, -sdf):
        again, line = negative_inside("a.npz", points, labels)
        assert again is labels and "goes on beyond the cube" in line and line.count("\n") == 0
    points, sdf = labelled(shape, near(shape)(generator))
    assert negative_inside("a.npz", points, sdf)[0] is sdf


@pytest.mark.parametrize(
    "labels, message",
    [
        (lambda sdf: np.abs(sdf), "no sample is inside"),
        (lambda sdf: np.abs(sdf) + 0.1, "no sample is inside"),
        (lambda sdf: -np.abs(sdf), "no sample is outside"),
        (lambda sdf: 0 * sdf, "all distances are 0"),
        (lambda sdf: np.where(sdf < 0, -1e-9, sdf).astype(np.float32), "no sample is inside"),
    ],
)
def test_labels_of_one_sign_are_refused_in_one_line(labels, message, generator):
    points, sdf = labelled(ball, uniform(generator))
    with pytest.raises(UserError, match=f"a.npz: {message}") as refusal:
        negative_inside("a.npz", points, labels(sdf))
    assert "\n" not in str(refusal.value)
