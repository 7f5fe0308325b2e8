"""The published weight-encoded networks that lie beside the checkout. Davies, Nowrouzezahrai, Jacobson (2020)."""

from pathlib import Path

from neuralparts.network import NeuralSDF, read_keras_file

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "published"


def published_networks(folder: Path = FOLDER) -> dict[str, NeuralSDF]:
    """{name: model} of all .h5 files of a folder; empty if there are none."""
    return {path.stem: read_keras_file(path) for path in sorted(Path(folder).glob("*.h5"))}
