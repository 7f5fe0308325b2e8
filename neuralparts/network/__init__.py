"""The network: `NeuralSDF`, its layers, the hash grid and the target scalers."""

from neuralparts.network.continuation import continue_outside
from neuralparts.network.hash_grid import HashGrid, threads_for
from neuralparts.network.hash_grid import interpolate as interpolate_hash_grid
from neuralparts.network.hash_grid_refit import RefitPoints, refit_finest_levels
from neuralparts.network.hash_grid_step import AdamMeans, HashGridStep, StepSamples, has_compiled_step
from neuralparts.network.hash_levels import PRIMES as HASH_PRIMES
from neuralparts.network.keras_file import read_keras_file
from neuralparts.network.layers import DAM_WIDTHS, SINE_FREQUENCY, initialise, make_layers
from neuralparts.network.matrix_products import (
    exact_products,
    gradient_dtype,
    gradient_products,
    is_rounded,
)
from neuralparts.network.model_file import read_tensors
from neuralparts.network.neural_sdf import NeuralSDF
from neuralparts.network.rounding import round_network
from neuralparts.network.scalers import LOGARITHM_BELOW, fit_scaler, inverse_of_each
from neuralparts.network.self_description import facts
from neuralparts.network.side_streams import SideStreams
from neuralparts.network.stacked_layers import StackedLayers, can_be_stacked
from neuralparts.network.unit_masks import FIRST_OFFSET, SPREAD, UnitMasks

__all__ = [
    "DAM_WIDTHS",
    "FIRST_OFFSET",
    "HASH_PRIMES",
    "LOGARITHM_BELOW",
    "SINE_FREQUENCY",
    "SPREAD",
    "AdamMeans",
    "HashGrid",
    "HashGridStep",
    "NeuralSDF",
    "RefitPoints",
    "SideStreams",
    "StackedLayers",
    "StepSamples",
    "UnitMasks",
    "can_be_stacked",
    "continue_outside",
    "exact_products",
    "facts",
    "fit_scaler",
    "gradient_dtype",
    "gradient_products",
    "has_compiled_step",
    "initialise",
    "interpolate_hash_grid",
    "inverse_of_each",
    "is_rounded",
    "make_layers",
    "read_keras_file",
    "read_tensors",
    "refit_finest_levels",
    "round_network",
    "threads_for",
]
