"""The forms `npz` and `vti`: the distances at the nodes of a grid, for tools that take volumes.

In: a model and a number R of nodes along an edge. Out: R^3 float32 distances in file units, negative inside. The grid
spans the cube in which the part was fitted, with a margin around its bounding sphere. So all values are the network's
own, and the nodes are those that `march` visits at this resolution. Planes are computed and written one by one: memory
grows with R^2.
"""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from neuralparts.domain import grid_cell
from neuralparts.errors import UserError
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import whole_file


class Grid(NamedTuple):
    """Where the nodes of a grid lie, in file units: node (i, j, k) at origin + spacing * (i, j, k)."""

    origin: np.ndarray  # (3,) float64
    spacing: float
    resolution: int


def grid_of(sdf: NeuralSDF, resolution: int) -> Grid:
    """The grid of resolution^3 nodes over the model's cube. Raises UserError for a resolution below 2."""
    if resolution < 2:
        raise UserError(f"a grid needs 2 nodes along an axis or more; got {resolution}")
    transform = sdf.transform
    return Grid(transform.to_file(np.full(3, -1.0)), transform.length_to_file(grid_cell(resolution)), resolution)


def planes(sdf: NeuralSDF, resolution: int, order: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The planes of the grid one by one, each (R, R) float32 distances in file units.

    order: which axes change from plane to plane, from row to row, and within a row; 0 is x.
    """
    axis = np.linspace(-1.0, 1.0, resolution, dtype=np.float32)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    # (R^2, 3) nodes of a plane, domain.
    nodes = np.empty((resolution**2, 3), dtype=np.float32)
    nodes[:, order[1]], nodes[:, order[2]] = rows.ravel(), columns.ravel()
    for place in axis:
        nodes[:, order[0]] = place
        distances = sdf.transform.length_to_file(sdf.domain(nodes))
        yield distances.astype("<f4", copy=False).reshape(resolution, resolution)


def write_npz_grid(sdf: NeuralSDF, out: Path, resolution: int) -> list[Path]:
    """Write the grid as an .npz of numpy; returns [out].

    Its arrays: sdf (R, R, R) float32; origin (3,) and spacing (), float64. sdf[i, j, k] is the distance at
    origin + spacing * (i, j, k). Not compressed, since distances hardly shrink. Raises UserError for a resolution
    below 2, OSError.
    """
    grid = grid_of(sdf, resolution)
    with whole_file(out) as file, zipfile.ZipFile(file, "w") as archive:
        for name, value in (("origin", grid.origin), ("spacing", np.float64(grid.spacing))):
            with _member(archive, name) as member:
                np.lib.format.write_array(member, np.asarray(value))
        with _member(archive, "sdf") as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (resolution,) * 3}
            np.lib.format.write_array_header_1_0(member, header)
            for plane in planes(sdf, resolution, (0, 1, 2)):
                member.write(plane.tobytes())
    return [out]


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """An array of an .npz, open for writing; with the date of ZipInfo, so that equal grids make equal files."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def write_vti_grid(sdf: NeuralSDF, out: Path, resolution: int) -> list[Path]:
    """Write the grid as VTK's image data (ParaView, PyVista, 3D Slicer); returns [out].

    The point data `sdf`, float32, raw, appended to the XML. Raises UserError for a resolution below 2, OSError.
    """
    grid = grid_of(sdf, resolution)
    with whole_file(out) as file:
        file.write(_vti_header(grid).encode())
        file.write(struct.pack("<Q", 4 * resolution**3))
        for plane in planes(sdf, resolution, (2, 1, 0)):
            file.write(plane.tobytes())
        file.write(b"\n</AppendedData>\n</VTKFile>\n")
    return [out]


def _vti_header(grid: Grid) -> str:
    """The XML up to the mark `_`, after which the numbers begin."""
    extent = " ".join([f"0 {grid.resolution - 1}"] * 3)
    origin = " ".join(f"{place:.17g}" for place in grid.origin)
    spacing = " ".join([f"{grid.spacing:.17g}"] * 3)
    return f"""<?xml version="1.0"?>
<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
<ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{spacing}">
<Piece Extent="{extent}">
<PointData Scalars="sdf"><DataArray type="Float32" Name="sdf" format="appended" offset="0"/></PointData>
</Piece>
</ImageData>
<AppendedData encoding="raw">
_"""
