"""Edges, components and equal rows against slow twins in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix, csgraph

from neuralparts.mesh import EdgeTable
from neuralparts.mesh.topology import connected_components, corner_parity, drop_unused_vertices, equal_rows, flip_faces
from tests.meshes import box, directed_edge_balance, sphere, together

seeds = st.integers(0, 2**32 - 1)


def random_faces(seed, count=40, vertices=9):
    """Faces of three different vertices each, many with edges in common."""
    generator = np.random.default_rng(seed)
    return np.array([generator.choice(vertices, 3, replace=False) for _ in range(count)])


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_edge_table_against_a_dictionary(seed):
    faces = random_faces(seed)
    table, sides = EdgeTable(faces), {}
    for face, corners in enumerate(faces.tolist()):
        for k in range(3):
            a, b = corners[k], corners[(k + 1) % 3]
            sides.setdefault((min(a, b), max(a, b)), []).append((face, k, 1 if a < b else -1))
    assert len(table.uses) == len(sides)
    for number, edge in enumerate(sorted(sides)):
        uses = sides[edge]
        assert all(table.edge[face, k] == number and table.direction[face, k] == way for face, k, way in uses)
        assert table.uses[number] == len(uses) and table.balance[number] == sum(way for _, _, way in uses)
    double = [uses for _, uses in sorted(sides.items()) if len(uses) == 2]
    pairs, clash = table.pairs()
    assert pairs.tolist() == [[uses[0][0], uses[1][0]] for uses in double]
    assert clash.tolist() == [uses[0][2] == uses[1][2] for uses in double]


def test_edge_table_of_a_closed_mesh():
    table = EdgeTable(sphere(2)[1])
    assert (table.uses == 2).all() and (table.balance == 0).all() and not table.pairs()[1].any()
    assert len(table.uses) == 480  # Euler: V - E + F = 162 - 480 + 320 = 2


@pytest.mark.parametrize("faces", [box()[1], box()[1][:-1], random_faces(3)])
def test_balance_is_that_of_directed_edges(faces):
    assert (EdgeTable(faces).balance == 0).all() == directed_edge_balance(faces)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_connected_components_against_spreading_labels(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 30, (2, 20))
    label = list(range(30))
    for _ in range(30):
        for a, b in zip(first, second, strict=True):
            label[a] = label[b] = min(label[a], label[b])
    found = connected_components(first, second, 30)
    assert ((found[:, None] == found) == (np.array(label)[:, None] == label)).all()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([np.float64, np.int64]))
def test_equal_rows_against_a_dictionary(seed, dtype):
    rows = np.random.default_rng(seed).integers(-1, 2, (60, 3)).astype(dtype)
    group, first = equal_rows(rows * dtype(-1))  # -1 * 0.0 is -0.0
    numbers = {}
    expected = [numbers.setdefault(tuple(row), len(numbers)) for row in rows.tolist()]
    assert group.tolist() == expected and first.tolist() == [expected.index(k) for k in range(len(numbers))]


def test_zeros_of_both_signs_are_equal():
    assert equal_rows(np.array([[0.0, 1, 2], [-0.0, 1, 2]]))[0].tolist() == [0, 0]


def test_unused_vertices_are_dropped_in_order():
    vertices, faces = together((np.full((2, 3), 9.0), np.zeros((0, 3), int)), box())
    kept, renamed = drop_unused_vertices(vertices, faces)
    assert np.array_equal(kept, box()[0]) and np.array_equal(renamed, box()[1])


def test_flipped_faces_have_the_other_parity_and_flip_back():
    faces, chosen = random_faces(1), np.arange(40) % 3 == 0
    flipped = flip_faces(faces, chosen)
    assert ((corner_parity(flipped) != corner_parity(faces)) == chosen).all()
    assert np.array_equal(flip_faces(flipped, np.flatnonzero(chosen)), faces)
    assert np.array_equal(corner_parity(np.roll(faces, 1, axis=1)), corner_parity(faces))


@pytest.mark.parametrize("count, links", [(1, 0), (5, 3), (300, 150), (300, 290), (300, 2000)])
def test_components_are_those_of_scipy_in_the_same_order(count, links):
    first, second = np.random.default_rng(count + links).integers(0, count, (2, links))
    graph = coo_matrix((np.ones(links, bool), (first, second)), (count, count))
    found = connected_components(first, second, count)
    assert np.array_equal(found, csgraph.connected_components(graph, directed=False)[1]) and len(found) == count
