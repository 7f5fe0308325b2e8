"""Labels of the CUDA simulator beside those of the CPU: a program of its own, as a variable decides when numba starts.

`python -m tests.distance.simulated_gpu COUNT MESH...` prints as JSON for each mesh how far both differ at 4 COUNT
points on and around it; why the twins of wrong labels are refused; and how far the random numbers of both differ.
"""

import json
import os
import sys

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import numpy as np
from numba import cuda

from neuralparts.distance import device_kernels
from neuralparts.distance.device_labels import DeviceSearch, DeviceWinding, checked_twin
from neuralparts.distance.search import TriangleSearch
from neuralparts.distance.winding import INSIDE_ABOVE, WindingNumber
from neuralparts.errors import UserError
from neuralparts.sampling import draw_kernels
from tests.distance.brute import as_mesh, box, brute_distance, joined, points_around, soup, torus, without
from tests.distance.test_bin_kernels import in_domain
from tests.hostile_meshes import SHAPES


def small_torus():
    """A torus of 192 triangles: in the simulator a point takes milliseconds, and of an open mesh some for each edge."""
    return torus(around=16, across=6)


MESHES = {
    "closed": lambda generator: small_torus(),
    "short boundary": lambda generator: without(small_torus(), range(10)),
    "long boundary": lambda generator: without(small_torus(), range(0, len(small_torus().faces), 3)),
    "overlapping": lambda generator: joined(small_torus(), box()),
    "soup": lambda generator: soup(generator, 30),
}


def main(count, *names):
    generator = np.random.default_rng(3)
    found = {name: differences(MESHES[name](generator), int(count), generator) for name in names}
    crowd = in_domain(SHAPES["soup"](2000))
    refused = [
        refusal(Wrong(box().vertices, box().faces), box()),
        refusal(Flipped(box()), box()),
        refusal(TriangleSearch(crowd.vertices, crowd.faces), crowd),
    ]
    print(json.dumps({"differences": found, "refused": refused, "draws": difference_of_draws()}))


def differences(mesh, count, generator):
    """Of one mesh: the largest differences, and the number of signs that differ."""
    points = points_around(mesh, count, generator)
    search, winding = TriangleSearch(mesh.vertices, mesh.faces), WindingNumber(mesh, exact_boundary=10_000)
    # Two batches, of different length.
    twin, expected = DeviceSearch(search, 0, batch=len(points) // 2 + 1), search.nearest(points)
    closest, face, distance = twin.nearest_on_gpu(points, True)
    numbers = DeviceWinding(winding, 0, batch=len(points) // 2 + 1).winding_on_gpu(points)
    own = [
        brute_distance(closest[i : i + 1], as_mesh(mesh.vertices[mesh.faces[face[i]]], [[0, 1, 2]]))
        for i in range(len(points))
    ]
    return {
        "closest": float(np.abs(closest - expected[0]).max()),
        "distance": float(np.abs(distance - expected[2]).max()),
        "closest from its face": float(np.max(own)),
        "distance in runs": float(np.abs(in_runs(twin, points) - expected[2]).max()),
        "winding": float(np.abs(numbers - winding(points)).max()),
        "signs": int(np.count_nonzero((numbers > INSIDE_ABOVE) != winding.inside(points))),
    }


def in_runs(twin, points):
    """(N,) distances of the points if each thread takes four of them."""
    position, distance = np.empty(len(points), np.int32), np.empty(len(points), np.float32)
    points = points.astype(np.float64)
    outputs = position, np.empty((0, 3), np.float32), distance
    device_kernels.search_points[-(-len(points) // 256), 64](points, 4, *twin.arrays, *outputs)
    return distance


def difference_of_draws(count=64):
    """Largest difference between the random numbers of the simulated GPU and of the CPU."""
    numbers = device_kernels.device_function(draw_kernels.random_numbers)

    @cuda.jit
    def fill(key, drawn):
        k = cuda.grid(1)
        if k < len(drawn):
            drawn[k, 0], drawn[k, 1], drawn[k, 2], drawn[k, 3] = numbers(key, np.uint64(k))

    key, drawn = np.uint64(2**63 + 1), np.empty((count, 4))
    with np.errstate(over="ignore"):  # the simulator computes with numpy's numbers, which warn where they wrap around
        fill[1, count](key, drawn)
    return float(np.abs(drawn - [draw_kernels.random_numbers(key, np.uint64(k)) for k in range(count)]).max())


class Wrong(TriangleSearch):
    """A search that the GPU's does not agree with."""

    def nearest(self, *arguments):
        closest, face, distance = super().nearest(*arguments)
        return closest, face, distance + np.float32(1e-4)


class Flipped(WindingNumber):
    """A winding number that the GPU's does not agree with."""

    def inside(self, points):
        return ~super().inside(points)


def refusal(labeller, mesh):
    """Why a labeller has no twin, or ''."""
    try:
        checked_twin(labeller, 0, mesh.vertices)
    except UserError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
