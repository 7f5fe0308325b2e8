"""The thinnest feature of a mesh, estimated by rays from its surface inward."""

import numpy as np

from neuralparts.mesh.solid_angles import JUST_BESIDE, affordable_step, winding_number
from neuralparts.triangles import triangle_areas, unit_normals

# Surface points from which a ray goes inward.
THICKNESS_SAMPLES = 4000
# Percentage of the rays that may be shorter than the answer.
THICKNESS_PERCENTILE = 1.0
# A wall counts as the other side of a feature if the ray leaves it within 37 degrees of its normal: not the other flank
# of an edge with a chamfer of 45 degrees.
OPPOSITE_COSINE = 0.8
# Boxes of triangles that all rays together may pass, about: some seconds.
MOST_BOXES = 40_000_000
# Fraction of the rays that must find an opposite wall for the answer to mean something.
LEAST_RAYS_ANSWERED = 0.05


def thinnest_feature(vertices: np.ndarray, faces: np.ndarray, tangled: bool) -> float | None:
    """An estimate of the thinnest wall, in the units of the vertices; None if few points have an opposite wall.

    vertices: (V, 3) float64; faces: (F, 3) int64, outward. tangled: shells overlap or are open, so a ray may begin or
    end within the material; such rays are then left out.

    From points uniform on the surface a ray goes inward along the normal to the first wall. The answer is a low
    percentile of the lengths to walls that face the other way, so features on a smaller fraction of the area go unseen.
    Cost: a tree over the triangles and a fixed number of rays.
    """
    corners = vertices[faces]
    surface, inward, length, rays = _rays_to_opposite_walls(vertices, faces, corners)
    if tangled and len(length):
        step = affordable_step(np.concatenate([surface, surface]), corners)
        surface, inward, length, rays = surface[::step], inward[::step], length[::step], rays // step
        # Keep a ray if there is air just before its start and just beyond its end.
        beyond = surface + (length[:, None] + JUST_BESIDE) * inward
        both = winding_number(np.concatenate([beyond, surface - JUST_BESIDE * inward]), corners)
        length = length[(both.reshape(2, -1) <= 0.5).all(axis=0)]
    if len(length) < LEAST_RAYS_ANSWERED * rays:
        return None
    return float(np.percentile(length, THICKNESS_PERCENTILE))


def _rays_to_opposite_walls(
    vertices: np.ndarray, faces: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rays that end at an opposite wall: their starts on the surface (R, 3), directions (R, 3) and lengths (R,); and
    the number of rays that were tried."""
    import igl

    # Points uniform on the surface, (N, 3): triangles drawn by area, and a uniform point in each. The seeds are fixed,
    # because a file has the same diagnosis in every run; there are two, so that the two draws are independent.
    areas = triangle_areas(corners)
    chosen = corners[np.random.default_rng(0).choice(len(faces), THICKNESS_SAMPLES, p=areas / areas.sum())]
    inward = -unit_normals(chosen)
    weights = np.random.default_rng(1).dirichlet([1, 1, 1], THICKNESS_SAMPLES)
    surface = np.einsum("nk,nkj->nj", weights, chosen)
    # Fewer rays where each passes most of the triangles' boxes.
    step = affordable_step(surface, corners, MOST_BOXES)
    surface, inward = surface[::step], inward[::step]
    # The rays start just below the surface, so that they do not hit their own triangle. hit (N,): face number or -1.
    tree = igl.AABB()
    tree.init(vertices, faces)
    hit, length, _ = tree.intersect_ray_first(vertices, faces, surface + JUST_BESIDE * inward, inward)
    # For -1 this reads the last face; `hit >= 0` leaves that out.
    across = np.einsum("ij,ij->i", inward, unit_normals(corners[hit]))
    opposite = (hit >= 0) & (across > OPPOSITE_COSINE)
    return surface[opposite], inward[opposite], length[opposite] + JUST_BESIDE, len(surface)
