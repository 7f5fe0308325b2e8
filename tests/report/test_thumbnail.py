"""Thumbnails: the rasteriser against its slow twin, and what the pictures show."""

import numpy as np
import pytest

from neuralparts.report import thumbnail_png
from neuralparts.report.thumbnail import rasterise
from tests.report.shown import pixels_of, sphere, torus


def rasterised_slowly(corners, side):
    """The slow twin of `rasterise`: each triangle against each pixel centre by barycentric coordinates."""
    face, depth = np.full((side, side), -1), np.full((side, side), -np.inf)
    x, y = np.meshgrid(np.arange(side) + 0.5, side - 0.5 - np.arange(side))
    for index, (a, b, c) in enumerate(corners):
        (e, f), (g, h) = (b - a)[:2], (c - a)[:2]
        area = e * h - f * g
        s = ((x - a[0]) * h - (y - a[1]) * g) / area
        t = ((y - a[1]) * e - (x - a[0]) * f) / area
        nearness = a[2] + s * (b - a)[2] + t * (c - a)[2]
        front = (s >= 0) & (t >= 0) & (s + t <= 1) & (nearness > depth)
        face[front], depth[front] = index, nearness[front]
    return face, depth


@pytest.mark.parametrize("seed", range(5))
def test_rasteriser_agrees_with_its_slow_twin(seed):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-8, 40, (30, 3, 3))  # some reach beyond the picture of 32 by 32
    face, depth = rasterise(corners, 32)
    expected_face, expected_depth = rasterised_slowly(corners, 32)
    assert np.array_equal(face, expected_face)
    covered = face >= 0
    assert np.allclose(depth[covered], expected_depth[covered], atol=1e-9)  # rounding of coordinates up to 40
    assert 0.2 < covered.mean() < 1


def test_rasteriser_leaves_no_gap_between_triangles():
    side = 200
    vertices, faces = sphere(radius=0.96 * side / 2)
    face, _ = rasterise(vertices[faces] + side / 2, side)
    rows = [np.flatnonzero(row >= 0) for row in face]
    assert all(len(row) == row[-1] - row[0] + 1 for row in rows if len(row))
    # The silhouette of a ball that fills 0.96 of the side; a pixel of the outline is 0.5% of the diameter.
    assert (face >= 0).mean() == pytest.approx(np.pi / 4 * 0.96**2, rel=0.01)


def test_thumbnail_of_a_ball_is_lit_from_above_whichever_way_its_triangles_face():
    vertices, faces = sphere()
    picture = thumbnail_png(vertices, faces, 64)
    pixels = pixels_of(picture)
    assert pixels.shape == (64, 64, 3)
    assert np.all(pixels[0, 0] == 255) and pixels.std() > 20
    assert pixels[12, 26:38].mean() > pixels[52, 26:38].mean() + 40
    assert thumbnail_png(vertices, faces[:, ::-1], 64) == picture
    moved = pixels_of(thumbnail_png(vertices * 1e3 - 5e4, faces, 64))
    assert np.abs(moved - pixels).mean() < 1  # rounding moves a pixel or two of an edge


def test_thumbnail_shows_the_hole_of_a_torus_and_edges_of_a_box():
    pixels = pixels_of(thumbnail_png(*torus(minor=0.2), 96))
    assert np.all(pixels[48, 48] == 255) and np.any(pixels[48, :20] < 255)
    import trimesh

    box = trimesh.creation.box()
    shades = pixels_of(thumbnail_png(box.vertices, box.faces, 96)).reshape(-1, 3)
    values, counts = np.unique(shades, axis=0, return_counts=True)
    assert (counts > 96 * 96 // 20).sum() == 4  # ground and three sides, each its own shade
    assert values.sum(axis=1).min() < 0.7 * np.sort(values[counts > 96 * 96 // 20].sum(axis=1))[0]  # darker edges


def test_thumbnail_of_nothing_is_white_and_of_a_flat_mesh_is_drawn():
    assert np.all(pixels_of(thumbnail_png(np.zeros((0, 3)), np.zeros((0, 3), int), 32)) == 255)
    flat = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], float)
    assert pixels_of(thumbnail_png(flat, np.array([[0, 1, 2], [0, 0, 0]]), 32)).std() > 10
    with pytest.raises(ValueError, match="expected"):
        thumbnail_png(np.zeros((3, 2)), np.zeros((1, 3), int))
