"""Labelled points around a mesh: Importance, Surface, Uniform; the .npz file of samples."""

from neuralparts.sampling.samples import (
    draw_samples,
    importance_samples,
    load_samples,
    points_on_surface,
    save_samples,
    surface_samples,
    uniform_samples,
)

__all__ = [
    "draw_samples",
    "importance_samples",
    "load_samples",
    "points_on_surface",
    "save_samples",
    "surface_samples",
    "uniform_samples",
]
