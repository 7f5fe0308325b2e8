"""One mesh in, one small network out whose zero level is that mesh.

    from neuralparts import NeuralSDF
    sdf = NeuralSDF.load("part.safetensors")
    sdf(points)     # (..., 3) in file units -> (...) signed distances in file units, negative inside

Each stage is a folder of this package: mesh_files, mesh, distance, sampling, network, fitting, marching, metrics,
report, output, export, fleet. `part.fit_part` is the way of one part through all of them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuralparts.network import NeuralSDF

__all__ = ["NeuralSDF", "__version__"]

__version__ = "1.0.0"


def __getattr__(name: str) -> object:
    """Import torch only when the network is asked for, so that `--help` does not wait for it."""
    if name == "NeuralSDF":
        from neuralparts.network import NeuralSDF

        return NeuralSDF
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
