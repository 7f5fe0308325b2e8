"""Labelled points of a mesh, alone: `python sampling.py MESH --num_points 1000000 --out samples.npz`."""

from neuralparts.commands import run
from neuralparts.commands.sample import main

if __name__ == "__main__":
    run(main)
