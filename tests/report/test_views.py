"""The 3-D views: large meshes are simplified, in any unit."""

import numpy as np
import pytest

from neuralparts.report.views import mesh_views, simplified
from tests.report.shown import array, mesh_of, sphere


def test_large_mesh_is_simplified_and_says_so():
    vertices, faces = sphere(radius=3.0)
    views, origin = mesh_views({"reconstruction": (vertices, faces)}, 3.0 + vertices[:, 2], triangles=1000)
    trace = views["reconstruction"].figure["data"][0]
    shown_vertices, shown_faces = mesh_of(trace)
    assert len(shown_faces) <= 1000 and shown_faces.max() < len(shown_vertices) and not origin.any()
    caption = views["reconstruction"].caption
    assert caption.startswith(f"{len(faces):,} triangles (drawn simplified to {len(shown_faces):,})")
    # 1,000 triangles of a sphere: edges of 0.5 by area, so about 0.5^2 / (8 * 3) = 0.01 off the surface
    assert np.abs(np.linalg.norm(shown_vertices, axis=1) - 3.0).max() < 0.05
    # The colour is that of the nearest original vertex, whose edges are 0.2 long.
    assert np.abs(array(trace["intensity"]) - (3.0 + shown_vertices[:, 2])).max() < 0.2


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_a_mesh_is_simplified_alike_in_any_unit(scale):
    vertices, faces = sphere(radius=3.0)
    fewer, kept = simplified(scale * vertices, faces, 1000)
    assert len(kept) <= 1000
    assert np.abs(np.linalg.norm(fewer / scale, axis=1) - 3.0).max() < 0.05


def test_a_mesh_without_triangles_has_no_view():
    views, origin = mesh_views({"input": (np.zeros((3, 3)), np.zeros((0, 3), int))})
    assert views == {} and not origin.any()


def test_arrays_of_another_shape_are_refused_by_the_name_of_their_mesh():
    with pytest.raises(ValueError, match=r"input: expected vertices \(V, 3\)"):
        mesh_views({"input": (np.zeros((4, 2)), np.zeros((1, 3), int))})
