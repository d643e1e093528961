"""How somebody sees images, whoever else sees them otherwise."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged, make_damages, told_after, told_smaller
from kdgen.registry import Spec
from kdgen.types import Text, text
from kdgen.utils.seed import generator


class View(Damage):
    """How images are seen, and what another view would tell of them, had it left them as they are.

    Args:
        damage: what they are seen through; None shows them as they are.
        others: damages whose conditions are told too, as of images that they left as they are.
    """

    def __init__(self, damage: Damage | None, others: Damage | None = None) -> None:
        self.damage, self.others = damage, others
        self.damages = () if damage is None else (damage,)
        self.scale, self.keeps, self.reads = 1, True, False
        if damage is not None:
            self.scale, self.keeps, self.reads = damage.scale, damage.keeps, damage.reads

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        seen, told = (images, {}) if self.damage is None else self.damage(images, random, share)
        return seen, {**(self.others.nothing(seen) if self.others else {}), **told}

    def after(self, cond: Mapping[str, Tensor], seen: Damaged) -> Damaged:
        """Images as it sees them, with their conditions: by those of the images before, and what it tells itself."""
        x, told = seen
        return x, told_after(told_smaller(cond, self.scale), told)

    def each(self, images: Tensor, seed: int) -> Damaged:
        """Images ``(B, C, H, W)`` on any device, each seen by its own content and the seed alone, whoever looks."""
        seen = [self(image, generator(seed, "seen", _content(image))) for image in torch.split(images.cpu(), 1)]
        told = {key: torch.cat([cond[key] for _, cond in seen]).to(images.device) for key in seen[0][1]}
        return torch.cat([image for image, _ in seen]).to(images.device), told

    def num_channels(self, given: int) -> int:
        """See the base."""
        return given if self.damage is None else self.damage.num_channels(given)


def view_of(facts: Mapping[str, Any]) -> tuple[View, Text | None]:
    """How a model sees images, by what it says of its task; and that in words, None for as they are."""
    damages = make_damages(facts.get("view") or ())
    return (View(damages), in_words(damages.specs)) if damages.specs else (View(None), None)


def in_words(specs: Sequence[Spec]) -> Text:
    """What images are seen through."""
    if not specs:
        return text("as_they_are", "as they are")
    return text(
        "through_damages", "through {names:, }", names=[str(spec) if spec.args else spec.name for spec in specs]
    )


def _content(image: Tensor) -> int:
    return zlib.crc32(image.contiguous().numpy().tobytes())
