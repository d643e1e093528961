"""Levels of additive noise in 8-bit units, as a recipe names them."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kdgen.types import UserError, text
from kdgen.types.arguments import Sigma

USUAL_SIGMAS = (15.0, 25.0, 50.0)
"""Levels that papers report."""


NoiseRange = Annotated[
    Sigma | Annotated[Sequence[Sigma], Field(min_length=2, max_length=2)],
    Field(description=text("noise_range", "a number from 0 to 100, or [low, high] of such")),
]
NoiseLevels = Annotated[
    Sequence[Sigma],
    Field(min_length=1, description=text("noise_levels", "a list of at least one noise level from 0 to 100")),
]


def noise_range(sigma: NoiseRange) -> tuple[float, float]:
    """The lowest and the highest level of a number or of ``[low, high]``.

    Raises:
        UserError: for a range that falls.
    """
    low, high = sigma if isinstance(sigma, Sequence) else (sigma, sigma)
    if low > high:
        raise UserError(text("no_noise_levels", "sigma is a number from 0 to 100, or [low, high] of such, not {given}",
                             given=repr(sigma)))  # fmt: skip
    return float(low), float(high)


def evaluation_levels(low: float, high: float, given: NoiseLevels | None) -> tuple[float, ...]:
    """The levels to evaluate at: those given, or the usual ones from ``low`` to ``high``, or else its upper end."""
    if given is not None:
        return tuple(map(float, given))
    usual = () if low == high else tuple(sigma for sigma in USUAL_SIGMAS if low <= sigma <= high)
    return usual or (high,)
