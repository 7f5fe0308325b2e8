"""What a model file holds, and its values at given points: `python network.py MODEL [--points FILE]`.

In a checkout, `from network import NeuralSDF` is the same as `from neuralparts import NeuralSDF`.
"""

from neuralparts import NeuralSDF
from neuralparts.commands import run
from neuralparts.commands.info import main

__all__ = ["NeuralSDF"]

if __name__ == "__main__":
    run(main)
