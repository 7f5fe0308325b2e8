"""Pictures of a mesh: the rasteriser against its slow twin, and what the pictures show."""

import io

import numpy as np
import pytest
from PIL import Image

from neuralparts.report import thumbnail_png
from neuralparts.report.part_picture import part_pixels, still_picture
from neuralparts.report.part_picture_kernels import rasterise, shade
from tests.report.shown import pixels_of, sphere, torus


def rasterised(corners, faces, values, side):
    """What `rasterise` fills: depth (side, side), normal (side, side, 3), value (side, side)."""
    depth, normal, value = np.empty((side, side)), np.zeros((side, side, 3), np.float32), np.full((side, side), -1.0)
    rasterise(corners, faces, values, depth, normal, value)
    return depth, normal, value


def rasterised_slowly(corners, values, side):
    """The slow twin of `rasterise`: each triangle (F, 3, 3) against all pixel centres by barycentric coordinates."""
    depth, normal, value = np.full((side, side), -np.inf), np.zeros((side, side, 3)), np.full((side, side), -1.0)
    x, y = np.meshgrid(np.arange(side) + 0.5, side - 0.5 - np.arange(side))
    for (a, b, c), (first, second, third) in zip(corners, values, strict=True):
        across = np.cross(b - a, c - a)
        s = ((x - a[0]) * (c - a)[1] - (y - a[1]) * (c - a)[0]) / across[2]
        t = ((y - a[1]) * (b - a)[0] - (x - a[0]) * (b - a)[1]) / across[2]
        nearness = a[2] + s * (b - a)[2] + t * (c - a)[2]
        front = (s >= 0) & (t >= 0) & (s + t <= 1) & (nearness > depth)
        depth[front] = nearness[front]
        normal[front] = across / np.linalg.norm(across) * np.sign(across[2])
        value[front] = (first + s * (second - first) + t * (third - first))[front]
    return depth, normal, value


@pytest.mark.parametrize("seed", range(5))
def test_rasteriser_agrees_with_its_slow_twin(seed):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-8, 40, (90, 3))  # some reach beyond the picture of 32 by 32
    values, faces = generator.random(90), np.arange(90).reshape(30, 3)
    found = rasterised(corners, faces, values, 32)
    expected = rasterised_slowly(corners[faces], values[faces], 32)
    assert np.array_equal(found[0] > -np.inf, expected[0] > -np.inf)
    covered = found[0] > -np.inf
    for array, slow in zip(found, expected, strict=True):
        assert np.allclose(array[covered], slow[covered], atol=1e-6)  # normals are float32
    assert 0.2 < covered.mean() < 1


def test_rasteriser_leaves_no_gap_between_triangles():
    side = 200
    vertices, faces = sphere(radius=0.96 * side / 2)
    depth, _, _ = rasterised(vertices + side / 2, faces, np.zeros(len(vertices)), side)
    rows = [np.flatnonzero(row) for row in depth > -np.inf]
    assert all(len(row) == row[-1] - row[0] + 1 for row in rows if len(row))
    # The silhouette of a ball that fills 0.96 of the side; a pixel of the outline is 0.5% of the diameter.
    assert (depth > -np.inf).mean() == pytest.approx(np.pi / 4 * 0.96**2, rel=0.01)


def test_part_is_coloured_by_its_signed_deviation():
    vertices, faces = sphere()
    right = vertices @ [0.72, 0.52, 0]  # the direction that the picture shows to the right
    flat, signed = (part_pixels(vertices, faces, 64, values, 0.5).astype(float) for values in (0 * right, right))
    assert np.abs(flat - signed)[:, 31:33].max() < 30 and np.abs(flat - signed)[20:40, :12].max() > 60
    bluer = signed[..., 2] - signed[..., 0]
    assert bluer[28:36, 10:20].min() > 30 and bluer[28:36, 44:54].max() < -30  # inside blue, outside yellow
    with pytest.raises(ValueError, match="deviation"):
        part_pixels(vertices, faces, 64, right[1:])


def test_still_picture_has_a_clear_ground():
    image = Image.open(io.BytesIO(still_picture(*sphere(), 80)))
    alpha = np.asarray(image)[..., 3]
    assert image.size == (80, 80) and alpha[0, 0] == 0 and alpha[40, 40] == 255
    assert (alpha == 255).mean() == pytest.approx(np.pi / 4 * 0.96**2, rel=0.03)


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


def shaded_slowly(depth, normal, value, lit, colours, lamp, crease_cosine, depth_step):
    """The slow twin of `shade`: the arrays as a whole."""
    covered = depth > -np.inf
    near, edges = np.where(covered, depth, -1e6), np.zeros(depth.shape, bool)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        crease = (normal[here] * normal[there]).sum(axis=-1) < crease_cosine
        step = near[here] - near[there]
        edges[here] |= (covered[here] & covered[there] & crease) | (step > depth_step)
        edges[there] |= -step > depth_step
    brightness = (lamp[0] + lamp[1] * np.maximum(lit, 0)) * np.where(edges, np.float32(lamp[2]), np.float32(1))
    colour = colours[np.round((np.clip(value, -1, 1) + 1) / 2 * (len(colours) - 1)).astype(int)]
    return np.where(covered[..., None], np.minimum(brightness[..., None] * colour, 255), 255)


@pytest.mark.parametrize("colours", [1, 256])
def test_shading_agrees_with_its_slow_twin(colours):
    generator, side = np.random.default_rng(3), 60
    corners = side * generator.random((40, 3))
    faces, values = generator.integers(0, 40, (30, 3)), 3 * generator.normal(size=40)
    depth, normal, value = rasterised(corners, faces, values, side)
    assert 0 < (depth == -np.inf).sum() < side**2  # some ground
    lit = normal @ np.array([-0.45, 0.66, 0.60], np.float32)
    given = depth, normal, value, lit, 255 * generator.random((colours, 3), np.float32), (0.3, 0.8, 0.5), 0.87, 1.5
    np.testing.assert_array_equal(shade(*given), shaded_slowly(*given))
