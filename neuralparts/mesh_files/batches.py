"""Rows in batches, so that an encoder holds a few MiB of its file at a time."""

from collections.abc import Iterator

import numpy as np

ROWS_PER_BATCH = 2**16


def in_batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """(N, ...) rows -> views of them, each of ROWS_PER_BATCH rows or fewer, in order."""
    return (rows[start : start + ROWS_PER_BATCH] for start in range(0, len(rows), ROWS_PER_BATCH))
