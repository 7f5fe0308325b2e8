"""The compiled loops over nodes against loops that look at one node at a time."""

import itertools

import numpy as np

from neuralparts.marching.bricks import OUTSIDE, has_bit, lattice_words, node_words
from neuralparts.marching.node_kernels import FARTHEST_SQUARE, ball_widths, carve, unknown_nodes
from neuralparts.marching.node_store import NodeStore


def stored(values):
    """A store with all bricks of an array of nodes (n, n, n); those that are not NaN are evaluated."""
    store, side = NodeStore(len(values) - 4), len(values) // 8
    bricks = np.array(list(itertools.product(range(side), repeat=3)), dtype=np.int32)
    store.allocate(bricks, 0)
    nodes = np.argwhere(np.isfinite(values)).astype(np.int32)
    store.put(nodes, values[tuple(nodes.T)])
    return store


def carved_slowly(values, lattice, bounds):
    """The signs that `carve` should give to each node that is not evaluated, node by node: {node: {signs}}."""
    signs = {}
    for node in np.argwhere(np.isfinite(values) & lattice):
        value = values[tuple(node)]
        if abs(value) >= OUTSIDE:
            continue
        for step in itertools.product(range(-3, 4), repeat=3):
            square, beside = np.dot(step, step), tuple(node + step)
            within = 0 < square <= FARTHEST_SQUARE and min(beside) >= 0 and max(beside) < len(values)
            if within and abs(value) > bounds[square] and np.isnan(values[beside]):
                signs.setdefault(beside, set()).add(value > 0)
    return signs


def test_carve_gives_the_signs_that_a_slow_loop_gives():
    generator = np.random.default_rng(3)
    values = generator.choice([-9.0, -2.0, 0.3, 1.2, 6.0, np.nan], (16, 16, 16), p=[0.01, 0.02, 0.02, 0.02, 0.01, 0.92])
    values = values.astype(np.float32)
    values[[0, 13, 14, 15]] = values[:, [0, 13, 14, 15]] = values[:, :, [0, 13, 14, 15]] = OUTSIDE
    store, lattice = stored(values), (np.indices(values.shape) % 2 == 1).any(axis=0)
    words = node_words(lattice[None, :8, :8, :8])[0]
    bounds = np.sqrt(np.arange(FARTHEST_SQUARE + 1)).astype(np.float32)
    region = np.zeros(store.used, np.intp)
    carve(store.bricks, words, bounds[None], region, ball_widths(), 0, store.used)
    expected, nodes = carved_slowly(values, lattice, bounds), np.argwhere(np.isnan(values)).astype(np.int32)
    places = store.locate(nodes)
    outside, inside = (has_bit(words, places) for words in (store.outside, store.inside))
    signs = zip(nodes, outside, inside, strict=True)
    found = {tuple(node): {sign for sign, said in ((True, a), (False, b)) if said} for node, a, b in signs if a | b}
    assert found == expected
    assert sum(len(signs) == 2 for signs in expected.values()) > 10 and len(expected) > 500


def test_unknown_nodes_are_those_without_a_sign_or_with_both():
    values = np.full((16, 16, 16), np.nan, np.float32)
    values[::3, 1::2, ::5] = 1.0
    store, axis = stored(values), np.linspace(-1, 1, 12).astype(np.float32)
    store.outside[:2, 4] |= np.uint64(255)
    store.inside[0, 4] |= np.uint64(15)
    places, points = unknown_nodes(store.bricks, lattice_words((0, 0, 0), 2), axis, 0, 8)
    every = np.argwhere(np.isnan(values)).astype(np.int32)
    outside, inside = (has_bit(words, store.locate(every)) for words in (store.outside, store.inside))
    within = ((every >= 1) & (every <= 12)).all(axis=1) & (every % 2 == 0).all(axis=1)
    nodes = every[within & (outside == inside)]
    assert np.array_equal(np.sort(places), np.sort(store.locate(nodes)))
    assert np.array_equal(points[np.argsort(places)], axis[nodes[np.argsort(store.locate(nodes))] - 1])
