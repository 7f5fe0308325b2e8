"""Labelled points of an input, as the flags ask for them."""

import numpy as np
import trimesh

from neuralparts.flags import parse_fit_flags
from neuralparts.inputs import labelled, load
from neuralparts.watch import Watch


def labels_of(source, *more):
    flags = parse_fit_flags([str(source), "--num_points", "2000", *more])
    shape, content = load(source, flags, Watch())
    return labelled(shape, content, flags, Watch())


def test_near_points_follow_the_samples_which_stay_as_they_are(tmp_path):
    trimesh.creation.box((20, 16, 12)).export(tmp_path / "box.stl")
    without, with_near = labels_of(tmp_path / "box.stl"), labels_of(tmp_path / "box.stl", "--numNear", "700")
    points, sdf = with_near.samples
    assert points.shape == (2700, 3) and sdf.shape == (2700,) and points.dtype == sdf.dtype == np.float32
    np.testing.assert_array_equal(points[:2000], without.samples[0])
    assert np.abs(sdf[2000:]).mean() < np.abs(sdf[:2000]).mean() / 2


def test_a_samples_file_has_no_surface_for_near_points(tmp_path):
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32)
    train = np.column_stack([points, np.linalg.norm(points, axis=1) - 0.5]).astype(np.float32)
    np.savez(tmp_path / "ball.npz", train=train)
    assert len(labels_of(tmp_path / "ball.npz", "--numNear", "700").samples[0]) == 1900
