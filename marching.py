"""A model's zero level as a mesh, alone: `python marching.py MODEL --reconstructionRes 1024 --output part.stl`."""

from neuralparts.commands import run
from neuralparts.commands.march import main

if __name__ == "__main__":
    run(main)
