"""What damages images, one file a kind: each is seeded, and has a range for how strong it is."""

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_same_channels, make_damages
from kdgen.registry import import_modules

__all__ = ["Amount", "Damage", "Damaged", "amounts", "check_same_channels", "make_damages"]

import_modules(__name__, __path__)
