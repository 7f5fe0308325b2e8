"""The errors of a model against a mesh, alone: `python metrics.py MODEL MESH`."""

from neuralparts.commands import run
from neuralparts.commands.measure import main

if __name__ == "__main__":
    run(main)
