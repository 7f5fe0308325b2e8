"""The error of this stage."""

from neuralparts.errors import UserError


class MeshError(UserError):
    """A mesh file that cannot be used. The message is one line: which file, what is wrong, what to do."""
