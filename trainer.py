"""Fit a small network to the signed distance of a mesh, march its zero level, and say how well it fits.

    python trainer.py INPUT [flags]

The way of one part is `fit_part` in neuralparts/part.py:

    load         mesh file -> Mesh, DistanceOracle         neuralparts/mesh_files, mesh, distance
    label        -> points (N, 3), sdf (N,)                neuralparts/sampling
    fit          -> NeuralSDF                              neuralparts/network, fitting
    reconstruct  -> the closed mesh of its zero level      neuralparts/marching
    evaluate     -> errors on points never trained on      neuralparts/metrics
    write        -> model, mesh, page, record              neuralparts/report, output

A folder goes the same way part by part (neuralparts/fleet). The flags are in neuralparts/flags.py.
"""

from neuralparts.commands import run
from neuralparts.commands.fit import main

if __name__ == "__main__":
    run(main)
