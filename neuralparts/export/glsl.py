"""In work."""

from pathlib import Path

from neuralparts.network import NeuralSDF


def write_glsl(sdf: NeuralSDF, out: Path) -> list[Path]:
    """In work."""
    raise NotImplementedError
