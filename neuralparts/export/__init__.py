"""A model in the forms that other tools take: one file a form."""

from neuralparts.export.forms import export_model, form_of
from neuralparts.export.glsl import CompactShader, compact_shader
from neuralparts.export.mujoco import build_command

__all__ = ["CompactShader", "build_command", "compact_shader", "export_model", "form_of"]
