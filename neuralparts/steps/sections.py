"""The section through a network, for pictures."""

import numpy as np

from neuralparts.domain import DOMAIN_RADIUS
from neuralparts.network import NeuralSDF
from neuralparts.report import Section, cut_section

# Values of the network along a side of the section: half of the pixels, between which distances are smooth.
SECTION_VALUES = 168


def section_through(network: NeuralSDF, mesh: tuple[np.ndarray, np.ndarray] | None) -> Section:
    """The section through the middle of a mesh, vertices (V, 3) and faces (F, 3); of the domain if there is no mesh.

    File units.
    """
    corners = network.transform.to_file(np.array([[-DOMAIN_RADIUS] * 3, [DOMAIN_RADIUS] * 3]))
    bounds = corners if mesh is None else np.stack([mesh[0].min(axis=0), mesh[0].max(axis=0)])
    return cut_section(network, bounds, mesh, SECTION_VALUES)
