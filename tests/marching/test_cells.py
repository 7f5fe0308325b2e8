"""The table of cells against scikit-image, for values of many sizes."""

import numpy as np

from neuralparts.marching.cells import cell_table, march_cells


def test_the_table_holds_for_all_values_except_in_ambiguous_cells():
    table = cell_table()
    sizes = np.random.default_rng(4).uniform(0.01, 1.0, (6, 256, 2, 2, 2)).astype(np.float32)
    outside = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool).reshape(-1, 2, 2, 2)
    varied = np.zeros(256, dtype=bool)
    for values in np.where(outside, sizes, -sizes):
        cells, codes, _, faces = march_cells(values)
        for cell in range(256):
            found = codes[faces[cells[faces[:, 0]] == cell]]
            known = table.edges[cell, : 3 * table.triangles[cell]].reshape(-1, 3)
            varied[cell] |= not np.array_equal(found, known)
    assert np.array_equal(varied, table.ambiguous)


def test_corners_that_a_cell_needs():
    needed = cell_table().needed
    # All inside: none. Corner 0 outside: itself and the three at the other ends of its edges. Ambiguous: all.
    assert needed[0] == 0 and needed[1] == 0b00010111 and needed[0b1001] == 255
