"""Labelled points around a mesh: Importance, Surface, Uniform; the .npz file of samples."""

from neuralparts.sampling.drawing import draw_samples
from neuralparts.sampling.importance import importance_samples
from neuralparts.sampling.near_surface import near_surface_samples
from neuralparts.sampling.pairs import pair_samples
from neuralparts.sampling.samples_file import load_samples, negative_inside, save_samples
from neuralparts.sampling.surface import points_on_surface, surface_normals, surface_samples
from neuralparts.sampling.uniform import uniform_samples

__all__ = [
    "draw_samples",
    "importance_samples",
    "load_samples",
    "near_surface_samples",
    "negative_inside",
    "pair_samples",
    "points_on_surface",
    "save_samples",
    "surface_normals",
    "surface_samples",
    "uniform_samples",
]
