"""A model in the forms that other tools take: one file a form."""

from neuralparts.export.forms import export_model, form_of
from neuralparts.export.mujoco import build_command

__all__ = ["build_command", "export_model", "form_of"]
