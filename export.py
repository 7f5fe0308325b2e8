"""A model in another form: `python export.py MODEL --to c`, or the form of a suffix, `--out part.glsl`."""

from neuralparts.commands import run
from neuralparts.commands.export import main

if __name__ == "__main__":
    run(main)
