"""All that a recipe can name, imported to be registered."""

from kdgen import data, methods, objectives, presets, tasks
from kdgen.models import adapters, nets
from kdgen.training import loss_weighting

__all__ = ["adapters", "data", "loss_weighting", "methods", "nets", "objectives", "presets", "tasks"]
