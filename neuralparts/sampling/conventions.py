"""What the signs of a samples file mean: negative inside, as everywhere in this package, or something else.

Two facts decide, and both hold for every closed shape in the cube [-1, 1]^3, whatever its form and wherever its samples
lie:

- A surface has samples on both sides. Labels of one sign, zeros not counted, describe no surface: unsigned distances,
  for instance, or the inside alone.
- A ball about a point that touches no surface lies on the point's side of it. If it reaches beyond the cube, then the
  point is outside, because the outside of the cube is. `reaching` is the number of such samples.

Statistics that look alike are not safe and are not used: how many samples are inside (a block that fills the cube has
nearly all), what the border's samples say without their distance (a block may touch the border), the mean, or the sign
of the largest label (of a thick block with few samples outside it is negative). A file with few samples far from the
surface decides nothing and is believed. So is one whose reaching samples are on both sides: an open shape or a
part of a larger one, which goes on beyond the cube.
"""

import numpy as np

from neuralparts.sampling.cube import ROUNDING

# Fewer reaching samples than this decide nothing: some labels of a file may be wrong.
_FEWEST_REACHING = 10
# A convention is recognised if at most this fraction of the reaching samples contradicts it.
_LARGEST_CONTRADICTION = 0.01


def why_no_surface(sdf: np.ndarray) -> str:
    """Why labels (N,) describe no surface, in words that follow a file's name, or ''."""
    inside, outside = bool((sdf < -ROUNDING).any()), bool((sdf > ROUNDING).any())
    if inside and outside:
        return ""
    if inside:
        return "no sample is outside (positive), so there is no surface to fit; sample both sides"
    if outside:
        return (
            "no sample is inside (negative), so there is no surface to fit: distances without a sign, or samples of "
            "one side alone; label the inside negative"
        )
    return "all distances are 0; label points on both sides of the surface, negative inside"


def positive_inside(points: np.ndarray, sdf: np.ndarray) -> bool:
    """True if samples, points (N, 3) and sdf (N,) of both signs, have their positive values inside.

    They do if the samples that must lie outside are labelled negative: all of them, but for a hundredth, and there are
    ten or more.
    """
    negative, positive = reaching(points, sdf)
    return negative >= _FEWEST_REACHING and positive <= _LARGEST_CONTRADICTION * (negative + positive)


def cut_fraction(points: np.ndarray, sdf: np.ndarray) -> float:
    """Fraction of the samples that must lie outside a closed shape and are labelled inside; 0 for too few of them.

    More than a hundredth are those of a shape that goes on beyond the cube.
    """
    negative, positive = reaching(points, sdf)
    if negative < _FEWEST_REACHING or negative <= _LARGEST_CONTRADICTION * (negative + positive):
        return 0.0
    return negative / (negative + positive)


def reaching(points: np.ndarray, sdf: np.ndarray) -> tuple[int, int]:
    """(negative, positive) samples whose distance is larger than that to the border of the cube: they lie outside.

    points (N, 3) float32, sdf (N,) float32, domain units.
    """
    # (N,) distance to the border of the cube, and how far beyond it the ball about the sample reaches.
    border = 1 - np.abs(points).max(axis=1)
    beyond = np.abs(sdf) > np.maximum(border, 0) + 2 * ROUNDING
    return int((beyond & (sdf < 0)).sum()), int((beyond & (sdf > 0)).sum())
