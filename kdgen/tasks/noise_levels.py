"""Levels of additive noise in 8-bit units, as a recipe names them."""

import math
from collections.abc import Sequence

from kdgen.types import UserError
from kdgen.utils.validation import LARGEST_SIGMA

USUAL_SIGMAS = (15.0, 25.0, 50.0)
"""Levels that papers report."""


def noise_range(sigma: float | Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest level of a number or of ``[low, high]``, from 0 to 100.

    Raises:
        UserError: for anything else.
    """
    levels = list(sigma) if isinstance(sigma, Sequence) and not isinstance(sigma, str) else [sigma, sigma]
    numbers = all(isinstance(s, int | float) and not isinstance(s, bool) and math.isfinite(s) for s in levels)
    if len(levels) != 2 or not numbers or not 0 <= levels[0] <= levels[1] <= LARGEST_SIGMA:
        raise UserError(f"sigma is a number from 0 to 100, or [low, high] of such, not {sigma!r}")
    return float(levels[0]), float(levels[1])


def evaluation_levels(low: float, high: float, given: Sequence[float] | None) -> tuple[float, ...]:
    """The levels to evaluate at: those given, or the usual ones from ``low`` to ``high``, or else its upper end.

    Raises:
        UserError: for a level that is none, and for no level at all.
    """
    if given is not None:
        if not given:
            raise UserError("evaluate_sigmas holds no noise level: give at least one")
        return tuple(noise_range(sigma)[0] for sigma in given)
    usual = () if low == high else tuple(sigma for sigma in USUAL_SIGMAS if low <= sigma <= high)
    return usual or (high,)
