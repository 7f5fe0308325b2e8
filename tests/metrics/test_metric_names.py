"""The errors have the names, labels and units that the record and the pages take from `metric_names.py`."""

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from neuralparts.metric_names import METRIC_NAMES
from tests.metrics.domain_meshes import CELL, RADIUS, as_domain_mesh, ball, generator, sphere_function


def test_errors_have_the_names_of_the_metrics():
    shape = ball(RADIUS)
    mesh = as_domain_mesh(shape)
    oracle = DistanceOracle(mesh)
    of_function = metrics.point_errors(sphere_function(RADIUS), sphere_function(RADIUS), oracle, 1000, generator())
    of_mesh = metrics.mesh_errors(shape.vertices, shape.faces, mesh, oracle, 1000, generator(), CELL)
    assert not of_function.keys() & of_mesh.keys()
    assert of_function.keys() | of_mesh.keys() == METRIC_NAMES.keys()
