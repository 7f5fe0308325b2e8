"""The 3-D views of a part: meshes in file units in, figures of plotly and their captions out.

All views of a page are framed alike, so that the page can link their cameras.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from neuralparts.report.formatting import DOT, number
from neuralparts.report.plotly_figures import packed, plain_layout
from neuralparts.triangles import check_mesh_arrays

# Triangles of a mesh on a page; above it the drawing (not the result) is simplified. So many are finer than the
# pixels of half a screen and add half a megabyte to the page.
PAGE_TRIANGLES = 40_000
# Size at which a mesh is simplified: the simplification's error thresholds are lengths for parts of about this size.
SIMPLIFIED_SIZE = 100.0
# A mesh farther from its origin than this many times its own size is drawn about its own centre, because a browser
# draws in float32: 2^-24 * 1000 of the size is a tenth of a pixel.
FAR_FROM_ORIGIN = 1_000.0

# The colours of distances are light where the fit is good and darken steadily, so that they read without colour vision.
DEVIATION_SCALE = [[0.0, "#dbe4ee"], [0.25, "#f4dc9b"], [0.55, "#ee8f3c"], [0.8, "#c93a26"], [1.0, "#6d0a1c"]]
# Percentile of the distances that has the darkest colour: one stray vertex must not leave all others in one colour.
DARKEST_PERCENTILE = 99.5
INPUT_COLOUR = "#a9bdd2"
COLOUR_BAR_WIDTH = 92  # pixels, with its title and six figures
COORDINATES = "x %{x:.5g}<br>y %{y:.5g}<br>z %{z:.5g}"

# Direction from the part to the eye at first, as a part is usually drawn: front, right, above; z up.
EYE = np.array([0.52, -0.72, 0.46])
# In plotly's units, in which the sphere around a part has radius 1/2. It fits a square view from
# 0.5 / sin(22.5 degrees) = 1.31, half the camera's angle; slightly farther off it fits a narrower view too.
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

# vertices (V, 3) float64 in file units, faces (F, 3) int64.
MeshArrays = tuple[np.ndarray, np.ndarray]


class View(NamedTuple):
    """figure: a mesh as plotly's dict. caption: what it shows."""

    figure: dict[str, Any]
    caption: str


class Frame(NamedTuple):
    """The sphere around all meshes of a page, and the point that becomes their origin; file units.

    center (3,), radius, origin (3,): zero for a part near its own origin, else the center.
    """

    center: np.ndarray
    radius: float
    origin: np.ndarray


def mesh_views(
    meshes: Mapping[str, MeshArrays], vertex_distance: np.ndarray | None = None, triangles: int = PAGE_TRIANGLES
) -> tuple[dict[str, View], np.ndarray]:
    """The views of some meshes by name, and the origin (3,) in file units that their coordinates refer to.

    meshes: vertices (V, 3) in file units and faces (F, 3) by name; a mesh without faces has no view. vertex_distance
    (V,): the distance in file units of each vertex of `reconstruction` to the input, which colours it. triangles: a
    mesh with more is simplified. Raises ValueError for arrays of another shape.
    """
    checked = {name: _checked_mesh(name, *mesh) for name, mesh in meshes.items() if len(mesh[1])}
    if not checked:
        return {}, np.zeros(3)
    frame = _frame(checked.values())
    distances = {"reconstruction": vertex_distance}
    views = {name: _view(mesh, frame, distances.get(name), triangles) for name, mesh in checked.items()}
    return views, frame.origin


def simplified(vertices: np.ndarray, faces: np.ndarray, triangles: int) -> MeshArrays:
    """The mesh with about so many triangles at most, to look at (Garland and Heckbert 1997, quadric errors).

    vertices (V, 3) float64, faces (F, 3) integer; returns the same kind, unchanged if it is small enough. Ripples of
    the surface have a quadric error, so the simplification keeps those that a map of deviations shows.
    """
    if len(faces) <= triangles:
        return vertices, faces
    import fast_simplification

    # The vertices about their mean, at the size that the error thresholds expect: (V, 3).
    center, scale = vertices.mean(axis=0), SIMPLIFIED_SIZE / max(np.ptp(vertices, axis=0).max(), 1e-30)
    local = (vertices - center) * scale
    fewer, kept = fast_simplification.simplify(local, faces.astype(np.int32), target_count=triangles)
    return np.asarray(fewer, np.float64) / scale + center, np.asarray(kept, np.int64)


def _checked_mesh(name: str, vertices: np.ndarray, faces: np.ndarray) -> MeshArrays:
    """The arrays of a mesh as float64 and int64. Raises ValueError, with the mesh's name, for other shapes."""
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    try:
        check_mesh_arrays(vertices, faces)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return vertices, faces


def _checked_distance(vertex_distance: np.ndarray, count: int) -> np.ndarray:
    """The distances (V,) as float64. Raises ValueError unless there are `count` finite ones."""
    distance = np.asarray(vertex_distance, np.float64)
    if distance.shape != (count,) or not np.isfinite(distance).all():
        raise ValueError(f"vertex_distance: expected ({count},) finite numbers, got {distance.shape}")
    return distance


def _frame(meshes: Collection[MeshArrays]) -> Frame:
    """The frame of meshes that have faces."""
    # The corners of all triangles: a vertex without a face is not drawn. (V, 3)
    vertices = np.concatenate([vertices[np.unique(faces)] for vertices, faces in meshes])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    center = (low + high) / 2
    radius = max(float(np.linalg.norm(vertices - center, axis=1).max()), np.finfo(np.float32).tiny)
    is_far = np.abs(center).max() > FAR_FROM_ORIGIN * radius
    return Frame(center, radius, center if is_far else np.zeros(3))


def _view(mesh: MeshArrays, frame: Frame, vertex_distance: np.ndarray | None, triangles: int) -> View:
    """One mesh, coloured by distance if distances are given."""
    vertices, faces = mesh
    shown_vertices, shown_faces = simplified(vertices, faces, triangles)
    trace = {**_mesh_trace(shown_vertices - frame.origin, shown_faces), "color": INPUT_COLOUR}
    caption = f"{len(faces):,} triangles"
    if len(shown_faces) < len(faces):
        caption += f" (drawn simplified to {len(shown_faces):,})"
    if vertex_distance is not None:
        distance = _checked_distance(vertex_distance, len(vertices))
        trace |= _deviation_colours(vertices, shown_vertices, distance)
        caption += f"{DOT}colour: distance to the input, at most {number(distance.max())} at a vertex"
    return View(_figure(trace, frame.center - frame.origin, frame.radius), caption)


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


def _deviation_colours(vertices: np.ndarray, shown_vertices: np.ndarray, distance: np.ndarray) -> dict[str, Any]:
    """The entries of a trace that colour the shown vertices (W, 3) by the distances (V,) of vertices (V, 3)."""
    shown_distance = distance
    if shown_vertices is not vertices:
        from scipy.spatial import cKDTree

        # A simplified mesh has other vertices; each takes the distance of the nearest original one. (W,)
        shown_distance = distance[cKDTree(vertices).query(shown_vertices)[1]]
    top = float(np.percentile(distance, DARKEST_PERCENTILE)) or float(distance.max()) or 1.0
    bar = {"title": {"text": "distance<br>(file units)"}, "x": 1.0, "xanchor": "left", "len": 0.86}
    return {
        "intensity": packed(shown_distance, "f4"),
        "cmin": 0.0,
        "cmax": top,
        "colorscale": DEVIATION_SCALE,
        "colorbar": {**bar, "thickness": 11, "tickformat": ".2~g", "outlinewidth": 0, "nticks": 6},
        "hovertemplate": f"{COORDINATES}<br>distance %{{intensity:.3g}}<extra></extra>",
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
    bar = COLOUR_BAR_WIDTH if "colorbar" in trace else 0
    layout = {"margin": {"l": 0, "r": bar, "t": 0, "b": 0}, "scene": scene}
    return {"data": [trace], "layout": {**plain_layout(), **layout}}
