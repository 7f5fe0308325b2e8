"""How wrong a fitted function and a reconstruction are, on points that training never saw.

Owns: the held-out errors of a function of the domain against the distance oracle of its mesh, and of a mesh against a
mesh. Comes in: a callable taking (N, 3) float32 points of the domain and returning (N,) signed distances, the oracle
(`distance.DistanceOracle`), a numpy Generator. Goes out: plain dictionaries of floats, lengths in domain units.
`python metrics.py MODEL MESH` prints them for a fitted model.

The errors surface_error, importance_error and grid_error are those of Davies, Nowrouzezahrai, Jacobson, On the
Effectiveness of Weight-Encoded Neural Implicit 3D Shapes (2020).
"""

import dataclasses

import numpy as np

from neuralparts.choices import IMPORTANCE_WEIGHT
from neuralparts.distance import DistanceOracle
from neuralparts.sampling import importance_samples, points_on_surface
from neuralparts.triangles import check_mesh_arrays, unit_normals

# Share of the input's surface that a reconstruction may lack before a user is told why.
MISSED = 0.01
# Points of the surface that are asked what a reconstruction lacks, and how many of those the function is asked about.
MISSED_SAMPLES, MISSED_ASKED = 5_000, 200
# Depths, in steps of this share of a cell, at which the function is asked above and below a point that is missed.
DEPTH_STEP, DEPTH_STEPS = 1 / 32, 64


def point_errors(domain_function, oracle, count, generator, importance_weight=IMPORTANCE_WEIGHT):
    """Errors of a function against an oracle, each on `count` fresh points.

    surface_error and surface_error_p99: mean and 99th percentile of |f| over points uniform by area on the surface;
    importance_error: mean |f - d| over importance samples of that weight; grid_error: mean |f - d| uniformly over the
    cube; iou: volume where both are inside over volume where one is, by points uniform in the mesh's bounding box
    (1.0 where neither is inside anywhere); sign_error: share of the importance samples on the wrong side.
    """
    on_surface = np.abs(domain_function(points_on_surface(oracle.mesh, count, generator)[0]))
    points, distances = importance_samples(oracle, count, generator, importance_weight=importance_weight)
    values = domain_function(points)
    cube = uniform_points(np.full(3, -1.0), np.full(3, 1.0), count, generator)
    return {
        "surface_error": float(on_surface.mean()),
        "surface_error_p99": float(np.percentile(on_surface, 99)),
        "importance_error": float(np.abs(values - distances).mean()),
        "sign_error": float(((values < 0) != (distances < 0)).mean()),
        "grid_error": mean_absolute_error(domain_function, cube, oracle.signed_distance(cube)),
        "iou": intersection_over_union(domain_function, oracle, count, generator),
    }


def sample_errors(domain_function, points, distances):
    """Errors on labelled points alone, where there is no mesh: points (N, 3), distances (N,), kept from training.

    importance_error: mean |f - d|; sign_error: share on the wrong side.
    """
    values = domain_function(points)
    return {
        "importance_error": float(np.abs(values - distances).mean()),
        "sign_error": float(((values < 0) != (distances < 0)).mean()),
    }


def grid_points(resolution):
    """The nodes of the grid of resolution^3 that spans the domain: (resolution^3, 3) float32."""
    if resolution < 2:
        raise ValueError(f"a grid needs at least 2 nodes along an edge, got {resolution}")
    line = np.linspace(-1.0, 1.0, resolution, dtype=np.float32)
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)


def mean_absolute_error(domain_function, points, distances):
    """Mean |f - d| over labelled points, such as those of `grid_points`: float, domain units."""
    return float(np.abs(domain_function(points) - distances).mean())


def uniform_points(low, high, count, generator):
    """(count, 3) float32 points uniform in the box from low (3,) to high (3,)."""
    return generator.uniform(low, high, (count, 3)).astype(np.float32)


def intersection_over_union(domain_function, oracle, count, generator):
    """Volume of the intersection over that of the union, by points uniform in the bounding box of the oracle's mesh."""
    vertices = oracle.mesh.vertices
    points = uniform_points(vertices.min(axis=0), vertices.max(axis=0), count, generator)
    fitted, true = domain_function(points) < 0, oracle.inside(points)
    union = (fitted | true).sum()
    return float((fitted & true).sum() / union) if union else 1.0


def mesh_errors(vertices, faces, mesh, oracle, count, generator, cell):
    """Errors of a reconstruction, vertices (V, 3) in the domain and faces (F, 3), against the input mesh.

    `count` points uniform by area on each of the two meshes are projected on the other. chamfer: the mean of the two
    mean distances; hausdorff: the largest of all distances (of the sample: a bound from below); normal_consistency: the
    mean |cosine| between the normals of a point's triangle and of the triangle it is projected on; missed_surface: the
    share of the input's points farther than `cell`, the edge of a grid cell, from the reconstruction. Domain units.
    """
    reconstruction = as_mesh(vertices, faces, mesh)
    there, cosine_there = project(reconstruction, oracle, count, generator)
    back, cosine_back = project(mesh, DistanceOracle(reconstruction, oracle.engine), count, generator)
    return {
        "chamfer": float((there.mean() + back.mean()) / 2),
        "hausdorff": float(max(there.max(), back.max())),
        "normal_consistency": float((cosine_there.mean() + cosine_back.mean()) / 2),
        "missed_surface": float((back > cell).mean()),
    }


def explain_missed(domain_function, vertices, faces, oracle, generator, cell):
    """One line on why a reconstruction (as for `mesh_errors`) lacks a part of the oracle's mesh: the commonest reason.

    Either the mesh has one side there (a face within a union of bodies, an open sheet), or the function changes its
    sign there as the mesh does and the wall or the gap is too thin for the grid, or the function does not. '' where no
    point in 5,000 is farther than `cell`, an edge of the grid's cells, from the reconstruction.
    """
    mesh = oracle.mesh
    points, face = points_on_surface(mesh, MISSED_SAMPLES, generator)
    missed = DistanceOracle(as_mesh(vertices, faces, mesh), oracle.engine).distance(points) > cell
    if not missed.any():
        return ""
    points, face = points[missed][:MISSED_ASKED], face[missed][:MISSED_ASKED]
    normals = unit_normals(mesh.vertices[mesh.faces[face]])
    step = DEPTH_STEP * cell

    depths = step * np.arange(1, DEPTH_STEPS + 1)[:, None, None]
    beneath, over = (points + (side * depths * normals) for side in (-1.0, 1.0))  # (depths, points, 3)
    two_sided = oracle.inside(beneath[0]) != oracle.inside(over[0])

    def right_signs(places, side):
        """How many of the places, from the surface on, have the right sign before one has not."""
        values = domain_function(places.reshape(-1, 3).astype(np.float32)).reshape(len(places), -1)
        return np.logical_and.accumulate(side * values > 0, axis=0).sum(axis=0)

    below, above = right_signs(beneath, -1.0), right_signs(over, 1.0)
    known = two_sided & (below > 1) & (above > 1)
    head = f"the reconstruction lacks {missed.mean():.0%} of the surface, by more than a cell of the grid"
    reasons = {
        "one side": (~two_sided).sum(),
        "thin": known.sum(),
        "unlearnt": (two_sided & ~known).sum(),
    }
    reason = max(reasons, key=reasons.get)
    if reason == "one side":
        return f"{head}: most of it bounds no inside (faces within a union of bodies, open sheets)"
    if reason == "unlearnt":
        return f"{head}, most of which the network has not learnt: more samples or a larger network may help"
    thinnest = step * np.percentile(np.minimum(below, above)[known], 10)
    return (
        f"{head}, which the network has: walls or gaps are thinner than a cell, most are seen from about "
        f"--reconstructionRes {int(np.ceil(2.0 / thinnest)) + 1:,} on; marching.py makes that mesh without another fit"
    )


def as_mesh(vertices, faces, mesh):
    """A geometry.Mesh of a reconstruction, with the transform of the input mesh."""
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    check_mesh_arrays(vertices, faces)
    return dataclasses.replace(mesh, vertices=vertices, faces=faces, closed=True, diagnosis={})


def project(mesh, oracle, count, generator):
    """Points uniform on a mesh, projected on the mesh of an oracle: distances (count,), |cosines| of the normals."""
    points, start = points_on_surface(mesh, count, generator)
    _, end, distances = oracle.closest(points)
    on, onto = (unit_normals(part.vertices[part.faces[index]]) for part, index in ((mesh, start), (oracle.mesh, end)))
    cosines = (on * onto).sum(axis=1)
    return distances.astype(np.float64), np.abs(cosines)
