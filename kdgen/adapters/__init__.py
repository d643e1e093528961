"""Foreign nets made into kdgen's: a declared checkpoint, or a module at hand."""

from kdgen.adapters.checkpoint import load_checkpoint, probe_checkpoint
from kdgen.adapters.module import Foreign, from_module

__all__ = ["Foreign", "from_module", "load_checkpoint", "probe_checkpoint"]
