"""kdgen's own nets, one family a file, registered by name; and what is done to nets: folding, inheriting weights."""

from kdgen.registry import import_modules

import_modules(__name__, __path__)
