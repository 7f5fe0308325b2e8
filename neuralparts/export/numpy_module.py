"""In work."""

from pathlib import Path

from neuralparts.network import NeuralSDF


def write_numpy_module(sdf: NeuralSDF, out: Path) -> list[Path]:
    """In work."""
    raise NotImplementedError
