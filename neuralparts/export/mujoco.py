"""In work."""

from pathlib import Path

from neuralparts.network import NeuralSDF


def write_mujoco_plugin(sdf: NeuralSDF, out: Path) -> list[Path]:
    """In work."""
    raise NotImplementedError


def build_command(source: Path) -> str:
    """In work."""
    raise NotImplementedError
