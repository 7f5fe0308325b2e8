"""What a model file holds, and its values at given points: `python network.py MODEL [--points FILE]`.

In a checkout, `from network import NeuralSDF` is the same as `from neuralparts import NeuralSDF`.
"""

import neuralparts
from neuralparts.commands import run
from neuralparts.commands.info import main


def __getattr__(name: str) -> object:
    """`NeuralSDF`, imported only when it is asked for, so that `--help` does not wait for torch."""
    if name == "NeuralSDF":
        return neuralparts.NeuralSDF
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    run(main)
