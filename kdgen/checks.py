"""Arguments refused in one line: ``WHAT: ARGUMENT is ..., not VALUE``."""

from kdgen.types import UserError

LARGEST_SIGMA = 100.0
"""Largest standard deviation of noise, in 8-bit units."""


def check_choice(what: str, argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        UserError: with the choices.
    """
    if value not in choices:
        raise UserError(f"{what}: {argument} is one of {', '.join(choices)}, not {value!r}")


def check_number(what: str, argument: str, value: object, low: float, high: float = float("inf")) -> None:
    """Refuse what is not a number in [low, high].

    Raises:
        UserError: with the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        limits = f"of at least {low:g}" if high == float("inf") else f"in [{low:g}, {high:g}]"
        raise UserError(f"{what}: {argument} is a number {limits}, not {value!r}")


def check_count(what: str, argument: str, value: object, least: int = 1) -> None:
    """Refuse what is not a whole number of at least ``least``.

    Raises:
        UserError: naming the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{what}: {argument} is a whole number of at least {least}, not {value!r}")


def check_sigma(what: str, value: object) -> None:
    """Refuse what is no standard deviation of noise in 8-bit units: a finite number from 0 to ``LARGEST_SIGMA``.

    Raises:
        UserError: with the range.
    """
    check_number(what, "sigma", value, 0, LARGEST_SIGMA)
