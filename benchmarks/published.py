"""Reads the published weight-encoded networks (Keras HDF5: 8 ReLU layers of 32, tanh at the end) as torch modules.

In: an .h5 file of layers in order, each with a kernel (inputs, outputs) and a bias. Out: a module that takes (N, 3)
float32 points of [-1, 1]^3 and returns (N, 1) values, negative inside. Davies, Nowrouzezahrai, Jacobson (2020).
"""

from pathlib import Path

import h5py
import numpy as np
import torch

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "published"


def read_published(path: Path) -> torch.nn.Sequential:
    """The network of one file."""
    modules = []
    with h5py.File(path) as file:
        for name in file.attrs["layer_names"]:
            name = name.decode() if isinstance(name, bytes) else name
            kernel, bias = (np.asarray(file[f"{name}/{name}/{part}:0"]) for part in ("kernel", "bias"))
            layer = torch.nn.Linear(*kernel.shape)
            layer.load_state_dict({"weight": torch.from_numpy(kernel.T.copy()), "bias": torch.from_numpy(bias)})
            modules += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1], torch.nn.Tanh())


def published_networks(folder: Path = FOLDER) -> dict[str, torch.nn.Sequential]:
    """{name: network} of all .h5 files of a folder; empty if there are none."""
    return {path.stem: read_published(path) for path in sorted(Path(folder).glob("*.h5"))}
