"""Foreign nets made into kdgen's: those of diffusers, a declared checkpoint, or a module at hand."""

from kdgen.models.adapters.autoencoders import autoencoder_kl, autoencoder_tiny
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.adapters.diffusion_pipeline import unet2d
from kdgen.models.adapters.module import HALVES, Foreign, Half, from_module
from kdgen.models.adapters.pretrained import known_folder, open_folder
from kdgen.registry import import_modules

__all__ = [
    "HALVES",
    "Foreign",
    "Half",
    "autoencoder_kl",
    "autoencoder_tiny",
    "from_module",
    "known_folder",
    "load_checkpoint",
    "open_folder",
    "unet2d",
]

import_modules(__name__, __path__)
