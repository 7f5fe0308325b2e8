"""Which nodes of a grid a surface needs: evaluates those, and assumes a sign for each of the others.

Afterwards both ends of every edge of the grid that the surface crosses are evaluated, and all corners of cells in which
the values, not the signs alone, decide what is connected. The search goes from coarse to fine:

- `descent.py`: cubic blocks of cells, from R/16 cells along an edge down to 8. A block is skipped if the function at
  its centre is farther from the level than it can fall within the block (`falls.py`). The others are halved.
- `carving.py`: bricks of 8^3 nodes for the blocks that are left. Each evaluated node gives its sign to the nodes around
  it, as far as the function cannot fall to the level. The others are evaluated lattice by lattice, from wide to narrow.
- `following.py`: both ends of a crossed edge are evaluated. A sign that differs from the assumed one opens the next
  cells, so the mesh is closed whatever was assumed, and a surface that was touched is followed to its end.
- `audit.py`: a random sample of the nodes that were skipped is evaluated. If one has the wrong sign (a *hit*), the
  measured falls are trusted less, and the search is repeated with what that opens.
"""

import numpy as np

from neuralparts.marching.audit import audit, reopen
from neuralparts.marching.carving import resolve
from neuralparts.marching.descent import descend, grid_of_blocks
from neuralparts.marching.falls import largest_block
from neuralparts.marching.following import contradicted_bricks, follow
from neuralparts.marching.sparse_field import SparseField

# Corrected signs, as a fraction of the evaluated nodes, from which on the falls are trusted less, as after a hit: 1e-5
# at most for fitted networks except those of sines; 6e-5 and more if crumbs of walls thinner than a cell were missed.
DOUBT = 2e-5


def find_nodes(field: SparseField, needed: np.ndarray, audited: bool = True) -> dict:
    """The whole search: fills `field.store` until each crossed cell has the values that it needs.

    needed (256,) uint8: the corners whose values a cell needs, as bits, by the signs of its corners. audited: False
    searches once, and neither audits nor doubts the result. Returns the stats of `march` from audited to falls. Raises
    MemoryBoundError.
    """
    counts = {"audited": 0, "hits": 0, "corrected": 0}
    resolution = field.probe.resolution
    opened = {largest_block(resolution): grid_of_blocks(resolution, largest_block(resolution))}
    while opened is not None:
        descend(field, opened)
        resolve(field)
        field.slots(contradicted_bricks(field.store))
        corrected = follow(field, np.arange(field.store.used), needed)
        counts["corrected"] += corrected
        opened = None
        if audited:
            number, hits = audit(field)
            counts["audited"] += number
            counts["hits"] += len(hits)
            if len(hits) or corrected > DOUBT * field.probe.evaluated:
                opened = reopen(field, hits)
    falls = {size: float(falls.max()) for size, falls in field.falls.by_size.items()}
    return counts | {"trust": field.falls.trust, "falls": falls}
