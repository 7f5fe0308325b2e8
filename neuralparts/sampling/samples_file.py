"""The .npz file of samples.

Keys: train (N, 4) float32 x, y, z, sdf in the domain; center (3,) and scale () float64, domain = (file - center) *
scale. Both of them may be missing: the file is then in domain units.
"""

import os
from typing import BinaryIO

import numpy as np

from neuralparts.domain import Transform
from neuralparts.errors import UserError
from neuralparts.sampling.array_archive import read_arrays
from neuralparts.sampling.conventions import cut_fraction, positive_inside, why_no_surface
from neuralparts.sampling.cube import ROUNDING
from neuralparts.whole_file import whole_file
from neuralparts.wording import quoted


def save_samples(path: str | os.PathLike, points: np.ndarray, sdf: np.ndarray, transform: Transform) -> None:
    """Write labelled points (N, 3), sdf (N,) and the Transform as .npz, whole or not at all. Raises OSError."""
    train = np.column_stack([points, sdf]).astype(np.float32, copy=False)
    with whole_file(path) as file:
        np.savez(file, train=train, center=np.asarray(transform.center), scale=np.float64(transform.scale))


def load_samples(
    path: str | os.PathLike, open_file: BinaryIO | None = None
) -> tuple[np.ndarray, np.ndarray, Transform]:
    """Read a .npz of samples: points (N, 3) float32, sdf (N,) float32, domain units, and the Transform.

    open_file: the file, if it is open already; path then only names it in messages. A file without center and scale has
    the identity map: its units are domain units. The signs are as the file has them; see `negative_inside`. Raises
    UserError if the file cannot be read or does not hold such samples.
    """
    try:
        arrays = read_arrays(open_file or path, ("train", "center", "scale"))
    except ValueError as error:
        raise UserError(f"{path}: not a readable .npz of plain arrays ({error})") from None
    if "train" not in arrays:
        raise UserError(f"{path}: no array named train; samples need train (N, 4): x, y, z, sdf")
    train = _checked_train(path, arrays["train"])
    return np.ascontiguousarray(train[:, :3]), np.ascontiguousarray(train[:, 3]), _read_transform(path, arrays)


def negative_inside(path: str | os.PathLike, points: np.ndarray, sdf: np.ndarray) -> tuple[np.ndarray, str]:
    """The labels of a file in this package's convention, (N,) float32, and a line for the user if there is something
    to say, or ''.

    points (N, 3) float32 and sdf (N,) float32, domain units, as `load_samples` gives them. Labels that are positive
    inside change sign; `conventions` says how they are recognised. Raises UserError for labels of one sign.
    """
    if reason := why_no_surface(sdf):
        raise UserError(f"{path}: {reason}")
    if positive_inside(points, sdf):
        return -sdf, f"{path}: its distances are positive inside; their signs were changed"
    if fraction := cut_fraction(points, sdf):
        cut = "the shape goes on beyond the cube, which cuts it"
        return sdf, f"{path}: {fraction:.0%} of the samples far from the surface and near the border are inside: {cut}"
    return sdf, ""


def _checked_train(path: str | os.PathLike, train: np.ndarray) -> np.ndarray:
    """The array of samples as (N, 4) float32. Raises UserError that names its fault."""
    if train.ndim != 2 or train.shape[1] != 4 or len(train) == 0 or train.dtype.kind != "f":
        raise UserError(
            f"{path}: train must be (N, 4) float32 (x, y, z, sdf), found {quoted(train.shape)} {train.dtype}"
        )
    with np.errstate(over="ignore"):  # a float64 too large becomes infinite, which is refused
        train = train.astype(np.float32, copy=False)
    if not np.isfinite(train).all():
        raise UserError(f"{path}: train holds NaN or infinite values; label those points again or drop them")
    largest = float(np.abs(train[:, :3]).max())
    if largest > 1 + ROUNDING:
        raise UserError(
            f"{path}: points lie outside the domain [-1, 1]^3 (a coordinate of {largest:.6g}); store domain = "
            "(file - center) * scale, and center and scale beside it"
        )
    return train


def _read_transform(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> Transform:
    """The Transform of a samples file, or the identity. Raises UserError."""
    if ("center" in arrays) != ("scale" in arrays):
        raise UserError(f"{path}: center and scale belong together; store both or neither")
    if "center" not in arrays:
        return Transform(np.zeros(3), 1.0)
    center, scale = arrays["center"], arrays["scale"]
    numbers = center.dtype.kind in "fiu" and scale.dtype.kind in "fiu"
    if not numbers or center.shape != (3,) or scale.size != 1:
        raise UserError(
            f"{path}: center must be (3,) and scale () numbers, found {quoted(center.shape)} and {quoted(scale.shape)}"
        )
    center, scale = center.astype(np.float64), float(scale.reshape(()))
    if not (np.isfinite(center).all() and np.isfinite(scale) and scale > 0):
        raise UserError(f"{path}: center must be finite and scale positive, found {center.tolist()} and {scale}")
    return Transform(center, scale)
