"""The 3-D views of a part: meshes in file units in, figures of plotly and their captions out.

All views of a page are framed alike, so that the page can link their cameras.
"""

import base64
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from neuralparts.report.deviation import SCALE, Deviation, default_tolerance, deviation_of
from neuralparts.report.formatting import DOT
from neuralparts.report.part_picture import EYE, MeshArrays, still_picture, used
from neuralparts.report.plotly_figures import packed, plain_layout
from neuralparts.triangles import check_mesh_arrays, contracted

# Triangles of a mesh on a page; above it the drawing (not the result) is simplified. So many are finer than the
# pixels of half a screen and add half a megabyte to the page.
PAGE_TRIANGLES = 40_000
# Of a larger mesh, about so many times as many triangles are left by uniting vertices, before edges are contracted.
CONTRACTED = 2
# A mesh farther from its origin than this many times its own size is drawn about its own centre, because a browser
# draws in float32: 2^-24 * 1000 of the size is a tenth of a pixel.
FAR_FROM_ORIGIN = 1_000.0

INPUT_COLOUR = "#a9bdd2"
COORDINATES = "x %{x:.5g}<br>y %{y:.5g}<br>z %{z:.5g}"

# In plotly's units, in which the sphere around a part has radius 1/2. That sphere fits a square view if the eye is at
# least 0.5 / sin(22.5 degrees) = 1.31 away; 22.5 degrees is half of the camera's angle. From slightly farther away it
# fits a narrower view too.
EYE_DISTANCE = 1.5
# plotly's lamp, far away on the left of that eye and above, so that top, front and side differ.
LAMP = (-25_000.0, -70_000.0, 80_000.0)
LIGHTING = {
    "ambient": 0.58,
    "diffuse": 0.6,
    "specular": 0.08,
    "roughness": 0.6,
    "fresnel": 0.0,
    # By default plotly leaves triangles unlit that are small beside the view, as in any fine mesh.
    "facenormalsepsilon": 0,
}

# Side of a still picture in pixels: a view is up to 520 high.
STILL_SIZE = 520

# (N, 3) points -> (N,) signed distances to the input, both in file units.
SignedDistance = Callable[[np.ndarray], np.ndarray]


class View(NamedTuple):
    """figure: a mesh as plotly's dict. caption: what it shows. still: a picture of it as an address that holds it."""

    figure: dict[str, Any]
    caption: str
    still: str


class Frame(NamedTuple):
    """The sphere around all meshes of a page, and the point that becomes their origin; file units.

    center (3,), radius, origin (3,): zero for a part near its own origin, else the center.
    """

    center: np.ndarray
    radius: float
    origin: np.ndarray


class ShownMeshes(NamedTuple):
    """views: by the names of the meshes. drawn: those meshes as they are drawn, vertices (W, 3) in file units and faces
    (G, 3). frame: of all of them, None without any.

    deviation: of the vertices that are shown of `reconstruction`; None where it is not known. tolerance: the deviation
    at the ends of the colours at first, file units.
    """

    views: dict[str, View]
    drawn: dict[str, MeshArrays]
    frame: Frame | None
    deviation: Deviation | None
    tolerance: float


def shown_meshes(
    meshes: Mapping[str, MeshArrays],
    signed_distance: SignedDistance | None = None,
    most_triangles: int = PAGE_TRIANGLES,
) -> ShownMeshes:
    """The views of some meshes by name.

    meshes: vertices (V, 3) in file units and faces (F, 3) by name; a mesh without faces has no view. signed_distance:
    to the input; it colours `reconstruction`. most_triangles: a mesh with more is simplified. Raises ValueError for
    arrays of another shape.
    """
    checked = {name: _checked_mesh(name, *mesh) for name, mesh in meshes.items() if len(mesh[1])}
    if not checked:
        return ShownMeshes({}, {}, None, None, 0.0)
    frame = _frame(checked.values())
    tolerance = first_tolerance(next(iter(checked.values())))  # by the input, which is the first
    deviation, views, drawn = None, {}, {}
    for name, (vertices, faces) in checked.items():
        drawn[name] = simplified(vertices, faces, most_triangles)
        if name == "reconstruction" and signed_distance is not None:
            measured = _checked_distances(signed_distance, _nearest(vertices, drawn[name][0]))
            deviation = deviation_of(*drawn[name], measured)
            views[name] = _view(drawn[name], len(faces), frame, deviation.values, tolerance)
        else:
            views[name] = _view(drawn[name], len(faces), frame)
    return ShownMeshes(views, drawn, frame, deviation, tolerance)


def first_tolerance(mesh: MeshArrays) -> float:
    """The deviation at the ends of the colours at first, for a part of the size of a mesh with faces, file units."""
    return default_tolerance(2 * _frame([mesh]).radius)


def simplified(vertices: np.ndarray, faces: np.ndarray, most_triangles: int) -> MeshArrays:
    """The mesh with about `most_triangles` at most, to look at.

    vertices (V, 3) float64, faces (F, 3) integer; returns the same kind, unchanged if it is small enough. Ripples of
    the surface have a quadric error, so the contraction of edges keeps those that a map of deviations shows. Of a much
    larger mesh, vertices are united first: the contraction takes a microsecond and 300 bytes a triangle, and its
    library never gives that memory back.
    """
    if len(faces) <= most_triangles:
        return vertices, faces
    from neuralparts.report.clustering import clustered  # brings Numba

    return contracted(*clustered(vertices, faces, CONTRACTED * most_triangles), most_triangles)


def _checked_mesh(name: str, vertices: np.ndarray, faces: np.ndarray) -> MeshArrays:
    """The arrays of a mesh as float64 and int64. Raises ValueError, with the mesh's name, for other shapes."""
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    try:
        check_mesh_arrays(vertices, faces)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return vertices, faces


def _checked_distances(signed_distance: SignedDistance, points: np.ndarray) -> np.ndarray:
    """The signed distances (N,) float64 of points (N, 3). Raises ValueError unless there are N finite ones."""
    distances = np.asarray(signed_distance(points), np.float64)
    if distances.shape != (len(points),) or not np.isfinite(distances).all():
        raise ValueError(f"signed_distance: expected ({len(points)},) finite numbers, got {distances.shape}")
    return distances


def _nearest(vertices: np.ndarray, shown_vertices: np.ndarray) -> np.ndarray:
    """The vertex (W, 3) of vertices (V, 3) that is nearest to each of shown_vertices (W, 3).

    A simplified mesh has other vertices than the reconstruction, whose deviation is wanted.
    """
    if shown_vertices is vertices:
        return vertices
    from scipy.spatial import cKDTree

    # A tree of halved boxes is built in half the time of one of medians; a marched mesh has no dense heap of vertices.
    tree = cKDTree(vertices, balanced_tree=False, compact_nodes=False)
    return vertices[tree.query(shown_vertices)[1]]


def _frame(meshes: Collection[MeshArrays]) -> Frame:
    """The frame of meshes that have faces."""
    # The corners of all triangles: a vertex without a face is not drawn. (V, 3)
    vertices = np.concatenate([vertices[used(len(vertices), faces)] for vertices, faces in meshes])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    center = (low + high) / 2
    radius = max(float(np.linalg.norm(vertices - center, axis=1).max()), np.finfo(np.float32).tiny)
    is_far = np.abs(center).max() > FAR_FROM_ORIGIN * radius
    return Frame(center, radius, center if is_far else np.zeros(3))


def _view(
    drawn: MeshArrays, triangles: int, frame: Frame, deviation: np.ndarray | None = None, tolerance: float = 1.0
) -> View:
    """One mesh as it is drawn, of so many triangles before; coloured by the deviation (W,) of its vertices if given."""
    vertices, faces = drawn
    trace = {**_mesh_trace(vertices - frame.origin, faces), "color": INPUT_COLOUR}
    caption = f"{triangles:,} triangles"
    if len(faces) < triangles:
        caption += f" (drawn simplified to {len(faces):,})"
    if deviation is not None:
        trace |= _deviation_colours(deviation, tolerance)
        caption += f"{DOT}colour: signed deviation from the input"
    still = base64.b64encode(still_picture(vertices, faces, STILL_SIZE, deviation, tolerance)).decode("ascii")
    figure = _figure(trace, frame.center - frame.origin, frame.radius)
    return View(figure, caption, f"data:image/webp;base64,{still}")


def _mesh_trace(vertices: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
    """A mesh, vertices (V, 3) and faces (F, 3), as plotly's Mesh3d; flat shading keeps edges crisp."""
    index_type = "u2" if len(vertices) < 2**16 else "u4"
    return {
        "type": "mesh3d",
        **{axis: packed(vertices[:, k], "f4") for k, axis in enumerate("xyz")},
        **{corner: packed(faces[:, k], index_type) for k, corner in enumerate("ijk")},
        "flatshading": True,
        "lighting": LIGHTING,
        "lightposition": dict(zip("xyz", LAMP, strict=True)),
        "hovertemplate": f"{COORDINATES}<extra></extra>",
    }


def _deviation_colours(deviation: np.ndarray, tolerance: float) -> dict[str, Any]:
    """The entries of a trace that colour its vertices by their deviation (W,)."""
    return {
        "intensity": packed(deviation, "f4"),
        "cmin": -tolerance,
        "cmax": tolerance,
        "colorscale": SCALE,
        "showscale": False,
        "hovertemplate": f"{COORDINATES}<br>deviation %{{intensity:+.3g}}<extra></extra>",
    }


def _figure(trace: dict[str, Any], center: np.ndarray, radius: float) -> dict[str, Any]:
    """A trace as a figure without axes. It shows the cube about the sphere of center (3,) and radius, so the
    part stays in the picture from every side."""
    hidden = {"visible": False, "showspikes": False}
    axes = {
        f"{axis}axis": {**hidden, "range": [float(middle - radius), float(middle + radius)]}
        for axis, middle in zip("xyz", center, strict=True)
    }
    eye = dict(zip("xyz", (EYE / np.linalg.norm(EYE) * EYE_DISTANCE).tolist(), strict=True))
    scene = {**axes, "aspectmode": "cube", "dragmode": "orbit", "camera": {"eye": eye}}
    layout = {"margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "scene": scene}
    return {"data": [trace], "layout": {**plain_layout(), **layout}}
