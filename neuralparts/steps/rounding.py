"""The rounding of a fitted network to the numbers that --precision keeps."""

import numpy as np

from neuralparts.inputs import Shape
from neuralparts.network import NeuralSDF, round_network
from neuralparts.random_streams import random_stream
from neuralparts.sampling import points_on_surface
from neuralparts.wording import say

# Points where the error is measured that int8 may raise: of the surface, or of a samples file those kept from training.
ROUNDING_POINTS = 20_000


def round_fitted(network: NeuralSDF, shape: Shape, precision: str, seed: int) -> None:
    """Round a fitted network in place to what its file will hold. Raises UserError for numbers too large for that."""
    if precision == "float32":
        return
    if shape.mesh is not None:
        points = points_on_surface(shape.mesh, ROUNDING_POINTS, random_stream(seed, "rounding"))[0]
        distances = np.zeros(len(points), np.float32)
    else:
        points, distances = (array[:ROUNDING_POINTS] for array in shape.kept)
    round_network(network, precision, points, distances)
    bits = 8 * network.precision.bytes / network.parameter_count
    say(f"rounded to {precision}: {network.precision.bytes:,} bytes, {bits:.2f} bits a number")
