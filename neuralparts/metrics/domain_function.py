"""The kind of function that the metrics measure."""

from collections.abc import Callable

import numpy as np

# (N, 3) float32 points of the domain -> (N,) signed distances, domain units.
DomainFunction = Callable[[np.ndarray], np.ndarray]
