"""Foreign nets made into kdgen's: those of diffusers, a declared checkpoint, or a module at hand."""

from kdgen.models.adapters.adapter import known_folder, open_folder, parts
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.adapters.module import HALVES, Foreign, Half, from_module
from kdgen.registry import import_modules

__all__ = ["HALVES", "Foreign", "Half", "from_module", "known_folder", "load_checkpoint", "open_folder", "parts"]

import_modules(__name__, __path__)
