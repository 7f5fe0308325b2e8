"""One stream of random numbers for each purpose of a fit."""

import numpy as np

# The place in this tuple is part of the seed, so that no purpose changes when another draws more: add at the end only.
STREAMS = (
    "samples",
    "held_out",
    "metrics",
    "marching",
    "mesh_metrics",
    "missed",
    "pairs",
    "off_surface",
    "rounding",
    "normals",
    "near",
)


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose of STREAMS."""
    return np.random.default_rng([seed, STREAMS.index(purpose)])
