"""Prints the code of the kernels for a GPU of compute capability 9.0, as JSON of PTX by name; no GPU is needed."""

import json
from types import SimpleNamespace

import numba.cuda.dispatcher
from numba import cuda, types

from neuralparts.distance import device_kernels

CAPABILITY = (9, 0)
# A function that is called by a kernel is compiled for the GPU that is there.
numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITY)

double, single, long, short = (
    {n: types.Array(of, n, "C") for n in (1, 2)} for of in (types.float64, types.float32, types.int64, types.int32)
)
SEARCH = (double[2], types.int64, double[2], short[1], short[1], double[2], short[1], single[2], single[1])
WINDING = (double[2], types.int64, double[1], double[2], long[1], short[1], double[1], types.int64)
KERNELS = {
    device_kernels.search_points: SEARCH,
    device_kernels.winding_of_points: (*WINDING, double[2], double[1]),
}

if __name__ == "__main__":
    codes = {}
    for kernel, arguments in KERNELS.items():
        codes[kernel.py_func.__name__], _ = cuda.compile_ptx(kernel.py_func, arguments, cc=CAPABILITY)
    print(json.dumps(codes))
