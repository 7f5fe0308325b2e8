"""`python -m neuralparts VERB ...`, the same as the installed program."""

from neuralparts.commands import run

if __name__ == "__main__":
    run()
