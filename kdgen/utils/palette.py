"""Colours of classes, to be told apart by everybody, and their names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

FIRST = (64, 70, 80)
"""Of the first class, in 8 bits: most often the background."""

COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
"""Of the others, in 8 bits: Okabe and Ito 2008, "Color Universal Design", less its black."""

STRONGEST = 0.85
"""How near white or black a later round of the same colours comes."""


def palette(num_classes: int) -> Tensor:
    """A colour for each class, ``(K, 3)`` in [0, 1], no two of up to 255 the same in 8 bits and none black.

    The first class is a quiet grey. The others are seven colours that are told apart with any kind of colour vision,
    then the same ones again, darker and lighter in turn.
    """
    base = torch.tensor(COLOURS) / 255
    rounds = [torch.tensor([FIRST]) / 255]
    for number in range(-(-(num_classes - 1) // len(COLOURS))):
        tone = STRONGEST * (2 * _halved(number + 1) - 1)
        rounds.append(base * (1 + tone) if tone <= 0 else base + (1 - base) * tone)
    return torch.cat(rounds)[:num_classes]


def class_names(facts: Mapping[str, Any], count: int) -> list[str]:
    """The names of so many classes: those that a model or a task says of them, else their numbers."""
    named = [str(name) for name in facts.get("names") or ()]
    return [named[number] if number < len(named) and named[number] else str(number) for number in range(count)]


def _halved(number: int) -> float:
    """The radical inverse in base 2 of a number above 0, in (0, 1): 1/2, 1/4, 3/4, 1/8, ..."""
    share, inverse = 0.5, 0.0
    while number:
        inverse += share * (number % 2)
        number, share = number // 2, share / 2
    return inverse


__all__ = ["class_names", "palette"]
