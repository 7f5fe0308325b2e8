"""What saves the search when its falls are wrong: following the surface, the audit, and the lower trust."""

import numpy as np

from neuralparts.marching import MarchResult, march_dense
from neuralparts.marching.cells import cell_table
from neuralparts.marching.falls import Falls
from neuralparts.marching.mesh_building import build_mesh
from neuralparts.marching.node_search import find_nodes
from neuralparts.marching.probe import Probe
from neuralparts.marching.sparse_field import SparseField
from neuralparts.marching.survey import survey
from tests.marching.surfaces import SHAPES, assert_same, balls, sphere, torus


class GivenFalls(Falls):
    """Falls by block size as they are given, not measured; sizes that are not given are measured."""

    def __init__(self, given, *arguments):
        super().__init__(*arguments)
        self.given = given

    def steepest(self, size, *sample):
        return self.given[size] if size in self.given else super().steepest(size, *sample)


def march_with(falls, function, resolution, seed=0, audited=True):
    """As `march`, with steepest falls that are given: a number for all block sizes, or {block size: number}."""
    probe, generator = Probe(function, resolution), np.random.default_rng(seed)
    nodes, values, slope = survey(probe)
    given = falls if isinstance(falls, dict) else dict.fromkeys((1, 2, 4, 8, 16), falls)
    field = SparseField(probe, GivenFalls(given, resolution, slope, generator), generator, (nodes, values))
    stats = find_nodes(field, cell_table().needed, audited)
    vertices, faces, _ = build_mesh(field.store, probe, float(np.median(np.abs(values))))
    return MarchResult(vertices, faces, stats)


def test_wrong_signs_of_nodes_between_stored_ones_are_corrected():
    # A fall of next to nothing over one cell: every node takes the sign that its neighbours agree on, through walls.
    shape, resolution = SHAPES["thin walls"]
    result = march_with({1: 1e-3}, shape, resolution)
    assert result.stats["corrected"] > 100 and result.stats["trust"] > 1.0
    assert_same(result, march_dense(shape, resolution), resolution)


def spike(points):
    """A ball, and a rod that does not show in the values around it, so no fall foresees it."""
    rod = (np.hypot(points[:, 1] - 0.74, points[:, 2] - 0.5) < 0.05) & (np.abs(points[:, 0]) < 0.8)
    return np.where(rod, np.float32(-0.02), sphere(0.4)(points))


def test_audit_finds_a_part_that_the_falls_deny():
    # No block looks at its corners before it is skipped: only the audit is left to find the rod.
    results = [march_with(1.1, spike, 64, seed) for seed in range(4)]
    audited = [result for result in results if result.stats["hits"]]
    assert audited
    for result in audited:
        assert result.stats["trust"] > 1.0
        assert_same(result, march_dense(spike, 64), 64)


def test_lower_trust_opens_blocks_that_were_skipped():
    # Small balls: with two thirds of the true slope some are skipped; with falls that are trusted less none is.
    shape = balls(0.03, 200, seed=3)
    dense = march_dense(shape, 64)
    result = march_with(0.67, shape, 64)
    assert result.stats["trust"] > 1.0
    assert_same(result, dense, 64)
    assert len(march_with(0.67, shape, 64, audited=False).faces) < len(dense.faces)


def test_surface_is_followed_through_skipped_blocks():
    # A torus of which one half seems far away, from outside: it is found from the other half, without an audit.
    shape = torus(0.6, 0.2)
    lying = lambda points: np.where((points[:, 0] > 0) & (shape(points) > 0), 40.0, 1.0) * shape(points)  # noqa: E731
    result = march_with(1.1, lying, 64, audited=False)
    assert result.stats["corrected"] > 0
    assert_same(result, march_dense(lying, 64), 64)
